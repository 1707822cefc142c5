//! What a private service of a test may answer.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use relay_agent::body::{self, Body, BodyError};
use tokio::sync::mpsc;

use super::upstream::{Answer, Recorded, answer_with};

/// Sends the body back while it arrives.
pub(crate) fn echo(request: Request<Recorded>) -> Answer {
    Box::pin(async { Ok(Response::new(body::streaming(request.into_body()))) })
}

/// Reads the body to its end, and then says `done`.
pub(crate) fn done(request: Request<Recorded>) -> Answer {
    Box::pin(async {
        request.into_body().collect().await?;
        Ok(answer_with("done"))
    })
}

/// Never answers.
pub(crate) fn hang(request: Request<Recorded>) -> Answer {
    Box::pin(async {
        let _kept = request;
        pending().await
    })
}

/// Cuts the connection.
pub(crate) fn cut(_: Request<Recorded>) -> Answer {
    Box::pin(async { Err(BodyError::from("cut")) })
}

/// An answer at once.
pub(crate) fn at_once(response: Response<Body>) -> Answer {
    Box::pin(async { Ok(response) })
}

/// Sends without end, a block of 64 KiB after the other.
pub(crate) fn endless(_: Request<Recorded>) -> Answer {
    at_once(Response::new(counted(Arc::default())))
}

/// A body without end that counts the bytes taken from it.
pub(crate) fn counted(taken: Arc<AtomicU64>) -> Body {
    body::streaming(Endless(taken))
}

struct Endless(Arc<AtomicU64>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        static BLOCK: [u8; 65536] = [7; 65536];
        let length = BLOCK.len() as u64;
        self.0.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BLOCK)))))
    }
}

/// The writing end of a body that a test makes piece by piece. Dropped, the body ends.
#[derive(Clone)]
pub(crate) struct Pieces(mpsc::UnboundedSender<Result<Frame<Bytes>, BodyError>>);

/// A body and what feeds it.
pub(crate) fn in_pieces() -> (Pieces, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Pieces(sender), body::streaming(Receiving(receiver)))
}

impl Pieces {
    pub(crate) fn send(&self, piece: &str) {
        // Nobody may want it any more.
        let _ = self.0.send(Ok(Frame::data(Bytes::from(piece.to_owned()))));
    }

    /// Waits until nobody reads the body any more.
    pub(crate) async fn unread(&self) {
        self.0.closed().await;
    }

    /// Breaks off.
    pub(crate) fn fail(self) {
        let _ = self.0.send(Err(BodyError::from("cut")));
    }
}

struct Receiving(mpsc::UnboundedReceiver<Result<Frame<Bytes>, BodyError>>);

impl http_body::Body for Receiving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(context)
    }
}
