//! The file of an export: a head in text, and what the passphrase opens.
//!
//! ```text
//! relay-agent-export 1
//! argon2id 65536 3 1 (salt)         memory in KiB, passes, lanes; 16 bytes
//! chacha20-poly1305 (nonce)         12 bytes
//! (ciphertext and its tag)          base64url in lines
//! ```
//!
//! The key is Argon2id (RFC 9106, version 0x13) of the passphrase and the salt, 32 bytes. The cipher is that of
//! RFC 8439, with the first three lines and their ends as additional data. Binary values are base64url
//! without padding.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

use crate::identity::{IdentityError, from_base64, random_bytes, to_base64};
use crate::secret::Secret;

const MARK: &str = "relay-agent-export";
const VERSION: &str = "1";
const KDF: &str = "argon2id";
const CIPHER: &str = "chacha20-poly1305";
/// What deriving a key costs: the second recommendation of RFC 9106 (64 MiB, 3 passes), on one lane, since agents
/// run on small machines. A guess costs as much.
const COST: Cost = Cost {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 1,
};
/// A file may ask for more than this program would, and not for all of a machine: 1 GiB, 16 passes, 4 lanes.
const DEAREST: Cost = Cost {
    memory_kib: 1024 * 1024,
    passes: 16,
    lanes: 4,
};
/// Characters of a line of the ciphertext, as mail programs like it.
const LINE: usize = 76;
/// The longest file that is opened: a thousand connections have a megabyte.
pub const MAX_LENGTH: usize = 4 * 1024 * 1024;
/// The least that a passphrase must have, in characters. Short ones are guessed, at a few dozen guesses a second
/// on one machine.
pub const SHORTEST_PASSPHRASE: usize = 12;

/// Why a file is not made or not opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is something else, or damaged.
    #[error("this is not an export of an agent, or it is damaged: {0}")]
    Malformed(&'static str),
    /// A later program made it.
    #[error("the export has version {0:?}, and this program reads version {VERSION}")]
    UnsupportedVersion(String),
    /// The passphrase does not open it; that the file was changed cannot be told apart.
    #[error("the passphrase does not open the export, or the file was changed")]
    WrongPassphrase,
    /// It would take this machine too much to open.
    #[error("the export asks for more memory or time than this program gives")]
    TooDear,
    /// The passphrase is short.
    #[error("the passphrase is shorter than {SHORTEST_PASSPHRASE} characters")]
    ShortPassphrase,
    /// The machine gives no random bytes.
    #[error("no key could be made")]
    Key(#[source] IdentityError),
    /// The library refused.
    #[error("the cryptographic library failed")]
    Library,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// Encrypts `plain`.
///
/// # Errors
/// [`EnvelopeError::ShortPassphrase`], [`EnvelopeError::Key`].
pub fn seal(
    plain: &Secret<Vec<u8>>,
    passphrase: &Secret<String>,
) -> Result<Vec<u8>, EnvelopeError> {
    if passphrase.expose().chars().count() < SHORTEST_PASSPHRASE {
        return Err(EnvelopeError::ShortPassphrase);
    }
    let salt = random_bytes().map_err(EnvelopeError::Key)?;
    let nonce = random_bytes().map_err(EnvelopeError::Key)?;
    seal_with(plain, passphrase, COST, salt, nonce)
}

/// Decrypts what [`seal`] made.
///
/// # Errors
/// [`EnvelopeError`]: each says what is wrong with file or passphrase.
pub fn open(file: &[u8], passphrase: &Secret<String>) -> Result<Secret<Vec<u8>>, EnvelopeError> {
    use EnvelopeError::Malformed;

    let text = std::str::from_utf8(file).map_err(|_| Malformed("it is not text"))?;
    let mut ends = text.match_indices('\n').map(|(at, _)| at + 1);
    let Some(head_end) = ends.nth(2) else {
        return Err(Malformed("it has no head"));
    };
    let (head, rest) = text.split_at(head_end);
    let mut lines = head.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    match lines.next().unwrap_or_default().as_slice() {
        [MARK, VERSION] => {}
        [MARK, other] => return Err(EnvelopeError::UnsupportedVersion((*other).to_owned())),
        _ => return Err(Malformed("its first line is another")),
    }
    let (cost, salt) = match lines.next().unwrap_or_default().as_slice() {
        [KDF, memory, passes, lanes, salt] => {
            let number = |text: &str| text.parse().map_err(|_| Malformed("its second line"));
            let cost = Cost {
                memory_kib: number(memory)?,
                passes: number(passes)?,
                lanes: number(lanes)?,
            };
            let salt = from_base64::<16>(salt).ok_or(Malformed("its salt"))?;
            (cost, salt)
        }
        _ => return Err(Malformed("its second line")),
    };
    let nonce = match lines.next().unwrap_or_default().as_slice() {
        [CIPHER, nonce] => from_base64::<12>(nonce).ok_or(Malformed("its nonce"))?,
        _ => return Err(Malformed("its third line")),
    };
    let body: String = rest.split_ascii_whitespace().collect();
    let mut sealed = URL_SAFE_NO_PAD
        .decode(body)
        .map_err(|_| Malformed("its body"))?;
    let key = key(passphrase, cost, &salt)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let plain = key
        .open_in_place(nonce, Aad::from(head.as_bytes()), &mut sealed)
        .map_err(|_| EnvelopeError::WrongPassphrase)?
        .to_vec();
    sealed.zeroize();
    Ok(Secret::new(plain))
}

fn seal_with(
    plain: &Secret<Vec<u8>>,
    passphrase: &Secret<String>,
    cost: Cost,
    salt: [u8; 16],
    nonce: [u8; 12],
) -> Result<Vec<u8>, EnvelopeError> {
    let Cost {
        memory_kib,
        passes,
        lanes,
    } = cost;
    let mut file = format!(
        "{MARK} {VERSION}\n{KDF} {memory_kib} {passes} {lanes} {}\n{CIPHER} {}\n",
        to_base64(&salt),
        to_base64(&nonce)
    );
    let key = key(passphrase, cost, &salt)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    // Room for the tag, so that a growing vector leaves no copy behind.
    let mut sealed = Vec::with_capacity(plain.expose().len() + CHACHA20_POLY1305.tag_len());
    sealed.extend_from_slice(plain.expose());
    key.seal_in_place_append_tag(nonce, Aad::from(file.as_bytes()), &mut sealed)
        .map_err(|_| EnvelopeError::Library)?;
    let text = URL_SAFE_NO_PAD.encode(sealed);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, others) = rest.split_at(rest.len().min(LINE));
        file.push_str(line);
        file.push('\n');
        rest = others;
    }
    Ok(file.into_bytes())
}

fn key(
    passphrase: &Secret<String>,
    cost: Cost,
    salt: &[u8; 16],
) -> Result<LessSafeKey, EnvelopeError> {
    let is_dear = cost.memory_kib > DEAREST.memory_kib
        || cost.passes > DEAREST.passes
        || cost.lanes > DEAREST.lanes;
    if is_dear {
        return Err(EnvelopeError::TooDear);
    }
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
        .map_err(|_| EnvelopeError::Malformed("the cost of its passphrase"))?;
    let mut memory = vec![Block::default(); params.block_count()];
    let mut bytes = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(
            passphrase.expose().as_bytes(),
            salt,
            bytes.as_mut_slice(),
            &mut memory,
        )
        .map_err(|_| EnvelopeError::Library)?;
    memory.iter_mut().for_each(Zeroize::zeroize);
    UnboundKey::new(&CHACHA20_POLY1305, bytes.as_slice())
        .map(LessSafeKey::new)
        .map_err(|_| EnvelopeError::Library)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cheap as Argon2 allows.
    const CHEAP: Cost = Cost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn sealed() -> Vec<u8> {
        let plain = Secret::new(b"what only we know".to_vec());
        seal_with(&plain, &secret("correct horse"), CHEAP, [1; 16], [2; 12]).unwrap()
    }

    #[test]
    fn the_file_is_these_bytes() {
        let golden = include_str!("../../../tests/vectors/export/v1.txt");
        assert_eq!(String::from_utf8(sealed()).unwrap(), golden);
        let plain = open(golden.as_bytes(), &secret("correct horse")).unwrap();
        assert_eq!(plain.expose(), b"what only we know");
    }

    #[test]
    fn another_passphrase_or_a_changed_file_opens_nothing() {
        let file = sealed();
        let refused = open(&file, &secret("correct horsf")).unwrap_err();
        assert_eq!(refused, EnvelopeError::WrongPassphrase);
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(open(&changed, &secret("correct horse")).is_err(), "at {at}");
        }
        for length in 0..file.len() - 1 {
            assert!(open(&file[..length], &secret("correct horse")).is_err());
        }
    }

    #[test]
    fn a_file_that_is_too_dear_or_of_another_version_is_refused_before_it_costs_anything() {
        let text = String::from_utf8(sealed()).unwrap();
        let refused = |from: &str, to: &str| {
            let text = text.replacen(from, to, 1);
            open(text.as_bytes(), &secret("correct horse")).unwrap_err()
        };
        for dear in ["4294967295 1 1", "8 17 1", "8 1 5"] {
            assert_eq!(refused("8 1 1", dear), EnvelopeError::TooDear);
        }
        assert_eq!(
            refused("export 1", "export 2"),
            EnvelopeError::UnsupportedVersion("2".to_owned())
        );
        assert!(matches!(
            refused("argon2id", "pbkdf2"),
            EnvelopeError::Malformed(_)
        ));
    }

    #[test]
    fn a_short_passphrase_is_refused() {
        let plain = Secret::new(Vec::new());
        let refused = seal(&plain, &secret("elevenchars")).unwrap_err();
        assert_eq!(refused, EnvelopeError::ShortPassphrase);
    }
}
