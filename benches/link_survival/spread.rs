//! Many measurements of one thing, in order of size.

use std::fmt;
use std::time::Duration;

/// Measured times.
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    /// Of at least one time.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// What this part of them does not exceed.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let index = (last as f64 * part).ceil() as usize;
        self.0.get(index.min(last)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |part| self.quantile(part).as_secs_f64() * 1e3;
        write!(
            formatter,
            "median {:.2} ms, p99 {:.2} ms, of {}",
            milliseconds(0.5),
            milliseconds(0.99),
            self.0.len()
        )
    }
}

/// The middle one of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
