//! Whatever bytes come as the head of a request: what the relay's strict reading takes, the parser behind it reads the
//! same way, and no head has two lengths.
//!
//! The strict reading is taken in as a file, since it is no part of what the library shows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_agent::forwarding;

/// The relay's module, in its place.
#[path = "."]
mod relay {
    #[path = "../../src/relay/strict/head.rs"]
    #[allow(dead_code, reason = "the relay uses more of it")]
    mod head;

    /// The lines of a head that is taken, without the empty one at its end, and the length of its body; nothing of one
    /// that is refused or has no end.
    pub(crate) fn read(input: &[u8]) -> Option<(Vec<&[u8]>, Option<u64>)> {
        let mut reading = head::Head::default();
        let mut lines = Vec::new();
        let mut rest = input;
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let line = &rest[..end];
            rest = &rest[end + 2..];
            // Refused before lines are taken apart.
            if line.contains(&b'\n') {
                return None;
            }
            match reading.line(line).ok()? {
                Some(head::Length::Bytes(length)) => return Some((lines, Some(length))),
                Some(head::Length::Chunked) => return Some((lines, None)),
                None if line.is_empty() => {}
                None => lines.push(line),
            }
        }
        None
    }

    /// Name and value of one line.
    pub(crate) fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
        head::field(line).ok()
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((lines, length)) = relay::read(input) else {
        return;
    };
    let mut plain = lines.join(&b"\r\n"[..]);
    plain.extend(b"\r\n\r\n");
    let mut headers = [httparse::EMPTY_HEADER; forwarding::MAX_HEADER_FIELDS];
    let mut parsed = httparse::Request::new(&mut headers);
    // What the parser refuses goes no further; what both take, they read alike.
    let Ok(status) = parsed.parse(&plain) else {
        return;
    };
    assert_eq!(status, httparse::Status::Complete(plain.len()));
    let words: Vec<&[u8]> = lines[0].split(|byte| *byte == b' ').collect();
    assert_eq!(parsed.method.map(str::as_bytes), Some(words[0]));
    assert_eq!(parsed.path.map(str::as_bytes), Some(words[1]));
    assert_eq!(parsed.headers.len(), lines.len() - 1);
    let mut lengths = Vec::new();
    let mut codings = Vec::new();
    for (header, line) in parsed.headers.iter().zip(&lines[1..]) {
        let (name, value) = relay::field(line).expect("it was taken");
        assert_eq!(header.name.as_bytes(), name);
        assert_eq!(header.value.trim_ascii(), value);
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value),
            _ => {}
        }
    }
    match length {
        None => {
            assert!(lengths.is_empty() && codings.len() == 1);
            assert!(codings[0].eq_ignore_ascii_case(b"chunked"));
        }
        Some(length) => {
            assert!(codings.is_empty() && lengths.len() <= 1);
            let told = lengths.first().map_or("0", |it| std::str::from_utf8(it).expect("digits"));
            assert_eq!(told.parse(), Ok(length));
        }
    }
});
