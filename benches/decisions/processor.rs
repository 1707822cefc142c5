//! The time of the processor that this program has taken, all its threads together. Other programs disturb it little,
//! unlike that of a clock.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::failure::Failure;

/// Since the start.
pub(crate) fn time() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(Failure::because("read the time"))?;
    let user = usage.user_time().num_microseconds();
    let microseconds = user + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(microseconds.unsigned_abs()))
}
