//! From the cut of a link to calls that pass again.

use std::time::{Duration, Instant};

use crate::cable::Cut;
use crate::failure::Failure;
use crate::relayed::Relayed;
use crate::row;
use crate::spread::Spread;

/// Between two cuts, so that each finds a link that is used.
const PAUSE: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// Cuts the link so often while a caller calls.
pub(crate) async fn measure(relayed: &Relayed, cuts: u32) -> Result<(), Failure> {
    let mut caller = relayed.caller().await?;
    let mut times = Vec::new();
    for number in 0..cuts {
        caller.small().await?;
        let before = relayed.cable.connections();
        let cut = Instant::now();
        let how = if number % 2 == 0 {
            Cut::Reset
        } else {
            Cut::Finish
        };
        relayed.cable.cut(how);
        // This one may still have slipped through; the next goes over the new link.
        caller.small().await?;
        while relayed.cable.connections() == before {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        caller.small().await?;
        times.push(cut.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    let spread = Spread::of(times);
    row(
        "link cut to calls that pass again, loopback",
        &spread.to_string(),
        "300 ms",
    );
    Ok(())
}
