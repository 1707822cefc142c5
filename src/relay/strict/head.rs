//! The head of an HTTP/1 request, line by line, held to the letter of RFC 9112: which lines it may have,
//! and how long the body after it is.
//!
//! Looks at bytes and refuses. Repairs nothing, and leaves the meaning of what it lets pass to hyper.

use http::Uri;

use crate::forwarding::{self, MAX_HEAD_BYTES, MAX_HEADER_FIELDS};

/// How long the body after a head is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// So many bytes.
    Bytes(u64),
    /// Chunks (RFC 9112, section 7.1).
    Chunked,
}

/// Why a request is not taken in. Two programs that read such a request differently are how one request
/// hides another. The text goes to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::relay) enum Malformed {
    /// The first line has another form.
    #[error("the first line is not a method, a target and a version with one blank between them")]
    RequestLine,
    /// Another version, HTTP/0.9 among them.
    #[error("the version is neither HTTP/1.1 nor HTTP/1.0")]
    Version,
    /// A fragment, which some programs cut off and some do not (CVE-2021-32779).
    #[error("the target has a '#'; what follows one is for the client alone and is never sent")]
    Fragment,
    /// A target that is no URI, mostly for a character that must be escaped.
    #[error("the target is no URI: it has a character that must be escaped there")]
    Target,
    /// An end of line that not every program takes for one.
    #[error("a line of the head ends with LF alone, without CR")]
    BareLineFeed,
    /// A header over several lines, or a blank before its name.
    #[error("a line of the head begins with a blank; a header is one line")]
    Folded,
    /// No name, or a blank before the colon.
    #[error("a line of the head has no name, directly followed by a colon")]
    HeaderName,
    /// NUL, CR or another control character.
    #[error("the value of a header has a control character")]
    HeaderValue,
    /// A sign, a list, a hexadecimal number, zeros before it, which some programs take for the sign of an octal one, or
    /// nothing.
    #[error("Content-Length is not one plain number")]
    Length,
    /// Even where they are the same.
    #[error("there are several Content-Lengths")]
    SeveralLengths,
    /// Another coding than chunked, chunked twice, or chunked in HTTP/1.0.
    #[error("Transfer-Encoding is not \"chunked\" alone, or stands in a request of HTTP/1.0")]
    Coding,
    /// Of which some programs go by the one and some by the other.
    #[error("there are both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// The first line alone is larger than a head may be.
    #[error("the target is longer than {} KiB", MAX_HEAD_BYTES / 1024)]
    TargetTooLong,
    /// The head is larger than one may be.
    #[error("the head is larger than {} KiB", MAX_HEAD_BYTES / 1024)]
    HeadTooLarge,
    /// More headers than hyper takes.
    #[error("there are more than {MAX_HEADER_FIELDS} headers")]
    TooManyHeaders,
}

/// A head as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Head {
    has_begun: bool,
    is_http_10: bool,
    fields: usize,
    length: Option<u64>,
    is_chunked: bool,
}

impl Head {
    /// Reads the next line, without its end. At the empty line after the head: the length of its body.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<Length>, Malformed> {
        if !self.has_begun {
            // Empty lines before the first one are skipped (RFC 9112, section 2.2).
            if !line.is_empty() {
                self.is_http_10 = request_line(line)?;
                self.has_begun = true;
            }
            return Ok(None);
        }
        if line.is_empty() {
            return self.end().map(Some);
        }
        self.fields += 1;
        if self.fields > MAX_HEADER_FIELDS {
            return Err(Malformed::TooManyHeaders);
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value).ok_or(Malformed::Length)?;
            if self.length.replace(length).is_some() {
                return Err(Malformed::SeveralLengths);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_http_10 || self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Coding);
            }
            self.is_chunked = true;
        }
        Ok(None)
    }

    /// Whether its first line has come.
    pub(super) const fn has_begun(&self) -> bool {
        self.has_begun
    }

    const fn end(&self) -> Result<Length, Malformed> {
        match (self.length, self.is_chunked) {
            (Some(_), true) => Err(Malformed::LengthAndCoding),
            (Some(length), false) => Ok(Length::Bytes(length)),
            (None, true) => Ok(Length::Chunked),
            (None, false) => Ok(Length::Bytes(0)),
        }
    }
}

/// Checks the first line; whether it is of HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Malformed> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::RequestLine);
    };
    if !is_word(method) || target.is_empty() {
        return Err(Malformed::RequestLine);
    }
    // A plain path is known to be one; for the rest, what hyper would say of it.
    let is_plain = target.first() == Some(&b'/') && !target.iter().any(|byte| is_odd(*byte));
    if !is_plain && (has_control(target) || Uri::try_from(target).is_err()) {
        return Err(Malformed::Target);
    }
    if memchr::memchr(b'#', target).is_some() {
        return Err(Malformed::Fragment);
    }
    match version {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        _ => Err(Malformed::Version),
    }
}

/// Name and value of a header, or of a trailer.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Malformed::Folded);
    }
    let colon = memchr::memchr(b':', line).ok_or(Malformed::HeaderName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_word(name) {
        return Err(Malformed::HeaderName);
    }
    if has_control(value) && value.iter().any(|byte| is_control(*byte) && *byte != b'\t') {
        return Err(Malformed::HeaderValue);
    }
    Ok((name, value.trim_ascii()))
}

/// A number as every program writes and reads it.
fn number(text: &[u8]) -> Option<u64> {
    if !forwarding::is_plain_number(text) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Without a way out at the first, so that many bytes are looked at in one step.
fn has_control(text: &[u8]) -> bool {
    text.iter().fold(false, |has, byte| has | is_control(*byte))
}

fn is_word(text: &[u8]) -> bool {
    !text.is_empty()
        && text
            .iter()
            .fold(true, |is, byte| is & IS_TOKEN[usize::from(*byte)])
}

/// Whether a target could be none because of it. A path or a query may hold all others.
const fn is_odd(byte: u8) -> bool {
    !matches!(byte, b'!' | b'$'..=b';' | b'=' | b'?'..=b'_' | b'a'..=b'z' | b'~')
}

const fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == 0x7f
}

/// Which bytes words of HTTP are made of (RFC 9110, section 5.6.2).
const IS_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x7f {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Option<Length>, Malformed> {
        let mut head = Head::default();
        let mut length = None;
        for line in lines {
            length = head.line(line.as_bytes())?;
        }
        Ok(length)
    }

    #[test]
    fn a_plain_head_tells_the_length_of_its_body() {
        let line = "GET /c/a/b?c#d HTTP/1.1".replace("#d", "");
        let read = |more: &[&str]| read(&[&[&*line, "Host: relay"], more, &[""]].concat());
        assert_eq!(read(&[]), Ok(Some(Length::Bytes(0))));
        assert_eq!(read(&["content-length:17 "]), Ok(Some(Length::Bytes(17))));
        assert_eq!(
            read(&["Transfer-Encoding: Chunked"]),
            Ok(Some(Length::Chunked))
        );
        assert_eq!(
            read(&["X-A:", "X-B: \t\u{e4} "]),
            Ok(Some(Length::Bytes(0)))
        );
    }

    #[test]
    fn empty_lines_before_the_first_are_skipped_and_a_head_without_end_has_no_length() {
        assert_eq!(
            read(&["", "", "GET / HTTP/1.0", ""]),
            Ok(Some(Length::Bytes(0)))
        );
        assert_eq!(read(&["GET / HTTP/1.1", "Host: relay"]), Ok(None));
    }

    #[test]
    fn each_fault_has_its_name() {
        for (line, expected) in [
            ("GET  / HTTP/1.1", Malformed::RequestLine),
            (" GET / HTTP/1.1", Malformed::RequestLine),
            ("GET /", Malformed::RequestLine),
            ("GET / HTTP/1.1 ", Malformed::RequestLine),
            ("G@T / HTTP/1.1", Malformed::RequestLine),
            ("GET /#/../x HTTP/1.1", Malformed::Fragment),
            ("GET /\t HTTP/1.1", Malformed::Target),
            ("GET /<x> HTTP/1.1", Malformed::Target),
            ("GET /` HTTP/1.1", Malformed::Target),
            ("GET /?\" HTTP/1.1", Malformed::Target),
            ("GET http://[x/ HTTP/1.1", Malformed::Target),
            ("GET x:y:z HTTP/1.1", Malformed::Target),
            ("GET / HTTP/1.2", Malformed::Version),
            ("GET / http/1.1", Malformed::Version),
        ] {
            assert_eq!(read(&[line]), Err(expected), "{line}");
        }
        for (lines, expected) in [
            (&[" A: b"][..], Malformed::Folded),
            (&["A : b"], Malformed::HeaderName),
            (&["A"], Malformed::HeaderName),
            (&[": b"], Malformed::HeaderName),
            (&["A: \0"], Malformed::HeaderValue),
            (&["A: b\rC: d"], Malformed::HeaderValue),
            (&["Content-Length: +1"], Malformed::Length),
            (&["Content-Length:"], Malformed::Length),
            (&["Content-Length: 010"], Malformed::Length),
            (&["Content-Length: 18446744073709551616"], Malformed::Length),
            (
                &["Content-Length: 1", "content-length: 1"],
                Malformed::SeveralLengths,
            ),
            (&["Transfer-Encoding: gzip, chunked"], Malformed::Coding),
            (
                &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
                Malformed::Coding,
            ),
            (
                &["Transfer-Encoding: chunked", "Content-Length: 1", ""],
                Malformed::LengthAndCoding,
            ),
            (
                &["Content-Length: 1", "Transfer-Encoding: chunked", ""],
                Malformed::LengthAndCoding,
            ),
            (&["A: b"; MAX_HEADER_FIELDS + 1], Malformed::TooManyHeaders),
        ] {
            let lines = [&["GET / HTTP/1.1"], lines].concat();
            assert_eq!(read(&lines), Err(expected), "{lines:?}");
        }
        let old = ["GET / HTTP/1.0", "Transfer-Encoding: chunked"];
        assert_eq!(read(&old), Err(Malformed::Coding));
    }
}
