//! Finds secrets in what others say, however these spell them, and writes a mask in their place.
//!
//! A service repeats what it was sent in its own words: a name in small letters, an address with other escapes, the
//! address of a login page with the whole of the first address in a parameter. So letters are compared without their
//! case, and percent escapes as what they stand for. What is masked beyond the secret hides nothing that matters.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use crate::secret::Secret;

/// Shorter values are not looked for in answers: they would be found where nobody put them, and who knows
/// that one is masked knows it.
const LEAST_TELLING_BYTES: usize = 6;
/// How many times over a value may be escaped: an address in a parameter of an address in a parameter is the most that
/// is seen.
const MAX_ESCAPES: usize = 3;
/// What stands in the place of a secret.
const MASK: &[u8] = b"***";

/// Each of the values as it is, and in both alphabets of base64. Longest first, so that of what is found the whole is
/// masked and not a part.
pub(super) fn spellings<const N: usize>(values: [&[u8]; N]) -> Vec<Secret<Vec<u8>>> {
    let mut all: Vec<Vec<u8>> = Vec::with_capacity(5 * N);
    for value in values {
        if value.len() < LEAST_TELLING_BYTES {
            continue;
        }
        all.push(value.to_vec());
        for alphabet in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
            all.push(alphabet.encode(value).into_bytes());
        }
    }
    all.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    all.dedup();
    all.into_iter().map(Secret::new).collect()
}

/// Whether one of the secrets is in `bytes`.
pub(super) fn tells(bytes: &[u8], secrets: &[Secret<Vec<u8>>]) -> bool {
    let mut secrets = secrets.iter();
    secrets.any(|secret| find(bytes, secret.expose()).is_some())
}

/// `bytes` with a mask for each of the secrets, longest first; nothing when there is none in them.
pub(super) fn without(bytes: &[u8], secrets: &[Secret<Vec<u8>>]) -> Option<Vec<u8>> {
    let mut masked: Option<Vec<u8>> = None;
    for secret in secrets {
        let bytes = masked.as_deref().unwrap_or(bytes);
        if let Some(less) = replaced(bytes, secret.expose()) {
            masked = Some(less);
        }
    }
    masked
}

/// `bytes` with a mask for each `secret`, if there is one in them.
fn replaced(bytes: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    let mut without = Vec::new();
    let mut rest = bytes;
    while let Some((at, length)) = find(rest, secret) {
        let (before, found) = rest.split_at(at);
        without.extend_from_slice(before);
        without.extend_from_slice(MASK);
        rest = found.get(length..).unwrap_or_default();
    }
    if without.is_empty() {
        return None;
    }
    without.extend_from_slice(rest);
    Some(without)
}

/// Where the first `secret` begins, and how long it is there.
fn find(bytes: &[u8], secret: &[u8]) -> Option<(usize, usize)> {
    // No spelling is shorter than the secret itself, and most of what an answer says is.
    if bytes.len() < secret.len() {
        return None;
    }
    let (one, other) = match *secret.first()? {
        b' ' => (b' ', b'+'),
        first => (first.to_ascii_lowercase(), first.to_ascii_uppercase()),
    };
    memchr::memchr3_iter(one, other, b'%', bytes).find_map(|at| {
        let from_here = bytes.get(at..)?;
        let spelled = |escapes| begins_with(from_here, secret, escapes);
        let length = (0..=MAX_ESCAPES).find_map(spelled)?;
        Some((at, length))
    })
}

/// How many of the first bytes spell the secret, if they do, when each of them is escaped up to so many times over.
fn begins_with(bytes: &[u8], secret: &[u8], escapes: usize) -> Option<usize> {
    let mut length = 0;
    for expected in secret {
        let (byte, taken) = unescaped(bytes.get(length..)?, escapes)?;
        // A form's way to write a blank.
        let is_blank = *expected == b' ' && byte == b'+';
        if !byte.eq_ignore_ascii_case(expected) && !is_blank {
            return None;
        }
        length += taken;
    }
    Some(length)
}

/// The first byte, and how many stand for it.
fn unescaped(bytes: &[u8], escapes: usize) -> Option<(u8, usize)> {
    let mut byte = *bytes.first()?;
    let mut taken = 1;
    for _ in 0..escapes {
        let digits = bytes.get(taken..taken + 2).filter(|_| byte == b'%');
        let Some(value) = digits.and_then(hexadecimal) else {
            break;
        };
        byte = value;
        taken += 2;
    }
    Some((byte, taken))
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    // `from_str_radix` would take a sign.
    let are_digits = digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| are_digits)?;
    u8::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secret: &str, said: &str) -> String {
        let masked = without(said.as_bytes(), &spellings([secret.as_bytes()]));
        String::from_utf8(masked.unwrap_or_else(|| said.into())).unwrap()
    }

    #[test]
    fn a_secret_is_found_in_any_case_and_with_any_escapes() {
        for (secret, said, expected) in [
            ("Swordfish", "x-swordfish", "x-***"),
            ("swordfish", "SWORDFISH and Swordfish", "*** and ***"),
            ("a/b+c=d e", "k=a%2fb%2Bc%3dd%20e&l", "k=***&l"),
            ("a/b+c=d e", "k=a/b%2bc=d+e", "k=***"),
            (
                "a/b+c=d e",
                "?next=%2F%3Fk%3Da%252Fb%252Bc%253Dd%2Be",
                "?next=%2F%3Fk%3D***",
            ),
            ("a/b+c=d e", "a%25252Fb%25252Bc%25253Dd%252520e.", "***."),
            ("%41bcdef", "x%41bcdefx", "x***x"),
            ("%41bcdef", "x%2541bcdefx", "x***x"),
            ("swordfish", "%73%77%6F%72%64%66%69%73%68", "***"),
            // As base64 of it, which has characters that are escaped.
            ("swordfish?>", "c3dvcmRmaXNoPz4%3D", "***"),
            ("?>?>?>?>", "Pz4%2FPj8%2BPz4", "***"),
            (" blank", "x+blank", "x***"),
        ] {
            assert_eq!(masked(secret, said), expected, "{secret} in {said}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for (secret, said) in [
            ("swordfish", ""),
            ("swordfish", "swordfis"),
            ("swordfish", "swordfis%6"),
            ("swordfish", "%%%%%%%%%%%%%%%%"),
            ("swordfish", "s%2Bwordfish"),
            ("a+b+c+d", "a b c d"),
            ("abcdef", "%+1bcdef"),
            ("short", "short"),
        ] {
            assert_eq!(masked(secret, said), said, "{secret} in {said}");
        }
        assert!(!tells(b"x-swordfis", &spellings([b"swordfish"])));
        assert!(tells(b"x-swordfish-y", &spellings([b"SwordFish"])));
    }
}
