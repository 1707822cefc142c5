//! What it costs to decide about a call and to write it down: `cargo bench --bench decisions`.
//!
//! The rules alone, and rules with the line of the audit log as the product writes it: sealed, in a real file, before
//! the answer ends. `docs/performance.md` has the figures and tells how to read them.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench speaks on its standard output, and of its failures on standard error"
)]

mod audited;
#[path = "../relayed_calls/failure.rs"]
mod failure;
mod processor;
mod rule_sets;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use relay_agent::agent::policy::decide;

use crate::audited::Audited;
use crate::failure::Failure;
use crate::rule_sets::{Case, Conditions, Place};

/// Sizes of a small, an ordinary and a very large configuration of one upstream.
const RULES: [usize; 3] = [1, 20, 200];
/// How long the decisions of one case are counted, by the clock. The least of several such counts is taken, which other
/// programs disturb least.
const COUNTED_FOR: Duration = Duration::from_millis(40);
const TIMES: usize = 5;
/// Looks at the clock cost as much as a decision: one for so many.
const BETWEEN_LOOKS: u32 = 64;
/// What a whole relayed call takes of both ends' processor time, with 16 callers: `docs/performance.md`.
const WHOLE_CALL: Duration = Duration::from_micros(69);

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches as well, without this argument: minutes of load are not a test.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("skip decisions: it measures only under `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("decisions: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Failure> {
    let audited = Audited::new()?;
    println!(
        "| rules | which matches | conditions | decision | of a call | with the audit line | of a call |"
    );
    println!("|---|---|---|---|---|---|---|");
    for conditions in Conditions::ALL {
        for rules in RULES {
            for place in Place::ALL {
                let case = Case::new(rules, conditions, place)?;
                let decision = decision(&case)?;
                let whole = audited.measure(&case)?;
                println!(
                    "| {rules} | {place} | {conditions} | {} | {} | {} | {} |",
                    shown(decision),
                    share(decision),
                    shown(whole),
                    share(whole)
                );
            }
        }
    }
    Ok(())
}

/// What one decision takes of the processor.
fn decision(case: &Case) -> Result<Duration, Failure> {
    case.check()?;
    let mut least = Duration::MAX;
    for _ in 0..TIMES {
        let (begun, before) = (Instant::now(), processor::time()?);
        let mut decisions = 0;
        while begun.elapsed() < COUNTED_FOR {
            for _ in 0..BETWEEN_LOOKS {
                // A body is read anew for each call.
                let body = case.body();
                drop(black_box(decide(
                    black_box(&case.policy),
                    &case.asked(&body),
                )));
            }
            decisions += BETWEEN_LOOKS;
        }
        least = least.min((processor::time()? - before) / decisions);
    }
    Ok(least)
}

fn shown(time: Duration) -> String {
    format!("{:.2} µs", time.as_secs_f64() * 1e6)
}

fn share(time: Duration) -> String {
    format!(
        "{:.1} %",
        100.0 * time.as_secs_f64() / WHOLE_CALL.as_secs_f64()
    )
}
