//! A body that is watched on its way: by one who counts, or who lets go of something when it has ended.
//!
//! The watcher lives as long as the body, so that what it holds is held until the body ends or is
//! dropped. Never changes a frame, and costs no allocation of its own.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::length;

/// What became of asking a body for its next frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing is there yet.
    Nothing,
    /// A frame, after which there is more.
    Frame,
    /// The end: the last frame, or none after it.
    End,
    /// The body broke off.
    Failure,
}

/// One who watches a body.
pub trait Watcher {
    /// The body was asked. After the end this may be told once more.
    fn saw(&mut self, seen: Seen);

    /// A frame with so many bytes passes.
    fn passed(&mut self, _bytes: u64) {}
}

/// A watched body.
#[derive(Debug)]
pub struct Watched<B, W> {
    body: B,
    watcher: W,
}

/// Watches nothing, and holds what it is until the body ends or is dropped.
#[derive(Debug)]
pub struct Holding<T>(pub T);

impl<B, W> Watched<B, W> {
    /// The body, watched from now on.
    pub const fn new(body: B, watcher: W) -> Self {
        Self { body, watcher }
    }
}

impl<T> Watcher for Holding<T> {
    fn saw(&mut self, _: Seen) {}
}

impl<B, W> HttpBody for Watched<B, W>
where
    B: HttpBody<Data = Bytes> + Unpin,
    W: Watcher + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let seen = match &polled {
            Poll::Pending => Seen::Nothing,
            Poll::Ready(None) => Seen::End,
            Poll::Ready(Some(Err(_))) => Seen::Failure,
            // Nothing follows trailers, whether the body knows that or not, and nobody asks.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() || self.body.is_end_stream() => {
                Seen::End
            }
            Poll::Ready(Some(Ok(_))) => Seen::Frame,
        };
        self.watcher.saw(seen);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.watcher.passed(length(frame));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use futures_util::{FutureExt as _, stream};
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use tokio::sync::mpsc;

    use super::*;
    use crate::body::BodyError;

    #[derive(Default)]
    struct Notes(Vec<Seen>, Vec<u64>);

    impl Watcher for &mut Notes {
        fn saw(&mut self, seen: Seen) {
            self.0.push(seen);
        }

        fn passed(&mut self, bytes: u64) {
            self.1.push(bytes);
        }
    }

    /// A body of what it is sent.
    pub(crate) fn sent(
        mut pieces: mpsc::Receiver<Result<&'static str, BodyError>>,
    ) -> impl HttpBody<Data = Bytes, Error = BodyError> + Unpin {
        let frame = |text| Frame::data(Bytes::from_static(str::as_bytes(text)));
        StreamBody::new(stream::poll_fn(move |context| {
            let piece = pieces.poll_recv(context);
            piece.map(|piece| piece.map(|piece| piece.map(frame)))
        }))
    }

    #[tokio::test]
    async fn the_watcher_sees_what_the_reader_gets() {
        let mut notes = Notes::default();
        let (sender, pieces) = mpsc::channel(1);
        let mut body = Watched::new(sent(pieces), &mut notes);
        assert!(body.frame().now_or_never().is_none());
        sender.send(Ok("x")).await.unwrap();
        assert_eq!(
            body.frame().await.unwrap().unwrap().into_data().unwrap(),
            "x"
        );
        sender.send(Err("broken".into())).await.unwrap();
        assert!(body.frame().await.unwrap().is_err());
        drop(sender);
        assert!(body.frame().await.is_none());
        let expected = [Seen::Nothing, Seen::Frame, Seen::Failure, Seen::End];
        assert_eq!((notes.0.as_slice(), &*notes.1), (&expected[..], &[1][..]));
    }

    #[tokio::test]
    async fn the_last_frame_is_told_with_the_end() {
        let mut notes = Notes::default();
        let mut body = Watched::new(Full::new(Bytes::from("all")), &mut notes);
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!((&*notes.0, &*notes.1), (&[Seen::End][..], &[3][..]));
    }

    #[tokio::test]
    async fn trailers_are_the_end_though_their_body_does_not_know_it() {
        let mut notes = Notes::default();
        let frames = [
            Frame::data(Bytes::from("all")),
            Frame::trailers(HeaderMap::new()),
        ];
        let frames = stream::iter(frames.map(Ok::<_, Infallible>));
        let mut body = Watched::new(StreamBody::new(frames), &mut notes);
        assert!(body.frame().await.unwrap().is_ok());
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(&*notes.0, &[Seen::Frame, Seen::End]);
    }

    #[test]
    fn what_is_held_goes_with_the_body() {
        let held = Arc::new(());
        let body = Watched::new(Full::<Bytes>::default(), Holding(Arc::clone(&held)));
        assert_eq!(Arc::strong_count(&held), 2);
        drop(body);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
