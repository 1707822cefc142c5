//! The outer form of a code: prefix, base64url, version, length and checksum.
//!
//! The same for every record version, so that damage is told from novelty. Knows nothing of the record.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{InvitationError, record};
use crate::secret::Secret;

/// What every code of this envelope starts with.
const PREFIX: &str = "inv1_";
/// Version and length.
const HEADER_LENGTH: usize = 3;
/// Characters of base64url that the header takes: 24 bits make four whole characters.
const HEADER_CHARACTERS: usize = 4;
/// Four bytes let one damaged code in four thousand million pass.
const CHECKSUM_LENGTH: usize = 4;
/// The shortest envelope, in bytes: one with an empty record.
const SHORTEST: usize = HEADER_LENGTH + CHECKSUM_LENGTH;
/// The longest envelope, in bytes. Twelve bits, so that the character which the version and the length share
/// holds no length bit that is ever set. A record has at most about 600.
const LONGEST: usize = 0x0fff;

/// An envelope whose checksum was right.
pub(super) struct Opened {
    pub(super) version: u8,
    bytes: Secret<Vec<u8>>,
}

impl Opened {
    /// What is between the header and the checksum.
    pub(super) fn record(&self) -> &[u8] {
        let bytes = self.bytes.expose();
        &bytes[HEADER_LENGTH..bytes.len() - CHECKSUM_LENGTH]
    }
}

/// Makes a code of a record, which must be shorter than [`LONGEST`] by the rest.
pub(super) fn seal(version: u8, record: &[u8]) -> Secret<String> {
    let length = SHORTEST + record.len();
    debug_assert!(length <= LONGEST);
    // Grows no further, so that no copy of the secret is left behind.
    let mut bytes = Vec::with_capacity(length);
    bytes.push(version);
    bytes.extend_from_slice(&length_field(length));
    bytes.extend_from_slice(record);
    bytes.extend_from_slice(&checksum(&bytes));
    let bytes = Secret::new(bytes);
    let body = Secret::new(URL_SAFE_NO_PAD.encode(bytes.expose()));
    Secret::new(format!("{PREFIX}{}", body.expose()))
}

/// Checks a code from outside in, and tells what went wrong at the first layer that is not intact.
pub(super) fn open(text: &str) -> Result<Opened, InvitationError> {
    let text = without_white_space(text);
    let text = text.expose();
    match text.strip_prefix(PREFIX) {
        Some(body) => unseal(body),
        None => Err(why_the_prefix_is_missing(text)),
    }
}

fn unseal(body: &str) -> Result<Opened, InvitationError> {
    let have = body.chars().count();
    let strange = body
        .chars()
        .enumerate()
        .find(|(_, character)| !is_base64url(*character));
    let strange_before = |end: usize| match strange {
        Some((index, character)) if index < end => Err(InvitationError::StrangeCharacter {
            character,
            place: PREFIX.len() + index + 1,
        }),
        Some(_) | None => Ok(()),
    };
    strange_before(HEADER_CHARACTERS)?;
    let Some(header) = body.get(..HEADER_CHARACTERS).and_then(decode) else {
        return Err(piece_missing(have, characters(SHORTEST)));
    };
    let length = usize::from(header.expose()[1]) << 8 | usize::from(header.expose()[2]);
    if !(SHORTEST..=LONGEST).contains(&length) {
        return Err(InvitationError::Mistyped);
    }
    let want = characters(length);
    strange_before(want)?;
    if have != want && is_intact_but_for_the_length(body) {
        return Err(InvitationError::Mistyped);
    }
    if have < want {
        return Err(piece_missing(have, want));
    }
    if have > want {
        return Err(InvitationError::TooLong {
            have: PREFIX.len() + have,
            want: PREFIX.len() + want,
        });
    }
    let bytes = decode(body).ok_or(InvitationError::Mistyped)?;
    if !has_right_checksum(bytes.expose()) {
        return Err(InvitationError::Mistyped);
    }
    Ok(Opened {
        version: bytes.expose()[0],
        bytes,
    })
}

/// The start is not the right one. Where the rest is an intact record, only the start suffered.
fn why_the_prefix_is_missing(text: &str) -> InvitationError {
    if !text.is_empty() && PREFIX.starts_with(text) {
        return piece_missing_of_all(text.len(), PREFIX.len() + characters(SHORTEST));
    }
    let is_intact = |body: &str| unseal(body).is_ok_and(|opened| opened.version == record::VERSION);
    let after_prefix = text.char_indices().nth(PREFIX.len());
    if after_prefix.is_some_and(|(index, _)| is_intact(&text[index..])) {
        return InvitationError::Mistyped;
    }
    for cut in 1..=PREFIX.len() {
        if let Some(body) = text.strip_prefix(&PREFIX[cut..])
            && is_intact(body)
        {
            return piece_missing_of_all(text.len(), text.len() + cut);
        }
    }
    let version = text
        .strip_prefix("inv")
        .and_then(|rest| rest.split_once('_'))
        .and_then(|(version, _)| version.parse().ok());
    match version {
        Some(version) => InvitationError::UnsupportedVersion(version),
        None => InvitationError::NotAnInvitation,
    }
}

/// A wrong character in the length must not look like a lost piece: with the length that the text has, all fits.
fn is_intact_but_for_the_length(body: &str) -> bool {
    let Some(bytes) = decode(body) else {
        return false;
    };
    let bytes = bytes.expose();
    if !(SHORTEST..=LONGEST).contains(&bytes.len()) {
        return false;
    }
    let mut corrected = Vec::with_capacity(bytes.len());
    corrected.push(bytes[0]);
    corrected.extend_from_slice(&length_field(bytes.len()));
    corrected.extend_from_slice(&bytes[HEADER_LENGTH..]);
    has_right_checksum(Secret::new(corrected).expose())
}

fn piece_missing(have: usize, want: usize) -> InvitationError {
    piece_missing_of_all(PREFIX.len() + have, PREFIX.len() + want)
}

const fn piece_missing_of_all(have: usize, want: usize) -> InvitationError {
    InvitationError::PieceMissing { have, want }
}

/// Removes what mail programs and terminals add. More than any code has is cut off: what is left is too long all the same.
fn without_white_space(text: &str) -> Secret<String> {
    let most = PREFIX.len() + characters(LONGEST) + 1;
    let mut kept = String::with_capacity(text.len().min(4 * most));
    kept.extend(text.chars().filter(|c| !is_filling(*c)).take(most));
    Secret::new(kept)
}

/// White space, and characters of no width: joiners, direction marks, soft hyphen, byte order mark.
fn is_filling(character: char) -> bool {
    character.is_whitespace()
        || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

const fn is_base64url(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

/// How many characters of base64url stand for so many bytes.
const fn characters(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

fn decode(text: &str) -> Option<Secret<Vec<u8>>> {
    URL_SAFE_NO_PAD.decode(text).ok().map(Secret::new)
}

/// Two bytes; the length is at most [`LONGEST`], which they hold.
const fn length_field(length: usize) -> [u8; 2] {
    (length as u16).to_be_bytes()
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut checksum = [0; CHECKSUM_LENGTH];
    checksum.copy_from_slice(&digest.as_ref()[..CHECKSUM_LENGTH]);
    checksum
}

/// Whether the last bytes are the checksum of those before; `bytes` has at least [`SHORTEST`].
fn has_right_checksum(bytes: &[u8]) -> bool {
    let (content, found) = bytes.split_at(bytes.len() - CHECKSUM_LENGTH);
    checksum(content) == found
}
