//! What it costs that a link survives: `cargo bench --bench link_survival`.
//!
//! ```text
//!  load → relay ◂── a cable that is cut, slow or long ── agent → upstream
//! ```
//!
//! Relay and agent are programs of their own; load, cable and upstream are in this one. A figure never comes from an
//! error: a wrong status, a wrong length or a broken connection ends the run with a failure. `docs/performance.md`
//! has the figures and tells how to read them.
//!
//! `BENCH_MODE=short` is for smoke, not for quoting; `BENCH_PART=fairness` measures that alone; `RELAY_BINARY` and `AGENT_BINARY` measure other programs.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench speaks on its standard output, and of its progress on standard error"
)]

mod bulk;
#[path = "../../tests/it/harness/cable.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests' own, which need more of it and may unwrap"
)]
mod cable;
mod caller;
#[path = "../relayed_calls/connections.rs"]
mod connections;
mod endless;
#[path = "../relayed_calls/failure.rs"]
mod failure;
mod fairness;
#[path = "../relayed_calls/process.rs"]
#[expect(dead_code, reason = "the other bench needs more of it")]
mod process;
#[expect(dead_code, reason = "the training load needs more of it")]
mod relayed;
mod resumed;
mod session_cost;
mod spread;
mod upstream;

use std::process::ExitCode;
use std::time::Duration;

use crate::failure::Failure;
use crate::relayed::Relayed;

/// How long and how often to measure.
struct Settings {
    cuts: u32,
    /// What is carried while the link is cut each second: some seconds' worth.
    cut_bytes: u64,
    bulk_bytes: u64,
    rounds: u32,
    seconds: Duration,
    session_bytes: u64,
}

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches as well, without this argument: minutes of load are not a test.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("skip link_survival: it measures only under `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match measure(&settings()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn settings() -> Settings {
    let is_short = std::env::var("BENCH_MODE").is_ok_and(|mode| mode == "short");
    Settings {
        cuts: if is_short { 3 } else { 40 },
        cut_bytes: if is_short { 1 << 30 } else { 1 << 32 },
        bulk_bytes: if is_short { 1 << 26 } else { 1 << 30 },
        rounds: if is_short { 1 } else { 3 },
        seconds: Duration::from_secs(if is_short { 1 } else { 8 }),
        session_bytes: if is_short { 1 << 26 } else { 1 << 32 },
    }
}

fn measure(settings: &Settings) -> Result<(), Failure> {
    let is_whole = std::env::var("BENCH_PART").map_or(true, |part| part != "fairness");
    println!("| what | measured | goal |");
    println!("|---|---|---|");
    if is_whole {
        session_cost::measure(settings.session_bytes)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::because("start the load"))?;
    let relayed = Relayed::start()?;
    let measured = runtime.block_on(async {
        if is_whole {
            resumed::measure(&relayed, settings.cuts).await?;
            bulk::with_cuts(&relayed, settings.cut_bytes, settings.rounds).await?;
            bulk::over_a_long_path(&relayed, settings.bulk_bytes / 4, settings.rounds).await?;
        }
        fairness::beside_bulk(&relayed, settings.seconds).await?;
        fairness::beside_a_stalled_reader(&relayed, settings.seconds).await
    });
    if measured.is_err() {
        relayed.print_log_tails();
    }
    measured
}

/// One row of the table.
fn row(what: &str, measured: &str, goal: &str) {
    println!("| {what} | {measured} | {goal} |");
}
