//! HTTP/2 by hand, with prior knowledge: heads that no client library would send.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::soon;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GO_AWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Sends one head with these fields in this order; what came of it: a status, `reset` or `closed`.
pub(super) async fn send(authority: &str, head: &[(String, String)], body: &[u8]) -> Vec<String> {
    let mut tcp = TcpStream::connect(authority).await.unwrap();
    let block: Vec<u8> = head.iter().flat_map(literal).collect();
    let ends = if body.is_empty() { END_STREAM } else { 0 };
    let mut said = PREFACE.to_vec();
    said.extend(frame(SETTINGS, 0, 0, &[]));
    said.extend(frame(HEADERS, END_HEADERS | ends, 1, &block));
    if !body.is_empty() {
        said.extend(frame(DATA, END_STREAM, 1, body));
    }
    tcp.write_all(&said).await.unwrap();
    vec![soon("an answer over HTTP/2", answer(&mut tcp)).await]
}

async fn answer(tcp: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    loop {
        while heard.len() >= 9 {
            let length = u32::from_be_bytes([0, heard[0], heard[1], heard[2]]) as usize;
            if heard.len() < 9 + length {
                break;
            }
            let frame: Vec<u8> = heard.drain(..9 + length).collect();
            match frame[3] {
                HEADERS => return status(&frame[9..]),
                RESET => return "reset".to_owned(),
                GO_AWAY => return "closed".to_owned(),
                _ => {}
            }
        }
        if tcp.read_buf(&mut heard).await.unwrap_or(0) == 0 {
            return "closed".to_owned();
        }
    }
}

/// The status of an answer's head, which comes first in it (RFC 7541, appendices A and B).
fn status(block: &[u8]) -> String {
    let known = ["200", "204", "206", "304", "400", "404", "500"];
    if let Some(status) = known.get(usize::from(block[0].wrapping_sub(0x88))) {
        return (*status).to_owned();
    }
    // A literal with Huffman's codes, of which digits have five bits up to '2' and then six.
    let mut bits = block[2..]
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut digit = || {
        let mut code = (0..5).fold(0, |code, _| code << 1 | bits.next().unwrap());
        if code > 2 {
            code = (code << 1 | bits.next().unwrap()) - 22;
        }
        char::from(b'0' + code)
    };
    [digit(), digit(), digit()].iter().collect()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// A field without index and without Huffman's codes.
fn literal((name, value): &(String, String)) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = match u8::try_from(text.len()) {
            Ok(length) if length < 127 => vec![length],
            _ => vec![127, u8::try_from(text.len() - 127).unwrap()],
        };
        assert!(
            bytes.last().unwrap() < &128,
            "longer than this encoder knows"
        );
        bytes.extend(text.as_bytes());
        bytes
    };
    [vec![0], text(name), text(value)].concat()
}
