//! What a private service of a test may answer.

use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
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
    at_once(Response::new(body::streaming(Endless)))
}

struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        static BLOCK: [u8; 65536] = [7; 65536];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&BLOCK)))))
    }
}

/// The writing end of a body that a test makes piece by piece. Dropped, the body ends.
#[derive(Clone)]
pub(crate) struct Pieces(mpsc::UnboundedSender<Frame<Bytes>>);

/// A body and what feeds it.
pub(crate) fn in_pieces() -> (Pieces, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Pieces(sender), body::streaming(Receiving(receiver)))
}

impl Pieces {
    pub(crate) fn send(&self, piece: &str) {
        // Nobody may want it any more.
        let _ = self.0.send(Frame::data(Bytes::from(piece.to_owned())));
    }

    pub(crate) fn end_with(self, trailers: HeaderMap) {
        let _ = self.0.send(Frame::trailers(trailers));
    }
}

struct Receiving(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl http_body::Body for Receiving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}
