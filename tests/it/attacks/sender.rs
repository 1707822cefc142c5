//! Sends bytes on a socket of their own, and reads what comes until the relay hangs up.

use relay_agent::problem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::soon;

/// What is said after each case, so that it is read to its end, whatever it is taken for: the answer to
/// this one is the last, where it comes.
const LAST: &[u8] = b"GET /v1/link HTTP/1.1\r\nHost: {relay}\r\nConnection: close\r\n\r\n";

/// Each answer's status, and its code where it is a problem document.
pub(super) async fn send(authority: &str, bytes: &[u8]) -> Vec<String> {
    let mut tcp = TcpStream::connect(authority).await.unwrap();
    // The relay may hang up before all of it is written.
    let _ = tcp.write_all(bytes).await;
    let last = String::from_utf8_lossy(LAST).replace("{relay}", authority);
    let _ = tcp.write_all(last.as_bytes()).await;
    let mut said = Vec::new();
    // A reset is a way of hanging up too.
    let _ = soon("the relay hangs up", tcp.read_to_end(&mut said)).await;
    let mut answers = Vec::new();
    let mut rest = &said[..];
    while let Some((answer, more)) = next(rest) {
        rest = more;
        // The answer to what is said last.
        if answer != "426 not-a-link" {
            answers.push(answer);
        }
    }
    answers
}

fn next(said: &[u8]) -> Option<(String, &[u8])> {
    let at = said.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&said[..at]).to_lowercase();
    let rest = &said[at + 4..];
    let status = head.split(' ').nth(1)?.to_owned();
    let length = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: "));
    let (body, rest) = rest.split_at(length.map_or(0, |it| it.parse().unwrap()).min(rest.len()));
    let answer = match problem::parse(body) {
        Some(problem) => format!("{status} {}", problem.code),
        None => status,
    };
    Some((answer, rest))
}
