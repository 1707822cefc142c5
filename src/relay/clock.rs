//! The relay's one clock: seconds since 1970, as they are stored, sent and shown.
//!
//! Decisions take a time as a value; only the edges ask here, so tests need no clock of their own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in seconds since 1970. A clock before 1970 counts as 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A time as people and machines read it: RFC 3339, in UTC, to the second.
#[must_use]
pub fn rfc3339(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(LATEST));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The last second of the year 9999, where RFC 3339 ends.
const LATEST: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc_and_never_fail() {
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
