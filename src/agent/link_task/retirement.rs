//! Links that another has taken the place of, while their last calls end: how many, and for how long.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// How long the calls on a link that another took the place of may go on: longer than a relay that is
/// about to stop waits for them.
const AT_MOST: Duration = Duration::from_secs(2 * 3600);
/// How many such links a connection may have: a relay is seldom replaced twice while calls go on, and one
/// that asks to move again and again must not make its agent hold links without end.
const PLACES: usize = 4;

/// The former links of one connection. They end with the connection.
#[derive(Debug)]
pub(super) struct Retirement {
    places: Arc<Semaphore>,
    over: CancellationToken,
}

/// One former link's place.
#[derive(Debug)]
pub(super) struct RetirementPlace {
    over: CancellationToken,
    #[expect(dead_code, reason = "held for its drop")]
    permit: OwnedSemaphorePermit,
}

impl Retirement {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            over: CancellationToken::new(),
        }
    }

    /// A place for one more, if there is any.
    pub(super) fn place(&self) -> Option<RetirementPlace> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let over = self.over.clone();
        Some(RetirementPlace { over, permit })
    }

    /// The connection is no more: neither are its former links, now and from now on.
    pub(super) fn end(&mut self) {
        std::mem::take(&mut self.over).cancel();
    }
}

impl RetirementPlace {
    /// Completes when the link has to end, whatever goes on on it. Cancel-safe.
    pub(super) async fn over(&self) {
        let _ = tokio::time::timeout(AT_MOST, self.over.cancelled()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn former_links_are_few_and_end_with_the_connection_or_in_time() {
        let mut retirement = Retirement::new();
        let mut places: Vec<_> = std::iter::from_fn(|| retirement.place()).collect();
        assert_eq!(places.len(), PLACES);
        let began = tokio::time::Instant::now();
        places.pop().unwrap().over().await;
        assert_eq!(began.elapsed(), AT_MOST);
        assert!(retirement.place().is_some(), "its place is free again");
        retirement.end();
        let ended = tokio::time::Instant::now();
        places.pop().unwrap().over().await;
        assert_eq!(ended.elapsed(), Duration::ZERO);
    }
}
