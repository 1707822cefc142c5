//! How long an answer may be waited for while a body is still on its way to whoever answers.
//!
//! The wait counts from the last frame that was handed on, not from the start, so that a large upload
//! has all the time that it needs and a standstill is noticed all the same.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::watched::{Seen, Watched, Watcher};
use super::{Body, BodyError};

/// When a body last moved.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// Milliseconds after `started`.
    last_moved: AtomicU64,
}

/// Nothing moved and no answer came for as long as was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer came in time")]
pub struct NoAnswer;

/// A body whose progress can be watched. A body that has ended already needs no watching.
pub fn watched<B>(body: B) -> (Body, Option<Arc<Progress>>)
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BodyError>,
{
    if body.is_end_stream() {
        return (super::streaming(body), None);
    }
    let progress = Arc::new(Progress {
        started: Instant::now(),
        last_moved: AtomicU64::new(0),
    });
    let watched = Watched::new(body, Arc::clone(&progress));
    (super::streaming(watched), Some(progress))
}

/// Waits for `answer` until it comes or nothing has moved for `limit`. The answer is pinned by the
/// caller, since a future that is handed over and pinned here would take its room twice in every call.
///
/// # Errors
/// [`NoAnswer`]; dropping the future then cancels what it stands for.
pub async fn answer_within<F: Future>(
    limit: Duration,
    progress: Option<&Progress>,
    mut answer: Pin<&mut F>,
) -> Result<F::Output, NoAnswer> {
    let mut deadline = Instant::now() + limit;
    loop {
        if let Ok(output) = tokio::time::timeout_at(deadline, answer.as_mut()).await {
            return Ok(output);
        }
        match progress.map(|progress| progress.last_moved() + limit) {
            Some(later) if later > deadline => deadline = later,
            _ => return Err(NoAnswer),
        }
    }
}

impl Progress {
    fn moved(&self) {
        let elapsed = self.started.elapsed().as_millis();
        self.last_moved
            .store(elapsed.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn last_moved(&self) -> Instant {
        self.started + Duration::from_millis(self.last_moved.load(Ordering::Relaxed))
    }
}

impl Watcher for Arc<Progress> {
    fn saw(&mut self, seen: Seen) {
        if seen != Seen::Nothing {
            self.moved();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_given_up() {
        let waited = answer_within(LIMIT, None, pin!(std::future::pending::<()>())).await;
        assert_eq!(waited, Err(NoAnswer));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_moves_extends_the_wait_and_one_that_stands_still_does_not() {
        let slow = stream::unfold(0, |count| async move {
            tokio::time::sleep(LIMIT / 2).await;
            (count < 10).then(|| {
                (
                    Ok::<_, Infallible>(Frame::data(Bytes::from("x"))),
                    count + 1,
                )
            })
        });
        let (mut body, progress) = watched(Box::pin(StreamBody::new(slow)));
        let upload = async {
            while body.frame().await.is_some() {}
            "answer"
        };
        let waited = answer_within(LIMIT, progress.as_deref(), pin!(upload)).await;
        assert_eq!(waited, Ok("answer"));

        let never = pin!(std::future::pending::<()>());
        let waited = answer_within(LIMIT, progress.as_deref(), never).await;
        assert_eq!(waited.err(), Some(NoAnswer));
    }

    #[test]
    fn an_empty_body_is_not_watched() {
        assert!(watched(super::super::empty()).1.is_none());
    }
}
