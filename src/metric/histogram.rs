//! How long things took, counted into fixed classes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper ends of the classes in microseconds: from a service on the same machine to the longest report.
/// A factor of about two between neighbours, so that a quantile read from them is that exact.
pub const BOUNDS: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Counts durations. Recording is two atomic additions.
#[derive(Debug, Default)]
pub struct Histogram {
    /// The last one is of what is longer than every bound.
    classes: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// How many were in each class.
    pub classes: [u64; BOUNDS.len() + 1],
    /// All durations together, in microseconds.
    pub sum: u64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }

    /// What it holds now. Recording goes on meanwhile, so the sum may be a call ahead of the classes.
    #[must_use]
    pub fn counted(&self) -> Counted {
        Counted {
            classes: self.classes.each_ref().map(|it| it.load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

impl Counted {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_class_that_is_long_enough() {
        let histogram = Histogram::default();
        for micros in [0, 1_000, 1_001, 60_000_000, 60_000_001] {
            histogram.record(Duration::from_micros(micros));
        }
        let counted = histogram.counted();
        assert_eq!(&counted.classes[..3], &[2, 1, 0]);
        assert_eq!(&counted.classes[BOUNDS.len() - 1..], &[1, 1]);
        assert_eq!(counted.count(), 5);
        assert_eq!(counted.sum, 120_002_002);
    }
}
