//! How long to wait before dialling again: full jitter, growing to a ceiling, without an end.
//!
//! The only module that sees the `backoff` crate. It decides *when*, never *whether*: refusals that
//! cannot succeed are told apart by type where they arise.

use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// The mean of the first delay. A cut link is back well within 300 ms on a quick network, and the
/// delays of many agents that lost the same relay spread from the second attempt on.
const FIRST_MEAN: Duration = Duration::from_millis(100);
/// The mean of the longest delay: ten thousand agents knock at a dead relay 667 times a second, and an
/// agent notices within half a minute that it is back.
const LONGEST_MEAN: Duration = Duration::from_secs(15);
/// The same while a link that was up is kept: calls wait for it, for 15 seconds each unless the relay is told
/// otherwise, and what is under way on it ends when it is not resumed in time.
const LONGEST_MEAN_WHILE_KEPT: Duration = Duration::from_secs(4);
/// How much the mean grows with each failure.
const GROWTH: f64 = 2.0;
/// A WebSocket that carried a session for so long was of use: the next one is dialled as if it were the first
/// loss. Some proxies cut every few seconds, and calls wait meanwhile.
const OF_USE: Duration = Duration::from_millis(250);
/// The mean of the longest delay after one that was cut sooner: nobody dials without pause.
const LONGEST_MEAN_AFTER_CUT: Duration = Duration::from_millis(400);
/// The shortest wait that counts as asked for: less would make agents knock without pause.
const SHORTEST_RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest wait that a relay may ask for. Longer ones are mistakes: nobody would wait for them.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// How long a link must have held before [`Redial::succeeded`] is called for it, so that a link that
/// comes up and dies at once does not make its agent dial without pause.
pub const STEADY: Duration = Duration::from_secs(10);

/// The delays between attempts to reach one relay.
#[derive(Debug)]
pub struct Redial(ExponentialBackoff);

impl Redial {
    /// Begins with the shortest delays.
    #[must_use]
    pub fn new() -> Self {
        Self(delays(FIRST_MEAN, LONGEST_MEAN))
    }

    /// The delay before the next attempt, after one failed.
    ///
    /// The relay's `Retry-After` is waited for in full, up to [`LONGEST_RETRY_AFTER`], and as much again
    /// at most is added by chance, since a relay may say the same to all its agents. Such a delay does not
    /// make later ones longer: an agent that is told to wait again and again falls behind nobody.
    /// Without one, the next delay will be longer on average.
    pub fn next_delay(&mut self, retry_after: Option<Duration>) -> Duration {
        match retry_after {
            Some(asked) if asked >= SHORTEST_RETRY_AFTER => {
                let asked = asked.min(LONGEST_RETRY_AFTER);
                let mean = (asked / 2).min(LONGEST_MEAN);
                asked + draw(&mut delays(mean, mean))
            }
            Some(_) | None => draw(&mut self.0),
        }
    }

    /// The delay before the next attempt for a link that is kept without a WebSocket: as [`Self::next_delay`], and
    /// never long by itself.
    pub fn next_delay_while_kept(&mut self, retry_after: Option<Duration>) -> Duration {
        let delays = &mut self.0;
        delays.current_interval = delays.current_interval.min(LONGEST_MEAN_WHILE_KEPT);
        self.next_delay(retry_after)
    }

    /// Begins again with the shortest delays, after a link that held for [`STEADY`].
    pub fn succeeded(&mut self) {
        self.0.reset();
    }

    /// A WebSocket that carried a session for `held` was cut: the next delays are short, or not long.
    pub fn was_cut_after(&mut self, held: Duration) {
        if held >= OF_USE {
            self.succeeded();
        }
        self.0.current_interval = self.0.current_interval.min(LONGEST_MEAN_AFTER_CUT);
    }
}

impl Default for Redial {
    fn default() -> Self {
        Self::new()
    }
}

/// A moment within `limit`, drawn by lot: for many that are asked to do the same.
#[must_use]
pub fn at_random_within(limit: Duration) -> Duration {
    draw(&mut delays(limit / 2, limit / 2))
}

/// Delays from nothing to twice a mean, which grows up to the longest.
fn delays(first_mean: Duration, longest_mean: Duration) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(first_mean)
        .with_max_interval(longest_mean)
        .with_multiplier(GROWTH)
        .with_randomization_factor(1.0)
        .with_max_elapsed_time(None)
        .build()
}

fn draw(delays: &mut ExponentialBackoff) -> Duration {
    // `None` would mean that time is up, which it never is without a maximum.
    delays.next_backoff().unwrap_or(LONGEST_MEAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough draws that the mean and the extremes of a uniform distribution show.
    const DRAWS: u32 = 2_000;

    /// The means of the delays after 1, 2, 3… failures, in seconds.
    fn means(failures: usize) -> Vec<f64> {
        let mut sums = vec![0.0; failures];
        for _ in 0..DRAWS {
            let mut redial = Redial::new();
            for sum in &mut sums {
                *sum += redial.next_delay(None).as_secs_f64();
            }
        }
        sums.iter().map(|sum| sum / f64::from(DRAWS)).collect()
    }

    #[test]
    fn delays_double_on_average_up_to_the_ceiling() {
        let means = means(12);
        for (failures, mean) in means.iter().enumerate() {
            let expected = (0.1 * 2_f64.powi(i32::try_from(failures).unwrap())).min(15.0);
            assert!((mean / expected - 1.0).abs() < 0.1, "{failures}: {mean}");
        }
    }

    #[test]
    fn jitter_is_full_and_dialling_never_ends() {
        let mut redial = Redial::new();
        let delays: Vec<_> = (0..DRAWS)
            .map(|_| redial.next_delay(None))
            .skip(20)
            .collect();
        assert!(delays.iter().any(|delay| *delay < LONGEST_MEAN / 10));
        assert!(delays.iter().any(|delay| *delay > LONGEST_MEAN * 19 / 10));
        assert!(delays.iter().all(|delay| *delay <= LONGEST_MEAN * 2));
    }

    #[test]
    fn a_link_that_is_kept_is_redialled_every_few_seconds_however_often_that_failed() {
        let mut redial = Redial::new();
        let longest = (0..DRAWS).map(|_| redial.next_delay_while_kept(None)).max();
        assert!(longest.unwrap() <= LONGEST_MEAN_WHILE_KEPT * 2);
        // Once it is lost for good, the delays grow on from there.
        let longest = (0..20).map(|_| redial.next_delay(None)).max();
        assert!(longest.unwrap() > LONGEST_MEAN_WHILE_KEPT * 2);
    }

    #[test]
    fn the_relay_has_the_last_word_within_reason() {
        let minute = Duration::from_secs(60);
        let first = Redial::new().next_delay(Some(minute));
        assert!(first >= minute && first <= minute * 2, "{first:?}");
        let absurd = Redial::new().next_delay(Some(Duration::MAX));
        assert!(
            absurd <= LONGEST_RETRY_AFTER + LONGEST_MEAN * 2,
            "{absurd:?}"
        );
    }

    #[test]
    fn agents_that_are_told_the_same_come_back_spread() {
        let asked = Duration::from_secs(4);
        let delays: Vec<_> = (0..DRAWS)
            .map(|_| Redial::new().next_delay(Some(asked)))
            .collect();
        assert!(delays.iter().any(|delay| *delay < asked * 11 / 10));
        assert!(delays.iter().any(|delay| *delay > asked * 19 / 10));
    }

    #[test]
    fn an_agent_that_is_told_to_wait_again_and_again_waits_no_longer_each_time() {
        let asked = Duration::from_secs(2);
        let mut redial = Redial::new();
        for _ in 0..100 {
            assert!(redial.next_delay(Some(asked)) <= asked * 2);
        }
        assert!(redial.next_delay(None) <= FIRST_MEAN * 2);
    }

    #[test]
    fn a_wait_of_nothing_counts_as_none() {
        let mut redial = Redial::new();
        let delays: Vec<_> = (0..DRAWS)
            .map(|_| redial.next_delay(Some(Duration::ZERO)))
            .skip(20)
            .collect();
        assert!(delays.iter().any(|delay| *delay > LONGEST_MEAN));
    }

    #[test]
    fn a_success_makes_delays_short_again() {
        let mut redial = Redial::new();
        for _ in 0..20 {
            redial.next_delay(None);
        }
        redial.succeeded();
        assert!(redial.next_delay(None) <= FIRST_MEAN * 2);
    }

    #[test]
    fn a_path_that_is_cut_again_and_again_is_redialled_soon_each_time() {
        let mut redial = Redial::new();
        for _ in 0..100 {
            redial.was_cut_after(OF_USE / 2);
            assert!(redial.next_delay(None) <= LONGEST_MEAN_AFTER_CUT * 2);
        }
        redial.was_cut_after(OF_USE);
        assert!(redial.next_delay(None) <= FIRST_MEAN * 2);
    }
}
