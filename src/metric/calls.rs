//! Counts of HTTP calls by method and class of status, and how long they took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};

use super::histogram::{Counted, Histogram};

/// The methods that have a count of their own (RFC 9110, section 9; RFC 5789), and one for all others.
pub const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other",
];
/// The classes of status (RFC 9110, section 15), and one for what is in none.
pub const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

/// The place of a method in [`METHODS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodLabel(usize);

/// Counts calls. Recording is three atomic additions.
#[derive(Debug, Default)]
pub struct Calls {
    counts: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    durations: Histogram,
}

impl MethodLabel {
    /// The label of a method.
    #[must_use]
    pub fn of(method: &Method) -> Self {
        Self(match *method {
            Method::GET => 0,
            Method::HEAD => 1,
            Method::POST => 2,
            Method::PUT => 3,
            Method::DELETE => 4,
            Method::CONNECT => 5,
            Method::OPTIONS => 6,
            Method::TRACE => 7,
            Method::PATCH => 8,
            _ => 9,
        })
    }
}

impl Calls {
    /// Counts a call that was answered.
    pub fn record(&self, MethodLabel(method): MethodLabel, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).wrapping_sub(1);
        let class = class.min(CLASSES.len() - 1);
        if let Some(count) = self.counts.get(method).and_then(|it| it.get(class)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.durations.record(took);
    }

    /// What was counted: method, class of status, how often.
    pub fn counted(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let methods = METHODS.iter().zip(&self.counts);
        methods.flat_map(|(method, counts)| {
            let classes = CLASSES.iter().zip(counts);
            classes.filter_map(|(class, count)| {
                let count = count.load(Ordering::Relaxed);
                (count > 0).then_some((*method, *class, count))
            })
        })
    }

    /// How long they took.
    #[must_use]
    pub fn durations(&self) -> Counted {
        self.durations.counted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_count_by_method_and_class_and_what_is_strange_as_other() {
        let calls = Calls::default();
        let strange = Method::from_bytes(b"BREW").unwrap();
        for (method, status) in [
            (&Method::GET, 200),
            (&Method::GET, 204),
            (&Method::PATCH, 502),
            (&strange, 418),
            (&Method::GET, 999),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            calls.record(MethodLabel::of(method), status, Duration::from_millis(3));
        }
        let counted: Vec<_> = calls.counted().collect();
        let expected = [
            ("GET", "2xx", 2),
            ("GET", "other", 1),
            ("PATCH", "5xx", 1),
            ("other", "4xx", 1),
        ];
        assert_eq!(counted, expected);
        assert_eq!(calls.durations().count(), 5);
    }

    #[test]
    fn every_method_has_the_label_that_is_its_name() {
        for name in &METHODS[..METHODS.len() - 1] {
            let MethodLabel(place) = MethodLabel::of(&Method::from_bytes(name.as_bytes()).unwrap());
            assert_eq!(METHODS[place], *name);
        }
    }
}
