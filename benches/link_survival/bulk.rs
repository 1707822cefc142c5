//! Long bodies while the link is cut, and over a long path.

use std::time::Duration;

use crate::cable::{Cable, Cut};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::relayed::Relayed;
use crate::row;
use crate::spread::median;

const CUT_EVERY: Duration = Duration::from_secs(1);
/// One way; a round trip is twice as long.
const DELAY: Duration = Duration::from_millis(25);
/// What the long path carries, 400 Mbit/s, so that it and not this machine is what limits.
const RATE: u64 = 50_000_000;

/// Which way.
#[derive(Debug, Clone, Copy)]
enum Way {
    Down,
    Up,
}

impl Way {
    const BOTH: [(Self, &str); 2] = [(Self::Down, "down"), (Self::Up, "up")];

    async fn carry(self, caller: &mut Caller, bytes: u64) -> Result<f64, Failure> {
        match self {
            Self::Down => caller.download(bytes).await,
            Self::Up => caller.upload(bytes).await,
        }
    }
}

/// With a cut each second beside none, in turns.
pub(crate) async fn with_cuts(relayed: &Relayed, bytes: u64, rounds: u32) -> Result<(), Failure> {
    let mut caller = relayed.caller().await?;
    for (way, word) in Way::BOTH {
        let (mut without, mut with, mut cuts) = (Vec::new(), Vec::new(), 0);
        let mut carried = 0;
        for _ in 0..rounds {
            without.push(way.carry(&mut caller, bytes).await?);
            // A machine may be so fast that no cut falls into so little.
            let before = cuts;
            let mut bytes = bytes;
            let cut = loop {
                let cut = tokio::select! {
                    carried = way.carry(&mut caller, bytes) => carried?,
                    never = cut_again_and_again(&relayed.cable, &mut cuts) => match never {},
                };
                if cuts > before {
                    break cut;
                }
                bytes *= 2;
            };
            carried += bytes;
            with.push(cut);
        }
        let gibibytes = carried >> 30;
        let what = format!("bulk {word}, {gibibytes} GiB with {cuts} cuts beside none");
        compare(&what, with, without, "");
    }
    Ok(())
}

/// Through the link beside one TCP connection of the same path.
pub(crate) async fn over_a_long_path(
    relayed: &Relayed,
    bytes: u64,
    rounds: u32,
) -> Result<(), Failure> {
    for cable in [&relayed.cable, &relayed.beside] {
        cable.set_delay(DELAY);
        cable.set_rate(Some(RATE));
    }
    let mut caller = relayed.caller().await?;
    let mut beside = relayed.caller_beside().await?;
    for (way, word) in Way::BOTH {
        let (mut by_link, mut by_tcp) = (Vec::new(), Vec::new());
        // The path has just become long, and what senders know of it is of before.
        way.carry(&mut caller, bytes).await?;
        way.carry(&mut beside, bytes).await?;
        for _ in 0..rounds {
            by_link.push(way.carry(&mut caller, bytes).await?);
            by_tcp.push(way.carry(&mut beside, bytes).await?);
        }
        let what = format!("bulk {word}, round trip 50 ms, beside one TCP connection there");
        compare(&what, by_link, by_tcp, "90 %");
    }
    for cable in [&relayed.cable, &relayed.beside] {
        cable.set_delay(Duration::ZERO);
        cable.set_rate(None);
    }
    Ok(())
}

fn compare(what: &str, measured: Vec<f64>, beside: Vec<f64>, goal: &str) {
    let (measured, beside) = (median(measured), median(beside));
    let megabytes = |rate: f64| rate / 1e6;
    let text = format!(
        "{:.0} MB/s beside {:.0} MB/s: {:.0} %",
        megabytes(measured),
        megabytes(beside),
        100.0 * measured / beside
    );
    row(what, &text, goal);
}

async fn cut_again_and_again(cable: &Cable, cuts: &mut u32) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(CUT_EVERY).await;
        cable.cut(Cut::Reset);
        *cuts += 1;
    }
}
