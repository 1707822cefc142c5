//! Small calls while others take all that the link has, or nothing of what was sent to them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::caller::Caller;
use crate::endless::{Direction, Endless};
use crate::failure::Failure;
use crate::relayed::{LINKED, Relayed};
use crate::row;
use crate::spread::Spread;

/// More than anybody reads.
const ENDLESS: u64 = 1 << 50;
const CALLERS: u32 = 99;
/// A company's line: 200 Mbit/s, 20 ms there and back.
const LINE_RATE: u64 = 25_000_000;
const LINE_DELAY: Duration = Duration::from_millis(10);

/// One caller's small calls alone, then beside a download, then beside an upload, which never end: without relay and agent
/// on the way, which shows what the machine makes of it, and with them.
pub(crate) async fn beside_bulk(relayed: &Relayed, long: Duration) -> Result<(), Failure> {
    let straight = Way {
        name: "loopback, without relay and agent",
        caller: relayed.caller_beside().await?,
        address: relayed.beside.address(),
        prefix: "",
        goal: "",
    };
    straight.measure(relayed, long).await?;
    for (name, is_line) in [("loopback", false), ("200 Mbit/s and 20 ms", true)] {
        if is_line {
            relayed.cable.set_delay(LINE_DELAY);
            relayed.cable.set_rate(Some(LINE_RATE));
        }
        let by_link = Way {
            name,
            caller: relayed.caller().await?,
            address: relayed.callers(),
            prefix: LINKED,
            goal: "p99 3 times",
        };
        by_link.measure(relayed, long).await?;
        relayed.cable.set_delay(Duration::ZERO);
        relayed.cable.set_rate(None);
    }
    Ok(())
}

/// By which way small calls and transfers go.
struct Way {
    name: &'static str,
    caller: Caller,
    address: SocketAddr,
    prefix: &'static str,
    goal: &'static str,
}

impl Way {
    async fn measure(mut self, relayed: &Relayed, long: Duration) -> Result<(), Failure> {
        let name = self.name;
        let alone = Spread::of(self.caller.small_calls(long).await?);
        row(
            &format!("small calls alone, {name}"),
            &alone.to_string(),
            "",
        );
        for (direction, word) in [(Direction::Down, "download"), (Direction::Up, "upload")] {
            let bulk = Endless::begin(direction, self.address, self.prefix, relayed.token())?;
            // Until it has filled what it can.
            self.caller.small_calls(long / 4).await?;
            let beside = Spread::of(self.caller.small_calls(long).await?);
            let carried = bulk.end()? / 1e6;
            let measured = compared(&beside, &alone);
            row(
                &format!("small calls beside an endless {word} ({carried:.0} MB/s), {name}"),
                &measured,
                self.goal,
            );
        }
        Ok(())
    }
}

/// Ninety-nine callers' small calls, without and with one more caller that reads nothing of what it asked for.
pub(crate) async fn beside_a_stalled_reader(
    relayed: &Relayed,
    long: Duration,
) -> Result<(), Failure> {
    let alone = many(relayed, long).await?;
    row(
        "small calls of 99 callers, loopback",
        &alone.to_string(),
        "",
    );
    let mut stalled = relayed.caller().await?;
    let unread = stalled.unread(ENDLESS).await?;
    let beside = many(relayed, long).await?;
    drop(unread);
    let what = "small calls of 99 callers beside one that reads nothing, loopback";
    row(what, &compared(&beside, &alone), "as without");
    Ok(())
}

async fn many(relayed: &Relayed, long: Duration) -> Result<Spread, Failure> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut caller = relayed.caller().await?;
        callers.spawn(async move { caller.small_calls(long).await });
    }
    let mut times = Vec::new();
    while let Some(ended) = callers.join_next().await {
        times.extend(ended.map_err(Failure::because("call"))??);
    }
    Ok(Spread::of(times))
}

fn compared(beside: &Spread, alone: &Spread) -> String {
    let ratio = |part| beside.quantile(part).as_secs_f64() / alone.quantile(part).as_secs_f64();
    format!(
        "{beside}: median {:.1} times, p99 {:.1} times",
        ratio(0.5),
        ratio(0.99)
    )
}
