//! A body that breaks off when it is longer than it may be. What is within the bound passes unchanged.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{BodyError, length};

/// A body with a bound, or none.
#[derive(Debug)]
pub struct Capped<B> {
    body: B,
    cap: Option<Cap>,
}

/// The body was longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is longer than the {0} bytes that it may have")]
pub struct TooLong(pub u64);

/// Tells whether a body has passed its bound.
#[derive(Debug, Clone)]
pub struct Overrun {
    most: u64,
    happened: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Cap {
    left: u64,
    overrun: Overrun,
}

impl<B: HttpBody> Capped<B> {
    /// The body with at most so many bytes, if a number is given.
    ///
    /// # Errors
    /// [`TooLong`] when it is known before the first byte that there are more.
    pub fn new(body: B, most: Option<u64>) -> Result<Self, TooLong> {
        let cap = most.map(|most| Cap {
            left: most,
            overrun: Overrun {
                most,
                happened: Arc::default(),
            },
        });
        match most {
            Some(most) if body.size_hint().lower() > most => Err(TooLong(most)),
            Some(_) | None => Ok(Self { body, cap }),
        }
    }

    /// Tells later whether the bound was passed; nothing where there is none.
    pub fn overrun(&self) -> Option<Overrun> {
        self.cap.as_ref().map(|cap| cap.overrun.clone())
    }
}

impl Overrun {
    /// That the body was longer than its bound, if it was.
    #[must_use]
    pub fn has_happened(&self) -> Option<TooLong> {
        let happened = self.happened.load(Ordering::Acquire);
        happened.then_some(TooLong(self.most))
    }
}

impl Cap {
    fn count(&mut self, frame: &Frame<Bytes>) -> Result<(), TooLong> {
        if let Some(left) = self.left.checked_sub(length(frame)) {
            self.left = left;
            return Ok(());
        }
        self.overrun.happened.store(true, Ordering::Release);
        Err(TooLong(self.overrun.most))
    }
}

impl<B> HttpBody for Capped<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(context));
        let frame = polled.map(|frame| frame.map_err(Into::into));
        if let (Some(Ok(frame)), Some(cap)) = (&frame, &mut self.cap) {
            cap.count(frame)?;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};
    use tokio::sync::mpsc;

    use super::super::watched::tests::sent;
    use super::*;

    #[test]
    fn a_body_that_is_known_to_be_too_long_is_not_begun() {
        let body = |text: &'static str| Full::new(Bytes::from_static(text.as_bytes()));
        assert_eq!(Capped::new(body("four"), Some(3)).err(), Some(TooLong(3)));
        assert!(Capped::new(body("four"), Some(4)).is_ok());
        assert!(Capped::new(body("four"), None).is_ok());
    }

    #[tokio::test]
    async fn a_body_passes_up_to_its_bound_and_breaks_off_behind_it() {
        let (sender, pieces) = mpsc::channel(3);
        let mut body = Capped::new(sent(pieces), Some(4)).unwrap();
        let overrun = body.overrun().unwrap();
        for piece in ["ab", "cd", "e"] {
            sender.send(Ok(piece)).await.unwrap();
        }
        for piece in ["ab", "cd"] {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), piece);
        }
        assert_eq!(overrun.has_happened(), None);
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(overrun.has_happened(), Some(TooLong(4)));
    }
}
