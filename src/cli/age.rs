//! How long ago or how soon, in words that are short enough for a column.

use std::time::{Duration, SystemTime};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A duration in the largest unit of which there are two at least: `119 s`, `28 min`, `47 h`, `12 days`.
#[must_use]
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (unit, name) in [(DAY, "days"), (HOUR, "h"), (MINUTE, "min")] {
        if seconds >= 2 * unit {
            return format!("{} {name}", seconds / unit);
        }
    }
    format!("{seconds} s")
}

/// When somebody was last seen, from a time of the status: `28 min ago`, or `never`.
#[must_use]
pub fn seen(time: Option<&str>, now: SystemTime) -> String {
    match time.map(|time| (time, since(time, now))) {
        None => "never".to_owned(),
        Some((_, Some(ago))) => format!("{} ago", in_words(ago)),
        Some((time, None)) => time.to_owned(),
    }
}

/// How long before `now` a time of the status was; nothing where it cannot be read. A clock that was set back makes
/// nothing younger than now.
#[must_use]
pub fn since(time: &str, now: SystemTime) -> Option<Duration> {
    let time = humantime::parse_rfc3339(time).ok()?;
    Some(now.duration_since(time).unwrap_or_default())
}

/// How long after `now` a time of the status is: nothing where it cannot be read, or has come.
#[must_use]
pub fn until(time: &str, now: SystemTime) -> Option<Duration> {
    let time = humantime::parse_rfc3339(time).ok()?;
    time.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_the_largest_unit_that_says_enough() {
        for (seconds, words) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (2 * HOUR - 1, "119 min"),
            (47 * HOUR, "47 h"),
            (48 * HOUR, "2 days"),
            (400 * DAY, "400 days"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn a_time_is_before_or_after_now_and_what_is_none_is_neither() {
        let now = humantime::parse_rfc3339("2026-01-01T14:30:00Z").unwrap();
        let hour = Duration::from_secs(HOUR);
        assert_eq!(since("2026-01-01T13:30:00Z", now), Some(hour));
        assert_eq!(since("2026-01-01T15:30:00Z", now), Some(Duration::ZERO));
        assert_eq!(until("2026-01-01T15:30:00Z", now), Some(hour));
        assert_eq!(until("2026-01-01T13:30:00Z", now), None);
        assert_eq!((since("x", now), until("", now)), (None, None));
        assert_eq!(seen(Some("2026-01-01T13:30:00Z"), now), "60 min ago");
        assert_eq!(seen(Some("yesterday"), now), "yesterday");
        assert_eq!(seen(None, now), "never");
    }
}
