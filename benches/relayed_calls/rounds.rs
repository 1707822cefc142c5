//! The measurements, alternating between the systems.

use crate::failure::Failure;
use crate::settings::Settings;
use crate::table::{Better, Table};
use crate::target::Target;
use crate::transfer;
use crate::wrk::{self, Load};

/// A kind of small-call load: its words in the table, the load, and the first goals (CPU, calls a second, median
/// latency, as ratios to the chain) where there are any.
pub(crate) struct Case {
    pub(crate) words: &'static str,
    pub(crate) load: Load,
    goals: [Option<f64>; 3],
}

pub(crate) const CASES: [Case; 4] = [
    Case {
        words: "1 caller",
        load: Load {
            callers: 1,
            new_connections: false,
        },
        goals: [Some(1.5), None, Some(1.3)],
    },
    Case {
        words: "16 callers",
        load: Load {
            callers: 16,
            new_connections: false,
        },
        goals: [Some(1.0), None, None],
    },
    Case {
        words: "128 callers",
        load: Load {
            callers: 128,
            new_connections: false,
        },
        goals: [Some(0.9), Some(1.0), None],
    },
    // Four callers: enough that neither end sleeps between calls, few enough that ports in TIME_WAIT do not run out.
    Case {
        words: "a new connection for each call, 4 callers",
        load: Load {
            callers: 4,
            new_connections: true,
        },
        goals: [Some(1.0), None, None],
    },
];

/// The first goal for the processor time of a transfer, both ways.
const TRANSFER_GOAL: f64 = 1.1;

/// Runs all rounds. Every other round begins with the other system, so that neither always comes first.
pub(crate) fn run(
    settings: &Settings,
    targets: &[&Target],
    table: &mut Table,
) -> Result<(), Failure> {
    let scratch = tempfile::tempdir().map_err(Failure::because("make a temporary directory"))?;
    for target in targets {
        wrk::check_answer(target)?;
        // Opens the connections that will be kept alive, and warms caches.
        wrk::run(scratch.path(), target, CASES[2].load, 1)?;
    }
    for round in 0..settings.rounds {
        eprintln!("round {} of {}", round + 1, settings.rounds);
        let mut order: Vec<&Target> = targets.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for case in &CASES {
            for target in &order {
                let calls = wrk::run(scratch.path(), target, case.load, settings.seconds)?;
                let [processor, per_second, latency] = case.goals;
                let row = |figure: &str| format!("{figure}, {}", case.words);
                let mut add = |figure, unit, better, goal, value| {
                    table.compare(&row(figure), unit, better, goal, target.name, value);
                };
                add(
                    "CPU of both ends per 1 KiB call",
                    "µs",
                    Better::Less,
                    processor,
                    calls.processor_micros,
                );
                add(
                    "calls a second",
                    "/s",
                    Better::More,
                    per_second,
                    calls.per_second,
                );
                add(
                    "median latency",
                    "µs",
                    Better::Less,
                    latency,
                    calls.median_micros,
                );
                add(
                    "99th percentile",
                    "µs",
                    Better::Less,
                    None,
                    calls.slow_micros,
                );
            }
        }
        for (words, transfer) in [
            ("down", transfer::download as fn(&Target, u64) -> _),
            ("up", transfer::upload),
        ] {
            for target in &order {
                let figures = transfer(target, settings.download_bytes)?;
                let cpu = figures.processor_seconds_per_gib;
                table.compare(
                    &format!("CPU per GiB {words}"),
                    "s",
                    Better::Less,
                    Some(TRANSFER_GOAL),
                    target.name,
                    cpu,
                );
                table.compare(
                    &format!("speed {words}"),
                    "MiB/s",
                    Better::More,
                    None,
                    target.name,
                    figures.mib_per_second,
                );
            }
        }
        // An answer that went wrong under load and stayed wrong must not pass for speed.
        for target in targets {
            wrk::check_answer(target)?;
        }
    }
    Ok(())
}
