//! The pin of a TLS key that no authority vouches for. Never a certificate's: those are renewed with the key kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::identity::{IdentityError, from_base64, text_form, to_base64};

/// Length of a pin, in bytes: that of SHA-256.
const LENGTH: usize = 32;

/// SHA-256 over the DER form of a TLS key's SubjectPublicKeyInfo, as in RFC 7469, section 2.4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TlsPin([u8; LENGTH]);

text_form!(TlsPin, "TLS pin", "pin_", LENGTH);

impl TlsPin {
    /// The pin of a key, given the DER form of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn of_public_key(subject_public_key_info: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, subject_public_key_info);
        let mut bytes = [0; LENGTH];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_the_sha_256_of_the_key_and_has_a_text_form() {
        let pin = TlsPin::of_public_key(b"abc");
        // FIPS 180-2, appendix B.1.
        assert_eq!(pin.as_bytes()[..4], [0xba, 0x78, 0x16, 0xbf]);
        let text = pin.to_string();
        assert!(text.starts_with("pin_"));
        assert_eq!(text.parse(), Ok(pin));
    }
}
