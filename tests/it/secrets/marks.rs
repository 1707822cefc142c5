//! Secrets that are easy to find again, in every spelling in which a program may let them slip.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Marked secrets, each with what it is.
#[derive(Default)]
pub(crate) struct Marks(Vec<(String, Vec<Vec<u8>>)>);

/// Something to search, with where it comes from.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

impl Marks {
    /// One more.
    pub(crate) fn add(&mut self, what: &str, secret: impl AsRef<[u8]>) {
        self.0.push((what.to_owned(), spellings(secret.as_ref())));
    }

    /// That none of them is in any of the places.
    pub(crate) fn assert_absent(&self, places: &[Place]) {
        for place in places {
            if let Some(what) = self.found_in(&place.bytes) {
                panic!(
                    "{what} is in {}:\n{}",
                    place.name,
                    String::from_utf8_lossy(&place.bytes)
                );
            }
        }
    }

    fn found_in(&self, bytes: &[u8]) -> Option<&str> {
        let holds = |spelling: &Vec<u8>| memchr::memmem::find(bytes, spelling).is_some();
        let mut marks = self.0.iter();
        let found = marks.find(|(_, spellings)| spellings.iter().any(holds));
        found.map(|(what, _)| what.as_str())
    }
}

/// As it is; in hexadecimal digits; in percent escapes; in base64, wherever in the encoded text it begins; and as a
/// debug output shows bytes.
fn spellings(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = |upper: bool| -> String {
        let digit = |byte: &u8| {
            if upper {
                format!("{byte:02X}")
            } else {
                format!("{byte:02x}")
            }
        };
        secret.iter().map(digit).collect()
    };
    let escaped = |upper: bool| -> String {
        let escape = |byte: &u8| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(*byte).to_string()
            }
            _ if upper => format!("%{byte:02X}"),
            _ => format!("%{byte:02x}"),
        };
        secret.iter().map(escape).collect()
    };
    let debugged: Vec<String> = secret.iter().map(u8::to_string).collect();
    let mut all = vec![
        secret.to_vec(),
        hex(false).into_bytes(),
        hex(true).into_bytes(),
        escaped(false).into_bytes(),
        escaped(true).into_bytes(),
        debugged.join(", ").into_bytes(),
    ];
    for alphabet in [&STANDARD, &URL_SAFE] {
        for before in 0..3 {
            let shifted = [&vec![0; before][..], secret].concat();
            let encoded = alphabet.encode(&shifted).into_bytes();
            // Without the characters that what stands before and after has a part in.
            let begin = [0, 2, 3][before];
            let end = shifted.len() * 8 / 6;
            all.push(encoded[begin..end].to_vec());
        }
    }
    all
}

#[test]
fn a_mark_is_found_in_every_spelling_and_place() {
    let mut marks = Marks::default();
    marks.add("the mark", "marked+of/it~");
    for hidden in [
        "x marked+of/it~ x".to_owned(),
        format!("Basic {}", STANDARD.encode("a:marked+of/it~")),
        format!("Basic {}", STANDARD.encode("ab:marked+of/it~ and more")),
        format!("Basic {}", URL_SAFE.encode("abc:marked+of/it~")),
        "?key=marked%2Bof%2fit~".replace("2f", "2F"),
        "?key=marked%2bof%2fit~".to_owned(),
        format!("{:?}", b"marked+of/it~"),
        "6d61726b65642b6f662f69747e".to_owned(),
    ] {
        assert_eq!(
            marks.found_in(hidden.as_bytes()),
            Some("the mark"),
            "{hidden}"
        );
    }
    for plain in ["", "marked", "marked+of/it", "bWFya2Vk"] {
        assert_eq!(marks.found_in(plain.as_bytes()), None, "{plain}");
    }
}
