//! How long a disk made a thread wait.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// Runs from just before a write.
#[derive(Debug)]
pub(super) struct Stopwatch {
    begun: Instant,
    waits: i64,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self {
            begun: Instant::now(),
            waits: waits(),
        }
    }

    /// The time since the start, if it is so long and the thread has waited for anything. Where it was at work, or would
    /// have been had the machine had a processor for it, that says nothing about the disk.
    pub(super) fn waited(&self, at_least: Duration) -> Option<Duration> {
        let time = self.begun.elapsed();
        (time >= at_least && waits() != self.waits).then_some(time)
    }
}

/// How often this thread has waited so far.
fn waits() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_counts_and_work_does_not() {
        let time = Duration::from_millis(20);
        let stopwatch = Stopwatch::start();
        while stopwatch.begun.elapsed() < time {
            std::hint::spin_loop();
        }
        assert_eq!(stopwatch.waited(time), None);
        std::thread::sleep(time);
        assert!(stopwatch.waited(time).is_some());
        assert_eq!(stopwatch.waited(time * 10_000), None);
    }
}
