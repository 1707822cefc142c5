//! Whose turn it is to move when a relay hands all its links over: spread over a time, and few at once.
//!
//! Only the relay sees all of its agents. If each drew a moment of its own, as many would come as chance has it, whether
//! or not the relay that takes over keeps up; here the next one comes when another has moved. Knows nothing of links.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Which part of all handshakes that a relay takes at once (`limits.handshakes`, taken to be the same for the one that
/// takes over) may be those of moves: agents that come back from elsewhere find places beside them.
const PART: usize = 4;

/// The turns of all links of one relay.
#[derive(Debug)]
pub(super) struct Turns {
    places: Semaphore,
    /// How many links have asked for theirs.
    asked: AtomicUsize,
}

impl Turns {
    /// Of a relay that takes so many handshakes at once.
    pub(super) fn new(handshakes: usize) -> Self {
        let places = (handshakes / PART).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            places: Semaphore::new(places),
            asked: AtomicUsize::new(0),
        }
    }

    /// Waits for a link's turn, one of `links`: evenly spread over `spread`, and later where those before it take
    /// longer. Whoever has it gives it back by dropping it. Nothing when it has not come within `most`. Cancel-safe: who
    /// waits no longer leaves its turn to the next.
    pub(super) async fn next(
        &self,
        links: usize,
        spread: Duration,
        most: Duration,
    ) -> Option<SemaphorePermit<'_>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let moment = spread.mul_f64(number.min(links) as f64 / links.max(1) as f64);
        let turn = async {
            tokio::time::sleep(moment).await;
            // Never closed.
            self.places.acquire().await.ok()
        };
        tokio::time::timeout(most, turn).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Mutex;
    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;

    const SPREAD: Duration = Duration::from_secs(6);
    const MOST: Duration = Duration::from_secs(24);
    const HANDSHAKES: usize = 512;

    /// Hands so many links over to a relay that makes one handshake after the other, each in so long. When each had its
    /// turn, how many had one at once at the most, and how many had none.
    async fn hand_over(links: usize, handshake: Duration) -> (Vec<Duration>, usize, usize) {
        let turns = Arc::new(Turns::new(HANDSHAKES));
        let next_relay = Arc::new(Mutex::new(()));
        let at_once = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let mut moving = JoinSet::new();
        for _ in 0..links {
            let (turns, next_relay) = (Arc::clone(&turns), Arc::clone(&next_relay));
            let at_once = Arc::clone(&at_once);
            moving.spawn(async move {
                let _turn = turns.next(links, SPREAD, MOST).await?;
                let asked = began.elapsed();
                let beside = at_once.fetch_add(1, Ordering::Relaxed) + 1;
                let busy = next_relay.lock().await;
                tokio::time::sleep(handshake).await;
                drop(busy);
                at_once.fetch_sub(1, Ordering::Relaxed);
                Some((asked, beside))
            });
        }
        let moved = moving.join_all().await;
        let without = moved.iter().filter(|one| one.is_none()).count();
        let most = moved.iter().flatten().map(|(_, beside)| *beside).max();
        let mut asked: Vec<_> = moved.iter().flatten().map(|(asked, _)| *asked).collect();
        asked.sort_unstable();
        (asked, most.unwrap_or_default(), without)
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_links_have_their_turns_evenly_over_the_time_whatever_their_moves_take() {
        let (asked, _, without) = hand_over(60, Duration::from_millis(10)).await;
        assert_eq!(without, 0);
        for (number, asked) in asked.iter().enumerate() {
            let even = Duration::from_millis(100) * u32::try_from(number).unwrap();
            let late = asked.saturating_sub(even);
            assert!(
                *asked >= even && late < Duration::from_millis(50),
                "{number}: {asked:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_links_than_the_next_relay_keeps_up_with_take_longer_and_are_few_at_once() {
        let handshake = Duration::from_millis(6);
        let (asked, at_once, without) = hand_over(2_000, handshake).await;
        assert_eq!(without, 0, "every link has a turn");
        assert!(at_once <= HANDSHAKES / PART, "{at_once}");
        let last = *asked.last().unwrap();
        assert!(last > SPREAD && last < MOST, "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_in_time_is_given_up_and_keeps_nobody_else_from_theirs() {
        let turns = Turns::new(PART);
        let held = turns.next(3, Duration::ZERO, MOST).await;
        assert!(held.is_some());
        let began = Instant::now();
        assert!(turns.next(3, Duration::ZERO, MOST).await.is_none());
        assert_eq!(began.elapsed(), MOST);
        drop(held);
        assert!(turns.next(3, Duration::ZERO, MOST).await.is_some());
    }
}
