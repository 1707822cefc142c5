//! Callers that hyper does not make: one that closes after its call, and one that talks over a WebSocket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::upstream::SMALL;

/// A small message in one frame of a WebSocket; nobody on the way looks into it.
const MESSAGE: &[u8] = &[0x5a; 200];
/// More than any head here.
const MAX_HEAD: usize = 4096;

/// One call on a connection of its own, which ends with it.
pub(crate) async fn call(relay: SocketAddr, token: &str) -> Result<(), Failure> {
    let mut stream = send(relay, token, "/small", "Connection: close\r\n").await?;
    let mut answer = Vec::with_capacity(MAX_HEAD);
    stream
        .read_to_end(&mut answer)
        .await
        .map_err(Failure::because("read an answer"))?;
    if answer.starts_with(b"HTTP/1.1 200 ") && answer.len() > SMALL {
        return Ok(());
    }
    Err(unexpected(&answer))
}

/// Opens a WebSocket, and sends so many messages, each when the one before has come back.
pub(crate) async fn websocket(
    relay: SocketAddr,
    token: &str,
    messages: usize,
) -> Result<(), Failure> {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut stream = send(relay, token, "/echo", upgrade).await?;
    let mut head = Vec::with_capacity(MAX_HEAD);
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await;
        head.push(byte.map_err(Failure::because("read the head of an answer"))?);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(unexpected(&head));
    }
    let mut back = [0; MESSAGE.len()];
    for _ in 0..messages {
        stream
            .write_all(MESSAGE)
            .await
            .map_err(Failure::because("send a message"))?;
        stream
            .read_exact(&mut back)
            .await
            .map_err(Failure::because("get a message back"))?;
    }
    Ok(())
}

async fn send(
    relay: SocketAddr,
    token: &str,
    path: &str,
    more: &str,
) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(relay)
        .await
        .map_err(Failure::because("connect as a caller"))?;
    let head = format!(
        "GET /c/bench/files{path} HTTP/1.1\r\nHost: {relay}\r\nUser-Agent: training\r\nAccept: */*\r\n\
         Relay-Authorization: Bearer {token}\r\n{more}\r\n"
    );
    stream
        .write_all(head.as_bytes())
        .await
        .map_err(Failure::because("send a request"))?;
    Ok(stream)
}

fn unexpected(answer: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(MAX_HEAD)]);
    Failure::new(format!("an answer is not as expected: {text}"))
}
