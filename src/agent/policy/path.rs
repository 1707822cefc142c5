//! Which paths are plain: read the same by every program, whether it decodes first, later or twice.
//!
//! Nothing is repaired here. A path is either plain, and then passes as it is, or it is refused with
//! the reason; a normalised copy would be one more reading.

use std::borrow::Cow;

use http::uri::PathAndQuery;

/// How often an upstream could decode a path over what it should: once too many happens in chains of
/// servers, twice is a theory. What is still encoded after that is refused.
pub(super) const MAX_DECODINGS: usize = 3;

/// Why a path could be read in more than one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguity {
    /// Not a path from the root: an absolute address, or `*`.
    #[error("the path does not begin with '/'")]
    NotFromRoot,
    /// `.` or `..` as a segment, in any encoding; also with blanks or more dots, which some systems drop.
    #[error("the path has a dot segment ('.' or '..', in some encoding)")]
    DotSegment,
    /// `//`: some servers merge the slashes.
    #[error("the path has an empty segment ('//')")]
    EmptySegment,
    /// `%2f`: some servers take it for a separator. A rule can take it all the same.
    #[error("the path has an encoded slash (%2f)")]
    EncodedSlash,
    /// `%3f` or `%23` where a server that decodes before it takes the query off would see another path.
    #[error("the path has an encoded '?' or '#' (%3f, %23) that could lead to another path")]
    EncodedDelimiter,
    /// `\` or `%5c`: some servers take it for a separator.
    #[error("the path has a backslash")]
    Backslash,
    /// `;` or `%3b`: some servers cut a segment there.
    #[error("the path has a semicolon")]
    Semicolon,
    /// A control character, NUL among them, plain or encoded.
    #[error("the path has a control character")]
    ControlCharacter,
    /// `%` that is not followed by two hexadecimal digits.
    #[error("the path has a '%' that is not followed by two hexadecimal digits")]
    InvalidEscape,
    /// `%25…` that would become one of the above when decoded again.
    #[error("the path is encoded twice")]
    EncodedTwice,
    /// Escapes that do not make UTF-8, or characters that should be escaped and are not.
    #[error("the path is not UTF-8 in percent escapes")]
    NotUtf8,
}

impl Ambiguity {
    /// As one word, which does not change.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::NotFromRoot => "not-from-root",
            Self::DotSegment => "dot-segment",
            Self::EmptySegment => "empty-segment",
            Self::EncodedSlash => "encoded-slash",
            Self::EncodedDelimiter => "encoded-delimiter",
            Self::Backslash => "backslash",
            Self::Semicolon => "semicolon",
            Self::ControlCharacter => "control-character",
            Self::InvalidEscape => "invalid-escape",
            Self::EncodedTwice => "encoded-twice",
            Self::NotUtf8 => "not-utf8",
        }
    }
}

/// A path that is plain but for encoded slashes, which rules decide about.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlainPath<'a> {
    text: &'a str,
    has_escapes: bool,
}

impl<'a> PlainPath<'a> {
    /// Checks that a path is plain. The query is not looked at: it cannot reach into the path.
    pub(super) fn read(path_and_query: &'a PathAndQuery) -> Result<Self, Ambiguity> {
        let text = path_and_query.path();
        let path = text.as_bytes();
        if path.first() != Some(&b'/') {
            return Err(Ambiguity::NotFromRoot);
        }
        if !path.is_ascii() {
            return Err(Ambiguity::NotUtf8);
        }
        check_characters(path)?;
        check_segments(path)?;
        let has_escapes = path.contains(&b'%');
        if has_escapes {
            check_escapes(path)?;
        }
        Ok(Self { text, has_escapes })
    }

    /// As it came.
    pub(super) const fn as_str(self) -> &'a str {
        self.text
    }

    pub(super) const fn has_escapes(self) -> bool {
        self.has_escapes
    }

    pub(super) fn has_encoded_slash(self) -> bool {
        self.has_escapes && has_encoded_slash(self.text)
    }

    /// What a server that takes the encoded `?` for the real one would see as the beginning of the query.
    pub(super) fn early_query(self) -> Option<&'a str> {
        let at = self.has_escapes.then(|| find_escape(self.text, b"%3f"))??;
        Some(&self.text[at + 3..])
    }

    /// What is left of the path where a server takes its encoded `?` or `#` for the real one.
    pub(super) fn cuts(self) -> impl Iterator<Item = &'a str> {
        let delimiters: &[&[u8; 3]] = match self.has_escapes {
            true => &[b"%3f", b"%23"],
            false => &[],
        };
        let cut = move |escape: &&[u8; 3]| Some(&self.text[..find_escape(self.text, escape)?]);
        delimiters.iter().filter_map(cut)
    }
}

/// Whether there is a `%2f` in it.
pub(super) fn has_encoded_slash(text: &str) -> bool {
    find_escape(text, b"%2f").is_some()
}

/// Where an escape stands, written with small letters here and with any there.
fn find_escape(text: &str, escape: &[u8; 3]) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes
        .windows(3)
        .position(|it| it.eq_ignore_ascii_case(escape))
}

/// What a text is after as many decodings as change it.
pub(super) fn decode_fully(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..MAX_DECODINGS {
        bytes = decode_leniently(&bytes);
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn check_characters(bytes: &[u8]) -> Result<(), Ambiguity> {
    bytes.iter().try_for_each(|byte| match byte {
        b'\\' => Err(Ambiguity::Backslash),
        b';' => Err(Ambiguity::Semicolon),
        0..=0x1f | 0x7f => Err(Ambiguity::ControlCharacter),
        _ => Ok(()),
    })
}

fn check_segments(path: &[u8]) -> Result<(), Ambiguity> {
    if path.windows(2).any(|pair| pair == b"//") {
        return Err(Ambiguity::EmptySegment);
    }
    let is_dots = |segment: &[u8]| {
        segment.contains(&b'.') && segment.iter().all(|byte| matches!(byte, b'.' | b' '))
    };
    if path.split(|byte| *byte == b'/').any(is_dots) {
        return Err(Ambiguity::DotSegment);
    }
    Ok(())
}

fn check_escapes(path: &[u8]) -> Result<(), Ambiguity> {
    let decoded = decode(path).ok_or(Ambiguity::InvalidEscape)?;
    check_characters(&decoded)?;
    check_segments(&decoded)?;
    if std::str::from_utf8(&decoded).is_err() {
        return Err(Ambiguity::NotUtf8);
    }
    let mut previous = decoded;
    for _ in 1..MAX_DECODINGS {
        // What is no escape by now is a plain percent sign, as in "100%25"; programs that decode over what
        // they should leave it, and decode the others all the same.
        let again = decode_leniently(&previous);
        if again == previous {
            return Ok(());
        }
        let is_plain = check_characters(&again).is_ok() && check_segments(&again).is_ok();
        if !is_plain || delimiters(&again) != delimiters(&previous) {
            return Err(Ambiguity::EncodedTwice);
        }
        previous = again;
    }
    Err(Ambiguity::EncodedTwice)
}

/// How many characters could end a segment or the path.
fn delimiters(bytes: &[u8]) -> usize {
    let is_one = |byte: &&u8| matches!(byte, b'/' | b'?' | b'#');
    bytes.iter().filter(is_one).count()
}

/// The bytes that percent escapes stand for; nothing if one of them is invalid.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'%' => hex_digit(*rest.next()?)? << 4 | hex_digit(*rest.next()?)?,
            plain => *plain,
        });
    }
    Some(decoded)
}

/// The same, where what is no escape stays as it is.
pub(super) fn decode_leniently(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|byte| hex_digit(*byte));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_pass() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/rest/api/2/issue/A-1",
            "/~user/-_.!$&'()*+,=:@/x",
            "/a.b/..c/d../.e",
            "/%41%20%C3%BC",
            "/100%25",
            "/100%25/zz",
            "/%3F%23",
            "/%2541",
            "/a?../..//;\\",
        ] {
            assert_eq!(verdict(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn each_ambiguity_is_named() {
        use Ambiguity::*;
        for (path, expected) in [
            ("*", NotFromRoot),
            ("/.", DotSegment),
            ("/..", DotSegment),
            ("/a/../b", DotSegment),
            ("/a/./b", DotSegment),
            ("/a/%2e%2E/b", DotSegment),
            ("/a/.%2e", DotSegment),
            ("/a/%2e", DotSegment),
            ("/a/.../b", DotSegment),
            ("/a/..%20/b", DotSegment),
            ("//", EmptySegment),
            ("//host/a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a/..%2fb", DotSegment),
            ("/a/%2fb", EmptySegment),
            ("/a%2Fb", EncodedSlash),
            ("/a%5cb", Backslash),
            ("/a/..%5Cb", Backslash),
            ("/a;x=1/b", Semicolon),
            ("/a/..;/b", Semicolon),
            ("/a%3bb", Semicolon),
            ("/a%00", ControlCharacter),
            ("/a%0d%0aHost:x", ControlCharacter),
            ("/a%7f", ControlCharacter),
            ("/a%", InvalidEscape),
            ("/a%4", InvalidEscape),
            ("/a%zz", InvalidEscape),
            ("/a%u002e", InvalidEscape),
            ("/a/%252e%252e/b", EncodedTwice),
            ("/a%252fb", EncodedTwice),
            ("/a%255cb", EncodedTwice),
            ("/a%2500", EncodedTwice),
            ("/a%253b", EncodedTwice),
            ("/a%253fb", EncodedTwice),
            ("/C%2523", EncodedTwice),
            ("/a%25252fb", EncodedTwice),
            ("/a%2525252525fb", EncodedTwice),
            ("/%ff", NotUtf8),
            ("/%c0%ae%c0%ae/", NotUtf8),
            ("/%ed%a0%80", NotUtf8),
            ("/ü", NotUtf8),
        ] {
            assert_eq!(verdict(path), Err(expected), "{path}");
        }
    }

    #[test]
    fn what_the_uri_type_itself_refuses_never_gets_here() {
        for path in ["/a b", "/a\u{0}", "/a\r\nb", "/\u{7f}"] {
            assert!(path.parse::<PathAndQuery>().is_err(), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn a_path_that_passes_has_the_same_segments_however_often_it_is_decoded(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "/", "a", ".", "%2e", "%2F", "%5C", "%25", "2e", "2f", "%00", "%", ";", "%3B", " ", "%20",
                ]),
                0..10,
            )
        ) {
            let text = format!("/{}", pieces.concat());
            let Ok(path) = text.parse::<PathAndQuery>() else { return Ok(()) };
            if PlainPath::read(&path).is_ok_and(|path| !path.has_encoded_slash()) {
                let mut reading = text.into_bytes();
                let slashes = reading.iter().filter(|byte| **byte == b'/').count();
                while let Some(next) = decode(&reading) {
                    if next == reading { break; }
                    reading = next;
                    prop_assert_eq!(slashes, reading.iter().filter(|byte| **byte == b'/').count());
                    for segment in reading.split(|byte| *byte == b'/') {
                        prop_assert!(segment != b"." && segment != b"..");
                    }
                }
            }
        }
    }

    fn verdict(path: &str) -> Result<(), Ambiguity> {
        let path = path.parse().unwrap();
        match PlainPath::read(&path)?.has_encoded_slash() {
            true => Err(Ambiguity::EncodedSlash),
            false => Ok(()),
        }
    }
}
