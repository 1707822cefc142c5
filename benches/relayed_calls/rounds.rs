//! The measurements, alternating between the systems.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::failure::Failure;
use crate::settings::Settings;
use crate::table::{Row, Table};
use crate::target::Target;
use crate::transfer::{self, Direction};
use crate::wrk::{self, Load, SmallCalls};

/// A kind of small-call load: its words in the table, the load, and the first goals (CPU, calls a second, median
/// latency, as ratios to the chain) where there are any.
pub(crate) struct Case {
    pub(crate) words: &'static str,
    pub(crate) load: Load,
    goals: [Option<f64>; 3],
}

/// Enough callers that neither end sleeps between calls.
const SOME_CALLERS: Load = Load {
    callers: 16,
    new_connections: false,
};
/// More callers than either end serves at once: what can be done for many together shows here.
const MANY_CALLERS: Load = Load {
    callers: 128,
    new_connections: false,
};

/// The small calls of the table.
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
        load: SOME_CALLERS,
        goals: [Some(1.0), None, None],
    },
    Case {
        words: "128 callers",
        load: MANY_CALLERS,
        goals: [Some(0.9), Some(1.0), None],
    },
    Case {
        words: "a new connection for each call, 16 callers",
        load: Load {
            callers: 16,
            new_connections: true,
        },
        goals: [Some(1.0), None, None],
    },
];

/// The first goal for the processor time of a transfer, both ways.
const TRANSFER_GOAL: Option<f64> = Some(1.1);

/// Runs all rounds. Every other round begins with the other system, so that neither always comes first.
pub(crate) fn run(
    settings: &Settings,
    targets: &[&Target],
    table: &mut Table,
) -> Result<(), Failure> {
    let scratch = tempfile::tempdir().map_err(Failure::because("make a temporary directory"))?;
    let scratch = scratch.path();
    for target in targets {
        wrk::check_answer(target)?;
        // Opens the connections that will be kept alive, and warms caches.
        wrk::run(scratch, target, MANY_CALLERS, 1)?;
    }
    for round in 0..settings.rounds {
        eprintln!("round {} of {}", round + 1, settings.rounds);
        let mut order: Vec<&Target> = targets.to_vec();
        if round % 2 == 1 {
            order.reverse();
        }
        for case in &CASES {
            for target in &order {
                let calls = wrk::run(scratch, target, case.load, settings.seconds)?;
                case.add(target.name, &calls, table);
            }
        }
        for target in &order {
            let calls = beside_a_download(scratch, target, settings)?;
            let row = Row::less("99th percentile, 16 callers beside a download", "µs", None);
            table.compare(row, target.name, calls.slow_micros);
        }
        for direction in [Direction::Down, Direction::Up] {
            for target in &order {
                let transfer = transfer::run(target, direction, settings.large_bytes)?;
                let row = Row::less(&format!("CPU per GiB {direction}"), "s", TRANSFER_GOAL);
                table.compare(row, target.name, transfer.processor_seconds_per_gib);
                let row = Row::more(&format!("speed {direction}"), "MiB/s", None);
                table.compare(row, target.name, transfer.mib_per_second);
            }
        }
        // An answer that went wrong under load and stayed wrong must not pass for speed.
        for target in targets {
            wrk::check_answer(target)?;
        }
    }
    Ok(())
}

impl Case {
    /// Adds what this case cost to its rows.
    fn add(&self, system: &'static str, calls: &SmallCalls, table: &mut Table) {
        let [processor, per_second, latency] = self.goals;
        let words = |figure: &str| format!("{figure}, {}", self.words);
        let row = Row::less(&words("CPU of both ends per 1 KiB call"), "µs", processor);
        table.compare(row, system, calls.processor_micros);
        let row = Row::more(&words("calls a second"), "/s", per_second);
        table.compare(row, system, calls.per_second);
        let row = Row::less(&words("median latency"), "µs", latency);
        table.compare(row, system, calls.median_micros);
        let row = Row::less(&words("99th percentile"), "µs", None);
        table.compare(row, system, calls.slow_micros);
    }
}

/// Small calls while large downloads, one after the other, take all that the way will carry.
fn beside_a_download(
    scratch: &Path,
    target: &Target,
    settings: &Settings,
) -> Result<SmallCalls, Failure> {
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let downloads = scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                transfer::run(target, Direction::Down, settings.large_bytes)?;
            }
            Ok(())
        });
        let calls = wrk::run(scratch, target, SOME_CALLERS, settings.seconds);
        enough.store(true, Ordering::Relaxed);
        match downloads.join() {
            Ok(Ok(())) => calls,
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::new("a download panicked")),
        }
    })
}
