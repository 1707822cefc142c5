//! Says now and then, with a number, what could otherwise fill the log. Never waits.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is said: often enough to be seen while it happens.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Kinds of things that are told apart at once. Upstreams and connections are fewer; when there are more all the same,
/// those of which nothing was said lately are forgotten.
const MAX_KINDS: usize = 1024;

/// One kind of thing that happens.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Count>);

/// Things of many kinds, told apart by where they happen and what they are.
#[derive(Debug, Default)]
pub struct Seldoms(Mutex<BTreeMap<(Box<str>, &'static str), Count>>);

#[derive(Debug, Default)]
struct Count {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It happened. How often since it was last said, when it is time to say it again.
    pub fn happened(&self, now: Instant) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.happened(now)
    }
}

impl Seldoms {
    /// `what` happened there. How often since that was last said of there, when it is time to say it again.
    pub fn happened(&self, place: &str, what: &'static str, now: Instant) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = (place.into(), what);
        if counts.len() >= MAX_KINDS && !counts.contains_key(&kind) {
            counts.retain(|_, count| !count.is_time(now));
            if counts.len() >= MAX_KINDS {
                return None;
            }
        }
        counts.entry(kind).or_default().happened(now)
    }
}

impl Count {
    fn happened(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        self.is_time(now).then(|| {
            self.said = Some(now);
            std::mem::take(&mut self.unsaid)
        })
    }

    fn is_time(&self, now: Instant) -> bool {
        self.said
            .is_none_or(|said| now.saturating_duration_since(said) >= SAY_AGAIN_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_now_and_then_with_the_number_since() {
        let seldom = Seldom::default();
        let begin = Instant::now();
        assert_eq!(seldom.happened(begin), Some(1));
        for _ in 0..5 {
            assert_eq!(seldom.happened(begin), None);
        }
        assert_eq!(seldom.happened(begin + SAY_AGAIN_AFTER), Some(6));
    }

    #[test]
    fn each_kind_is_said_by_itself_and_their_number_has_a_bound() {
        let seldoms = Seldoms::default();
        let begin = Instant::now();
        assert_eq!(seldoms.happened("jira", "unreachable", begin), Some(1));
        assert_eq!(seldoms.happened("jira", "unreachable", begin), None);
        assert_eq!(seldoms.happened("jira", "timeout", begin), Some(1));
        assert_eq!(seldoms.happened("wiki", "unreachable", begin), Some(1));
        for number in 0..2 * MAX_KINDS {
            seldoms.happened(&number.to_string(), "unreachable", begin);
        }
        assert_eq!(seldoms.0.lock().unwrap().len(), MAX_KINDS);
        let later = begin + SAY_AGAIN_AFTER;
        assert_eq!(seldoms.happened("jira", "unreachable", later), Some(2));
        assert_eq!(seldoms.happened("new", "unreachable", later), Some(1));
        assert_eq!(seldoms.0.lock().unwrap().len(), 2);
    }
}
