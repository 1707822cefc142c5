//! The chain that the lines of the audit log form: each carries its number, the hash of the line before
//! and its own.
//!
//! Pure: values in, bytes out. The format is that of `docs/audit.md`, with golden vectors below.
//!
//! ```text
//! {"v":1,"seq":7,"time":"…","kind":"call",…,"prev":"<hash of line 6>","hash":"<hash of all before ,"hash">"}
//! ```

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// The version of the format.
pub(super) const VERSION: u32 = 1;
/// The longest line that is read back, in bytes; what callers choose is cut long before. Nothing longer is written.
pub(super) const MAX_LINE: usize = 256 * 1024;

const HASH_LENGTH: usize = 32;
/// What stands between the bytes that are hashed and their hash.
const HASH_KEY: &[u8] = b",\"hash\":\"";
const LINE_END: &[u8] = b"\"}";

/// The SHA-256 of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; HASH_LENGTH]);

/// A text that is not a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits in lower case")]
pub struct NotAHash;

/// How far a chain has come: the number and the hash of its last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last line; zero before the first.
    pub sequence: u64,
    /// Its hash; all zero before the first.
    pub hash: Hash,
}

/// A line that is whole by itself: its hash is that of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    /// The chain with this line.
    pub head: Head,
    /// The hash of the line before, as this one has it.
    pub previous: Hash,
    /// When it was written, as it says.
    pub time: String,
    /// What else must be known to follow a chain.
    pub kind: Kind,
}

/// What a line means for the chain itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// It tells how long what stands before it is that is not whole, and its hash.
    Torn {
        /// Bytes after the last whole line, as they were found.
        bytes: u64,
        /// The hash of these bytes.
        hash: Hash,
    },
    /// It tells up to which line earlier files were removed.
    Pruned {
        /// The last line that was removed.
        through: u64,
    },
    /// It tells something else.
    Other,
}

/// Why a line is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It does not end as every line does, with its hash.
    #[error("does not end with a hash")]
    NoHash,
    /// Its bytes are not those that were hashed.
    #[error("was changed: its hash is not that of its bytes")]
    Changed,
    /// Its version is not ours.
    #[error("has a version that this program does not know")]
    Version,
    /// It lacks what every line has.
    #[error("lacks what every line has")]
    Incomplete,
}

/// Why a line cannot be made, which is a defect.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    /// Its members cannot be written.
    #[error("its members cannot be written")]
    Members(#[source] serde_json::Error),
    /// It would not be read back.
    #[error("it would have {0} bytes, and none may have more than {MAX_LINE}")]
    TooLong(usize),
}

#[derive(Deserialize)]
struct Read {
    v: u32,
    seq: u64,
    time: String,
    kind: String,
    prev: String,
    through: Option<u64>,
    torn_bytes: Option<u64>,
    torn_hash: Option<String>,
}

impl Hash {
    /// The hash of bytes.
    #[must_use]
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; HASH_LENGTH];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self(hash)
    }

    fn push_to(self, line: &mut Vec<u8>) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in self.0 {
            line.push(DIGITS[usize::from(byte >> 4)]);
            line.push(DIGITS[usize::from(byte & 15)]);
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let is_ours = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 2 * HASH_LENGTH || !text.bytes().all(is_ours) {
            return Err(NotAHash);
        }
        let mut hash = [0; HASH_LENGTH];
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| NotAHash)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(hash))
    }
}

impl Head {
    /// A chain without lines.
    pub const BEGINNING: Self = Self {
        sequence: 0,
        hash: Hash([0; HASH_LENGTH]),
    };

    /// Writes the chain's next line to the end of `lines`: its time, and the members that `fields`
    /// serialises to, which must be an object with a `kind`.
    ///
    /// # Errors
    /// When `fields` cannot be serialised, or the line would be too long; `lines` may then end with part of a line.
    pub(super) fn seal(
        self,
        time: &str,
        fields: &impl Serialize,
        lines: &mut Vec<u8>,
    ) -> Result<Self, SealError> {
        let begin = lines.len();
        let sequence = self.sequence + 1;
        // Writing to memory does not fail.
        let _ = write!(
            lines,
            "{{\"v\":{VERSION},\"seq\":{sequence},\"time\":\"{time}\""
        );
        let open = lines.len();
        serde_json::to_writer(&mut *lines, fields).map_err(SealError::Members)?;
        // Their braces go, so that they stand among the line's own.
        lines[open] = b',';
        lines.pop();
        lines.extend_from_slice(b",\"prev\":\"");
        self.hash.push_to(lines);
        lines.push(b'"');
        let hash = Hash::of(&lines[begin..]);
        lines.extend_from_slice(HASH_KEY);
        hash.push_to(lines);
        lines.extend_from_slice(LINE_END);
        let length = lines.len() - begin;
        if length > MAX_LINE {
            return Err(SealError::TooLong(length));
        }
        lines.push(b'\n');
        Ok(Self { sequence, hash })
    }

    /// Whether a line is the next one of this chain.
    #[must_use]
    pub(super) fn is_followed_by(&self, line: &Sealed) -> bool {
        line.head.sequence == self.sequence + 1 && line.previous == self.hash
    }
}

/// Reads a line, without the line break at its end.
///
/// # Errors
/// [`Flaw`] when it is not a whole line of this format.
pub(super) fn read(line: &[u8]) -> Result<Sealed, Flaw> {
    let tail = HASH_KEY.len() + 2 * HASH_LENGTH + LINE_END.len();
    let (hashed, tail) = line
        .len()
        .checked_sub(tail)
        .and_then(|length| line.split_at_checked(length))
        .ok_or(Flaw::NoHash)?;
    let hash: Hash = tail
        .strip_prefix(HASH_KEY)
        .and_then(|tail| tail.strip_suffix(LINE_END))
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .ok_or(Flaw::NoHash)?;
    if Hash::of(hashed) != hash {
        return Err(Flaw::Changed);
    }
    let read: Read = serde_json::from_slice(line).map_err(|_| Flaw::Incomplete)?;
    if read.v != VERSION {
        return Err(Flaw::Version);
    }
    let kind = match (read.kind.as_str(), read.torn_bytes, read.torn_hash) {
        ("torn", Some(bytes), Some(hash)) => Kind::Torn {
            bytes,
            hash: hash.parse().map_err(|_| Flaw::Incomplete)?,
        },
        ("torn", ..) => return Err(Flaw::Incomplete),
        ("pruned", ..) => Kind::Pruned {
            through: read.through.ok_or(Flaw::Incomplete)?,
        },
        _ => Kind::Other,
    };
    Ok(Sealed {
        head: Head {
            sequence: read.seq,
            hash,
        },
        previous: read.prev.parse().map_err(|_| Flaw::Incomplete)?,
        time: read.time,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::agent::audit::line::{Call, Daemon, Decision, Fields, Finish, Outcome};

    const GOLDEN: &str = include_str!("../../../tests/vectors/audit/chain.jsonl");

    #[test]
    fn the_bytes_of_a_chain_are_those_of_the_vectors() {
        let daemon = || Daemon {
            software: "relay-agent/0.1.0",
            process: 4711,
        };
        let call = Call {
            connection: "acme_to_widgets",
            caller: Some("reports"),
            request: Some("r-1"),
            request_id: None,
            upstream: "jira",
            method: "GET",
            websocket: false,
            path: "/rest/api/2/issue/A%2D1",
            query: Some("fields=<redacted>".to_owned()),
            rule: Some("allow 1: GET /rest/api/2/issue/{key}"),
            decision: Decision::Allowed,
            candidate: None,
            reason: None,
            detail: None,
            status: Some(200),
            request_bytes: 0,
            response_bytes: 1024,
            duration_ms: 12.345,
            outcome: Outcome::Known,
            end: Some(Finish::Whole),
            cut: BTreeMap::new(),
        };
        let denied = Call {
            caller: None,
            path: "/admin/\"x\"",
            query: None,
            rule: Some("deny 1: /admin/{*rest}"),
            decision: Decision::Denied,
            reason: Some("denied-by-policy"),
            detail: Some("a rule of the private side denies this call"),
            status: Some(403),
            response_bytes: 0,
            ..call.clone()
        };
        let open = Call {
            end: None,
            ..call.clone()
        };
        let lines = [
            Fields::Start(daemon()),
            Fields::Call(call),
            Fields::Call(denied),
            Fields::Open(open),
            Fields::Torn {
                torn_bytes: 7,
                torn_hash: Hash::of(b"{\"v\":1,").to_string(),
            },
            Fields::Pruned {
                through: 3,
                files: 1,
            },
            Fields::Resumed {
                since: "2026-01-01T00:00:00.000Z",
                refused: 9,
                why: "the file system of \"/x\" is full; make room on it",
            },
            Fields::Stop(daemon()),
        ];
        let mut written = Vec::new();
        let mut head = Head::BEGINNING;
        for (at, fields) in lines.iter().enumerate() {
            if at == 4 {
                written.extend_from_slice(b"{\"v\":1,\n");
            }
            let time = format!("2026-01-01T00:00:0{at}.000Z");
            head = head.seal(&time, fields, &mut written).unwrap();
        }
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, GOLDEN);
    }

    #[test]
    fn a_line_that_is_not_whole_says_why() {
        let line = GOLDEN.lines().nth(1).unwrap();
        assert!(read(line.as_bytes()).is_ok());
        let flaw = |line: &str| read(line.as_bytes()).unwrap_err();
        assert_eq!(flaw(""), Flaw::NoHash);
        assert_eq!(flaw(&line[..line.len() - 1]), Flaw::NoHash);
        assert_eq!(flaw(&line.replace("1024", "1025")), Flaw::Changed);
        let other_version = sealed("{\"v\":2,\"seq\":1,\"time\":\"\",\"kind\":\"x\",\"prev\":\"\"");
        assert_eq!(flaw(&other_version), Flaw::Version);
        let incomplete = sealed("{\"v\":1,\"seq\":1,\"kind\":\"x\",\"prev\":\"\"");
        assert_eq!(flaw(&incomplete), Flaw::Incomplete);
    }

    #[test]
    fn no_line_is_made_that_would_not_be_read_back() {
        let too_long = serde_json::json!({ "kind": "x".repeat(MAX_LINE) });
        let made = Head::BEGINNING.seal("t", &too_long, &mut Vec::new());
        assert!(matches!(made, Err(SealError::TooLong(_))));
    }

    fn sealed(hashed: &str) -> String {
        format!("{hashed},\"hash\":\"{}\"}}", Hash::of(hashed.as_bytes()))
    }
}
