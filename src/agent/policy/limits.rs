//! What a rule that allows says of size, time and number of its calls. Values alone: who counts is elsewhere.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// A second, a minute or an hour: what a rate is counted by.
const UNITS: [(&str, Duration); 3] = [
    ("s", Duration::from_secs(1)),
    ("m", Duration::from_secs(60)),
    ("h", Duration::from_secs(60 * 60)),
];
/// More a second than one agent could serve would limit nothing.
const MAX_CALLS: u32 = 1_000_000;

/// The limits of one rule. Where one is missing, the upstream's own stands, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's body.
    pub max_body: Option<u64>,
    /// Bytes of an answer's body.
    pub max_response: Option<u64>,
    /// Until the first byte of the answer.
    pub response_timeout: Option<Duration>,
    /// Calls in a time.
    pub rate: Option<Rate>,
    /// Calls at once.
    pub max_in_flight: Option<usize>,
}

/// So many calls in such a time: as many at once as the time has, then evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    calls: u32,
    per: Duration,
}

/// A text that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rate is written like \"10/s\", \"100/m\" or \"1000/h\", with at most {MAX_CALLS} calls")]
pub struct NotARate;

/// How much of a rate is used up. Time comes as a value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// When all will be there again.
    full_at: Option<Instant>,
}

impl Limits {
    /// None at all.
    pub const NONE: Self = Self {
        max_body: None,
        max_response: None,
        response_timeout: None,
        rate: None,
        max_in_flight: None,
    };

    /// Whether calls of the rule must be counted.
    #[must_use]
    pub const fn count(&self) -> bool {
        self.rate.is_some() || self.max_in_flight.is_some()
    }
}

impl FromStr for Rate {
    type Err = NotARate;

    fn from_str(text: &str) -> Result<Self, NotARate> {
        let (calls, unit) = text.split_once('/').ok_or(NotARate)?;
        let is_plain = calls.bytes().all(|it| it.is_ascii_digit());
        let calls = calls.parse().ok().filter(|_| is_plain).ok_or(NotARate)?;
        let (_, per) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or(NotARate)?;
        match calls {
            1..=MAX_CALLS => Ok(Self { calls, per }),
            _ => Err(NotARate),
        }
    }
}

impl Bucket {
    /// Takes one call out.
    ///
    /// # Errors
    /// How long until there is one, when there is none.
    pub fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let full = now + rate.per;
        // What was used up under a slower rate counts for no more than all of this one.
        let full_at = self.full_at.unwrap_or(now).clamp(now, full);
        let after = full_at + rate.per / rate.calls;
        if after > full {
            return Err(after - full);
        }
        self.full_at = Some(after);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_all_at_once_and_then_evenly() {
        let rate: Rate = "10/s".parse().unwrap();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut bucket = Bucket::default();
        for _ in 0..10 {
            assert_eq!(bucket.take(rate, start), Ok(()));
        }
        assert_eq!(bucket.take(rate, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(rate, at(60)), Err(Duration::from_millis(40)));
        assert_eq!(bucket.take(rate, at(100)), Ok(()));
        assert!(bucket.take(rate, at(100)).is_err());
        // However long nobody calls, it holds no more than all.
        let later = at(3_600_000);
        let taken = (0..100).filter(|_| bucket.take(rate, later).is_ok());
        assert_eq!(taken.count(), 10);
    }

    #[test]
    fn a_faster_rate_is_not_held_up_by_what_a_slower_one_used() {
        let now = Instant::now();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take("1/h".parse().unwrap(), now), Ok(()));
        let wait = bucket.take("10/s".parse().unwrap(), now);
        assert_eq!(wait, Err(Duration::from_millis(100)));
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            "10",
            "10/",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "10/d",
            "1000001/s",
            "10 /s",
        ] {
            assert_eq!(text.parse::<Rate>(), Err(NotARate), "{text}");
        }
        assert!("1000/h".parse::<Rate>().is_ok());
    }
}
