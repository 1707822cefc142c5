//! The WebSocket under a link: its limits, and one handshake message at a time.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::protocol::{MAX_HANDSHAKE, MAX_MESSAGE};

/// A WebSocket that carries a link.
pub(super) type WebSocket<S> = WebSocketStream<S>;

/// How long either side waits for the next message of the handshake: several round trips of a bad
/// path, and little enough that a stranger cannot hold many places.
pub(super) const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// Allocated for each socket at once, so it is what an idle link costs; large messages grow it on their way.
const READ_BUFFER: usize = 4 * 1024;
/// Frames are gathered up to this before a write: as much as TLS takes at once.
const WRITE_BUFFER: usize = 64 * 1024;

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
    WebSocket(#[source] Box<tungstenite::Error>),
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

/// Sends one handshake message.
pub(super) async fn send<S>(
    websocket: &mut WebSocket<S>,
    message: Vec<u8>,
) -> Result<(), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let sending = websocket.send(Message::Binary(Bytes::from(message)));
    let sent = tokio::time::timeout(STEP_DEADLINE, sending).await;
    sent.map_err(|_| ExchangeError::TimedOut)?
        .map_err(|error| ExchangeError::WebSocket(Box::new(error)))
}

/// Receives one handshake message.
pub(super) async fn receive<S>(websocket: &mut WebSocket<S>) -> Result<Bytes, ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
