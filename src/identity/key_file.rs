//! A signing key in a file: made once, then loaded.
//!
//! The one child of `identity` that touches files. Three lines of text, mode 0600:
//!
//! ```text
//! relay-agent-key 1
//! public pk_…
//! seed …
//! ```
//!
//! The public half is there so that a damaged seed is noticed instead of becoming another identity.
//! Overwrites a key only where it is told to, never puts a seed into an error, never reads a key that others may read.

use std::path::{Path, PathBuf};

use crate::atomic_file::{self, AtomicFileError};
use crate::identity::{IdentityError, SigningKey, from_base64, to_base64};
use crate::secret::Secret;

/// What the first line says before the version.
const MARK: &str = "relay-agent-key";
/// The version that is written and read.
const VERSION: &str = "1";
/// A key file has about 130 bytes; more than this is something else.
const MAX_LENGTH: usize = 1024;

/// Why a key was not loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written, or is not private.
    #[error("the identity key is not usable")]
    File(#[source] AtomicFileError),
    /// The file is not a key file, or was damaged.
    #[error("{path:?} is damaged or not an identity key file")]
    Malformed {
        /// The file in question.
        path: PathBuf,
    },
    /// The file was written by another version of this program.
    #[error("{path:?} has format version {version:?}, this program reads version {VERSION}")]
    UnsupportedVersion {
        /// The file in question.
        path: PathBuf,
        /// What it says.
        version: String,
    },
    /// The machine could not make a key.
    #[error("could not make an identity key")]
    Key(#[source] IdentityError),
}

/// The key at `path`, or `None` when there is no such file.
///
/// # Errors
/// When the file is not a private file of ours with an intact key in it.
pub fn load(path: &Path) -> Result<Option<SigningKey>, KeyFileError> {
    let content = atomic_file::read_private(path, MAX_LENGTH)
        .map_err(KeyFileError::File)?
        .map(Secret::new);
    content
        .map(|content| parse(path, content.expose()))
        .transpose()
}

/// The key at `path`; a new one, saved there, when there is none. Of several processes that do this at
/// once, all get the same key.
///
/// # Errors
/// As [`load`], and when the file cannot be written.
pub fn load_or_create(path: &Path) -> Result<SigningKey, KeyFileError> {
    if let Some(key) = load(path)? {
        return Ok(key);
    }
    let key = SigningKey::generate().map_err(KeyFileError::Key)?;
    match atomic_file::create(path, content_of(&key).expose().as_bytes(), 0o600) {
        Ok(()) => Ok(key),
        Err(error @ AtomicFileError::Exists { .. }) => load(path)?.ok_or(KeyFileError::File(error)),
        Err(error) => Err(KeyFileError::File(error)),
    }
}

/// Puts a key at `path`, in place of one that is there.
///
/// # Errors
/// [`KeyFileError::File`]; what was there is there then.
pub fn save(path: &Path, key: &SigningKey) -> Result<(), KeyFileError> {
    atomic_file::write(path, content_of(key).expose().as_bytes(), 0o600).map_err(KeyFileError::File)
}

fn content_of(key: &SigningKey) -> Secret<String> {
    let seed = Secret::new(to_base64(key.seed().expose()));
    Secret::new(format!(
        "{MARK} {VERSION}\npublic {}\nseed {}\n",
        key.public_key(),
        seed.expose()
    ))
}

fn parse(path: &Path, content: &[u8]) -> Result<SigningKey, KeyFileError> {
    let malformed = || KeyFileError::Malformed {
        path: path.to_owned(),
    };
    let text = std::str::from_utf8(content).map_err(|_| malformed())?;
    let mut lines = text.lines();
    let mut field = |name: &str| {
        lines
            .next()
            .and_then(|line| line.strip_prefix(name))
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or_else(malformed)
    };
    let version = field(MARK)?;
    if version != VERSION {
        return Err(KeyFileError::UnsupportedVersion {
            path: path.to_owned(),
            version: version.to_owned(),
        });
    }
    let public_key = field("public")?;
    let seed = from_base64(field("seed")?).ok_or_else(malformed)?;
    let key = SigningKey::from_seed(seed).map_err(KeyFileError::Key)?;
    if lines.next().is_some() || key.public_key().to_string() != public_key {
        return Err(malformed());
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_then_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        assert!(load(&path).unwrap().is_none());
        let made = load_or_create(&path).unwrap();
        let loaded = load_or_create(&path).unwrap();
        assert_eq!(made.public_key(), loaded.public_key());
        assert_eq!(made.sign(b"x"), loaded.sign(b"x"));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
    }

    #[test]
    fn processes_that_start_at_once_share_one_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        let keys: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| load_or_create(&path).unwrap().public_key()))
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let key = SigningKey::from_seed([7; 32]).unwrap();
        let expected = "relay-agent-key 1\n\
            public pk_6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw\n\
            seed BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc\n";
        assert_eq!(content_of(&key).expose(), expected);
        let read = parse(Path::new("k"), expected.as_bytes()).unwrap();
        assert_eq!(read.public_key(), key.public_key());
    }

    #[test]
    fn a_damaged_key_is_refused_and_never_becomes_another_identity() {
        let key = SigningKey::from_seed([7; 32]).unwrap();
        let intact = content_of(&key).expose().clone();
        let refused = |text: &str| parse(Path::new("k"), text.as_bytes()).is_err();
        for length in 0..intact.len() - 1 {
            assert!(refused(&intact[..length]), "cut to {length}");
        }
        for (from, to) in [
            ("seed Bw", "seed Cw"),
            ("public pk_6k", "public pk_7k"),
            ("seed ", "seed"),
            ("relay-agent-key", "another-file"),
        ] {
            assert!(refused(&intact.replace(from, to)), "{from} to {to}");
        }
        assert!(refused(&format!("{intact}more\n")));
        assert!(refused(""));
    }

    #[test]
    fn the_version_of_another_program_is_named() {
        let error = parse(Path::new("k"), b"relay-agent-key 2\nanything").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"k\" has format version \"2\", this program reads version 1"
        );
    }

    #[test]
    fn a_key_that_others_may_read_or_a_link_to_a_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        load_or_create(&path).unwrap();
        let link = directory.path().join("link.key");
        symlink(&path, &link).unwrap();
        assert!(matches!(load(&link), Err(KeyFileError::File(_))));
        assert!(matches!(load_or_create(&link), Err(KeyFileError::File(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::File(_))));
    }
}
