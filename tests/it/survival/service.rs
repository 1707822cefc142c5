//! The private service behind a link that is cut: long bodies, events, a WebSocket, and orders that must not be done twice.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use hyper_util::rt::TokioIo;
use relay_agent::body::{self, Body, BodyError};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::harness::answers::{at_once, in_pieces};
use crate::harness::upstream::Recorded;
use crate::harness::{Upstream, answers};

/// The pause between two events, so that every cut falls between some.
const EVENT_EVERY: Duration = Duration::from_millis(10);
const PIECE: usize = 64 * 1024;

/// A service that does what the path says.
pub(crate) async fn start() -> Upstream {
    Upstream::new(|request: Request<Recorded>| {
        let path = request.uri().path().to_owned();
        match *path.split('/').collect::<Vec<_>>() {
            ["", "download", length] => at_once(Response::new(patterned(length.parse().unwrap()))),
            ["", "events", count] => at_once(Response::new(events(count.parse().unwrap()))),
            ["", "socket"] => at_once(socket(request)),
            ["", "never", ..] => answers::hang(request),
            _ => answers::done(request),
        }
    })
    .await
}

/// A body of which no two places look alike.
pub(crate) fn patterned(length: u64) -> Body {
    body::streaming(Patterned { at: 0, length })
}

/// What such a body has from one place on.
pub(crate) fn pattern(at: u64, length: usize) -> Vec<u8> {
    // Eight bytes at a time: a place's own number, stirred.
    let first = at / 8;
    let words = (first..).map(|word| word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29));
    let bytes = words.flat_map(u64::to_le_bytes);
    let skipped = usize::try_from(at % 8).unwrap();
    bytes.skip(skipped).take(length).collect()
}

struct Patterned {
    at: u64,
    length: u64,
}

impl http_body::Body for Patterned {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let left = self.length - self.at;
        let count = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        if count == 0 {
            return Poll::Ready(None);
        }
        let piece = pattern(self.at, count);
        self.at += count as u64;
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }
}

/// Numbered events, one after the other.
fn events(count: usize) -> Body {
    let (pieces, body) = in_pieces();
    tokio::spawn(async move {
        for number in 0..count {
            pieces.send(&event(number));
            tokio::time::sleep(EVENT_EVERY).await;
        }
    });
    body
}

/// An event as it stands in the stream.
pub(crate) fn event(number: usize) -> String {
    format!("data: {number}\n\n")
}

/// A WebSocket that says everything again.
fn socket<B>(mut request: Request<B>) -> Response<Body> {
    let key = request.headers()[SEC_WEBSOCKET_KEY].clone();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrade.await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            // A caller that has gone is no fault of the service.
            let _ = socket.send(message).await;
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
        .body(body::empty())
        .unwrap()
}
