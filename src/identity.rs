//! Who is who: connection ids, Ed25519 keys and signatures, and their text forms.
//!
//! Pure: no clock, no files (but for the child [`key_file`], which says so). Randomness comes from
//! the operating system through `aws-lc-rs`; a key pair is made here and its seed leaves only for the
//! key file or an invitation.

pub mod key_file;

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// Length of an Ed25519 seed and public key, in bytes (RFC 8032, section 5.1).
pub const KEY_LENGTH: usize = 32;
/// Length of an Ed25519 signature, in bytes (RFC 8032, section 5.1.6).
pub const SIGNATURE_LENGTH: usize = 64;
/// Length of a connection id, in bytes: random, so that ids never collide nor tell how many there are.
pub const CONNECTION_ID_LENGTH: usize = 16;

/// Why a text or a run of bytes is not an id, key or signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The text lacks its kind's prefix, or has a wrong length or character.
    #[error("not a {kind}: it should be {prefix:?} followed by base64url of {length} bytes")]
    Malformed {
        /// What was expected, in words.
        kind: &'static str,
        /// The prefix that tells the kind.
        prefix: &'static str,
        /// How many bytes the rest stands for.
        length: usize,
    },
    /// The operating system gave no random bytes, or the key could not be built.
    #[error("the cryptographic library refused to make a key")]
    KeyGeneration,
    /// The signature was not made by this key over this message.
    #[error("the signature does not match")]
    BadSignature,
}

/// Random bytes from the operating system's generator.
///
/// # Errors
/// [`IdentityError::KeyGeneration`] when the generator fails, which means that the machine is unfit.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IdentityError::KeyGeneration)?;
    Ok(bytes)
}

/// Base64url without padding, the text form of every binary value on the wire and on disk.
#[must_use]
pub fn to_base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The reverse of [`to_base64`] for a value of known length.
#[must_use]
pub fn from_base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Gives a fixed-length value its text form: a prefix that tells the kind, then base64url; in serde too.
macro_rules! text_form {
    ($type:ty, $kind:literal, $prefix:literal, $length:expr) => {
        impl $type {
            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// From raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, to_base64(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, IdentityError> {
                text.strip_prefix($prefix)
                    .and_then(from_base64)
                    .map(Self)
                    .ok_or(IdentityError::Malformed {
                        kind: $kind,
                        prefix: $prefix,
                        length: $length,
                    })
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdentityError;

            fn try_from(text: String) -> Result<Self, IdentityError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    };
}

pub(crate) use text_form;

/// Names a connection for machines; people use its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectionId([u8; CONNECTION_ID_LENGTH]);

text_form!(ConnectionId, "connection id", "c_", CONNECTION_ID_LENGTH);

impl ConnectionId {
    /// A new id that no other connection has.
    ///
    /// # Errors
    /// As [`random_bytes`].
    pub fn generate() -> Result<Self, IdentityError> {
        random_bytes().map(Self)
    }
}

/// The public half of an Ed25519 key: an agent's identity, a relay's identity, or an invitation's one-time key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; KEY_LENGTH]);

text_form!(PublicKey, "public key", "pk_", KEY_LENGTH);

impl PublicKey {
    /// Checks that the owner of this key signed `message`.
    ///
    /// # Errors
    /// [`IdentityError::BadSignature`] when it did not.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), IdentityError> {
        UnparsedPublicKey::new(&signature::ED25519, &self.0)
            .verify(message, &signature.0)
            .map_err(|_| IdentityError::BadSignature)
    }

    /// A short form for people: the first eight bytes of the key's SHA-256 in hexadecimal, in four groups.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.0);
        let groups: Vec<String> = digest.as_ref()[..8]
            .chunks(2)
            .map(|pair| format!("{:02x}{:02x}", pair[0], pair[1]))
            .collect();
        groups.join("-")
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature([u8; SIGNATURE_LENGTH]);

text_form!(Signature, "signature", "sig_", SIGNATURE_LENGTH);

/// The private half of an Ed25519 key. Prints only its public half; the seed is wiped on drop.
pub struct SigningKey {
    seed: Secret<[u8; KEY_LENGTH]>,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// [`IdentityError::KeyGeneration`] when the machine gives no random bytes.
    pub fn generate() -> Result<Self, IdentityError> {
        Self::from_seed(random_bytes()?)
    }

    /// The key that a seed stands for (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// [`IdentityError::KeyGeneration`] when the library refuses it.
    pub fn from_seed(seed: [u8; KEY_LENGTH]) -> Result<Self, IdentityError> {
        let seed = Secret::new(seed);
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .map_err(|_| IdentityError::KeyGeneration)?;
        Ok(Self { seed, pair })
    }

    /// The seed, for the key file and the invitation alone.
    #[must_use]
    pub const fn seed(&self) -> &Secret<[u8; KEY_LENGTH]> {
        &self.seed
    }

    /// The half that may be shown.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let mut bytes = [0; KEY_LENGTH];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs a message. Callers put a domain in front of it (see `protocol`), so that a signature
    /// made for one purpose is worth nothing for another.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        let mut bytes = [0; SIGNATURE_LENGTH];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        Signature(bytes)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn signatures_are_those_of_rfc_8032() {
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SigningKey::from_seed(seed).unwrap();
        assert_eq!(
            key.public_key().0,
            hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
        );
        let signature = key.sign(&[0x72]);
        assert_eq!(
            signature.0[..32],
            hex::<32>("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")
        );
        assert_eq!(key.public_key().verify(&[0x72], &signature), Ok(()));
        assert_eq!(
            key.public_key().verify(&[0x73], &signature),
            Err(IdentityError::BadSignature)
        );
    }

    #[test]
    fn text_forms_round_trip_and_are_told_apart() {
        let key = SigningKey::generate().unwrap();
        let text = key.public_key().to_string();
        assert_eq!(text.parse::<PublicKey>(), Ok(key.public_key()));
        let id = ConnectionId::generate().unwrap();
        assert_eq!(id.to_string().parse::<ConnectionId>(), Ok(id));
        assert!(id.to_string().parse::<PublicKey>().is_err());
        assert!(format!("{id}A").parse::<ConnectionId>().is_err());
    }

    #[test]
    fn a_signing_key_prints_only_its_public_half() {
        let key = SigningKey::generate().unwrap();
        let printed = format!("{key:?}");
        assert!(printed.contains(&key.public_key().to_string()));
        assert!(!printed.contains(&to_base64(key.seed().expose())));
    }

    #[test]
    fn a_fingerprint_is_four_groups_of_four() {
        let fingerprint = PublicKey::from_bytes([7; KEY_LENGTH]).fingerprint();
        assert_eq!(fingerprint.len(), 19);
        assert_eq!(fingerprint.split('-').count(), 4);
    }

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
        let bytes: Vec<u8> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect();
        bytes.try_into().unwrap()
    }
}
