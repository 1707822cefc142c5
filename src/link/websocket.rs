//! The WebSocket under a link: its limits, and one handshake message at a time.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::protocol::{MAX_HANDSHAKE, MAX_MESSAGE};

/// What a WebSocket runs on: TCP or TLS; in tests a pipe. One indirect call for each system call.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// A WebSocket that carries a link.
pub(super) type Socket = WebSocketStream<Box<dyn Transport>>;

/// How long either side waits for the next message of the handshake: several round trips of a bad
/// path, and little enough that a stranger cannot hold many places.
pub(super) const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// Allocated for each socket at once, so it is what an idle link costs; large messages grow it on their way.
const READ_BUFFER: usize = 4 * 1024;
/// Frames are gathered up to this before a write. Less than a full frame of the session, which so leaves at once and alone:
/// it is as much as TLS takes at once, and what stood before it in the buffer would leave its end to a write of its own.
const WRITE_BUFFER: usize = 60 * 1024;

/// What the kernel may hold that TCP cannot send yet (`TCP_NOTSENT_LOWAT`): two writes. A small call
/// then waits 10 ms behind a large one at 100 Mbit/s, not behind megabytes of socket buffer.
const MAX_UNSENT: u32 = 128 * 1024;

/// Why a handshake message could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The other side hung up.
    #[error("the other side hung up during the handshake")]
    HungUp,
    /// The other side took too long.
    #[error("the other side did not answer the handshake within {} s", STEP_DEADLINE.as_secs())]
    TimedOut,
    /// Text, or a message that is too long for a handshake.
    #[error("the other side sent something that is no handshake message")]
    Unexpected,
    /// The WebSocket failed.
    #[error("the WebSocket failed during the handshake")]
    WebSocket(#[source] Box<Error>),
}

/// Every limit set by hand: the library's defaults are 128 KiB a socket and no bound on writes.
pub(super) fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(4 * WRITE_BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// Lets the kernel hold little that it cannot send yet: what waits in a socket delays every frame after it.
pub(super) fn bound_what_waits(tcp: Option<BorrowedFd<'_>>) {
    let Some(tcp) = tcp else { return };
    if let Err(error) = SockRef::from(&tcp).set_tcp_notsent_lowat(MAX_UNSENT) {
        tracing::debug!(%error, "the socket's buffer stays as it is");
    }
}

/// Why a WebSocket was lost, for people.
pub(super) fn in_words(error: &Error) -> String {
    use io::ErrorKind;

    let kind = match error {
        Error::Io(error) => Some(error.kind()),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::ConnectionClosed => {
            Some(ErrorKind::UnexpectedEof)
        }
        Error::AlreadyClosed
        | Error::Tls(_)
        | Error::Capacity(_)
        | Error::Protocol(_)
        | Error::WriteBufferFull(_)
        | Error::Utf8(_)
        | Error::AttackAttempt
        | Error::Url(_)
        | Error::Http(_)
        | Error::HttpFormat(_) => None,
    };
    if kind == Some(ErrorKind::UnexpectedEof) {
        "the other side, or something on the way, hung up without a word".to_owned()
    } else if matches!(
        kind,
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    ) {
        "the connection was reset by the other side or by something on the way".to_owned()
    } else if kind == Some(ErrorKind::TimedOut) {
        "the network delivered nothing for too long".to_owned()
    } else {
        error.to_string()
    }
}

/// Sends one handshake message.
pub(super) async fn send(websocket: &mut Socket, message: Vec<u8>) -> Result<(), ExchangeError> {
    let sending = websocket.send(Message::Binary(Bytes::from(message)));
    let sent = tokio::time::timeout(STEP_DEADLINE, sending).await;
    sent.map_err(|_| ExchangeError::TimedOut)?
        .map_err(|error| ExchangeError::WebSocket(Box::new(error)))
}

/// Receives one handshake message.
pub(super) async fn receive(websocket: &mut Socket) -> Result<Bytes, ExchangeError> {
    let deadline = tokio::time::Instant::now() + STEP_DEADLINE;
    loop {
        let received = tokio::time::timeout_at(deadline, websocket.next()).await;
        match received.map_err(|_| ExchangeError::TimedOut)? {
            Some(Ok(Message::Binary(message))) if message.len() <= MAX_HANDSHAKE => {
                return Ok(message);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Err(ExchangeError::HungUp),
            Some(Ok(Message::Binary(_) | Message::Text(_) | Message::Frame(_))) => {
                return Err(ExchangeError::Unexpected);
            }
            Some(Err(error)) => return Err(ExchangeError::WebSocket(Box::new(error))),
        }
    }
}
