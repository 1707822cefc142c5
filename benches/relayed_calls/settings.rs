//! How long and how often to measure, from the environment.

use std::env;
use std::path::PathBuf;
use std::str::FromStr;

use crate::failure::Failure;

const GIBIBYTE: u64 = 1 << 30;

/// What one run does.
pub(crate) struct Settings {
    /// Measurements of each case and system; the table gives the medians.
    pub(crate) rounds: u32,
    /// Length of each small-calls measurement. CPU clocks tick at 10 ms: four seconds make that 1 % at worst.
    pub(crate) seconds: u32,
    /// Size of each bulk transfer.
    pub(crate) large_bytes: u64,
    /// Idle links that the relay holds when its memory per link is measured.
    pub(crate) idle_links: u32,
    /// Starts of the agent, for the median time from start to link.
    pub(crate) starts: u32,
    /// Profile relay and agent instead, and leave the profiles in this folder.
    pub(crate) profile: Option<PathBuf>,
    /// Measure the yardstick only, to see whether a machine is fit to be measured on.
    pub(crate) chain_alone: bool,
    /// Says in the table's heading that the figures are for smoke, not for quoting.
    pub(crate) short: bool,
}

impl Settings {
    /// `BENCH_MODE` is `full` (default) or `short`; `BENCH_ROUNDS`, `BENCH_SECONDS` and `BENCH_IDLE_LINKS`
    /// override single numbers; `BENCH_CHAIN_ALONE=1` leaves relay and agent out; `BENCH_PROFILE=FOLDER`
    /// profiles them with perf and strace.
    pub(crate) fn from_environment() -> Result<Self, Failure> {
        let short = match env::var("BENCH_MODE").as_deref() {
            Ok("short") => true,
            Ok("full") | Err(env::VarError::NotPresent) => false,
            _ => return Err(Failure::new("BENCH_MODE must be `short` or `full`")),
        };
        Ok(Self {
            rounds: number("BENCH_ROUNDS", if short { 1 } else { 5 })?,
            seconds: number("BENCH_SECONDS", if short { 1 } else { 4 })?,
            large_bytes: if short { GIBIBYTE / 16 } else { GIBIBYTE },
            idle_links: number("BENCH_IDLE_LINKS", if short { 10 } else { 200 })?,
            starts: if short { 3 } else { 9 },
            chain_alone: env::var_os("BENCH_CHAIN_ALONE").is_some_and(|value| value == "1"),
            profile: env::var_os("BENCH_PROFILE").map(PathBuf::from),
            short,
        })
    }
}

fn number<T: FromStr + PartialOrd + From<u8>>(name: &str, default: T) -> Result<T, Failure> {
    let Ok(text) = env::var(name) else {
        return Ok(default);
    };
    match text.parse::<T>() {
        Ok(value) if value >= T::from(1) => Ok(value),
        _ => Err(Failure::new(format!(
            "{name} must be a whole number, 1 or more"
        ))),
    }
}
