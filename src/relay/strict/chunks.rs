//! A body in chunks, byte by byte, held to the letter of RFC 9112, section 7.1: only to know where it ends.

use super::head;

/// The longest line beside the data: sizes have a few digits, and nobody needs what extensions say
/// (CVE-2024-22019 is a server that read them without end).
const MAX_LINE: usize = 1024;
/// The most bytes that trailers may have.
const MAX_TRAILERS: usize = 8 * 1024;

/// A chunked body as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// The line that is being read, without its end.
    line: Vec<u8>,
    trailer_bytes: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// So many bytes of data are to come.
    Data(u64),
    /// The end of the line after the data.
    DataEnd,
    Trailers,
}

/// The bytes are no chunked body. What of it was passed on cannot be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body's chunks are malformed")]
pub(super) struct Broken;

impl Chunks {
    /// Reads on; how many bytes belong to the body, and whether its end is among them.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(usize, bool), Broken> {
        let mut at = 0;
        while at < bytes.len() {
            if let State::Data(left) = self.state {
                let rest = bytes.len() - at;
                let taken = usize::try_from(left).map_or(rest, |left| left.min(rest));
                at += taken;
                self.state = match left - taken as u64 {
                    0 => State::DataEnd,
                    left => State::Data(left),
                };
                continue;
            }
            let end = memchr::memchr(b'\n', &bytes[at..]);
            let piece = &bytes[at..end.map_or(bytes.len(), |end| at + end)];
            if self.line.len() + piece.len() > MAX_LINE {
                return Err(Broken);
            }
            self.line.extend_from_slice(piece);
            at += piece.len() + usize::from(end.is_some());
            if end.is_some() && self.line_ended()? {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// Takes the line that has ended; whether it was the last one of the body.
    fn line_ended(&mut self) -> Result<bool, Broken> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").ok_or(Broken)?;
        self.state = match self.state {
            State::Size => match size(line)? {
                0 => State::Trailers,
                size => State::Data(size),
            },
            State::DataEnd if line.is_empty() => State::Size,
            State::Trailers if line.is_empty() => return Ok(true),
            State::Trailers => {
                self.trailer_bytes += line.len();
                if self.trailer_bytes > MAX_TRAILERS || head::field(line).is_err() {
                    return Err(Broken);
                }
                State::Trailers
            }
            State::DataEnd | State::Data(_) => return Err(Broken),
        };
        Ok(false)
    }
}

/// The size that a chunk's first line says, before its extensions.
fn size(line: &[u8]) -> Result<u64, Broken> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_plain = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let has_control = line
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t');
    let digits = std::str::from_utf8(digits).map_err(|_| Broken)?;
    match is_plain && !has_control {
        true => u64::from_str_radix(digits, 16).map_err(|_| Broken),
        false => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<(usize, bool), Broken> {
        Chunks::default().read(body.as_bytes())
    }

    #[test]
    fn a_body_ends_where_its_last_chunk_says_in_whatever_pieces_it_comes() {
        let body = "3;a=\"b\"\r\nabc\r\n0000A\r\n0123456789\r\n0\r\nX-A: b\r\n\r\n";
        let more = format!("{body}GET / HTTP/1.1\r\n");
        assert_eq!(read(&more), Ok((body.len(), true)));
        let mut chunks = Chunks::default();
        for (at, byte) in body.bytes().enumerate() {
            let is_last = at + 1 == body.len();
            assert_eq!(chunks.read(&[byte]), Ok((1, is_last)), "{at}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_body() {
        for body in [
            "3\nabc\r\n0\r\n\r\n",
            "3 \r\nabc\r\n0\r\n\r\n",
            "+3\r\nabc\r\n",
            "0x3\r\nabc\r\n",
            "-1\r\n",
            "\r\n",
            ";a\r\n",
            "g\r\n",
            "11111111111111111\r\n",
            "3;a\u{b}\r\nabc\r\n",
            "3;a\rb\r\nabc\r\n",
            "3\r\nabcX\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3\r\nabc0\r\n\r\n",
            "0\r\n X: folded\r\n\r\n",
            "0\r\nX : blank\r\n\r\n",
            "0\r\nX: a\n\r\n",
            &format!("3;{}\r\n", "x".repeat(MAX_LINE)),
            &format!("0\r\n{}", "X: abcdefgh\r\n".repeat(1_000)),
        ] {
            assert_eq!(read(body), Err(Broken), "{body:?}");
        }
    }
}
