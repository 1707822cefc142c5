//! Says now and then, with a number, what strangers could otherwise fill the log with. Never waits.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it is said: often enough to be seen while it happens.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// One kind of thing that happens.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    said: Option<Instant>,
    unsaid: u64,
}

impl Seldom {
    /// It happened. How often since it was last said, when it is time to say it again.
    pub(super) fn happened(&self, now: Instant) -> Option<u64> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.unsaid += 1;
        let is_time = count
            .said
            .is_none_or(|said| now.saturating_duration_since(said) >= SAY_AGAIN_AFTER);
        is_time.then(|| {
            count.said = Some(now);
            std::mem::take(&mut count.unsaid)
        })
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
}
