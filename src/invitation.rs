//! The invitation code: what the public side hands over, once, so that a private side can link to it.
//!
//! Pure: neither clock, files nor network; whether a code has expired, only the relay says. The format
//! is specified in `docs/invitation-code.md` and pinned by `tests/vectors/invitation`. In short:
//!
//! ```text
//! code     = "inv1_" base64url( envelope )            no padding
//! envelope = version(1) length(2) record checksum(4)  length of the whole; checksum: SHA-256, first four bytes
//! record   = connection(16) one-time seed(32) relay identity(32) expires(8) flags(1) mode(1)
//!            [TLS pin(32)] address(1+n) local(1+n) remote(1+n) [name(1+n)]
//! ```
//!
//! The length is what tells a missing piece from a wrong character. There is one code for given
//! values, and decoding refuses every other form. Never panics on any input, and never puts the code,
//! which is a secret, into an error.

mod envelope;
mod record;
mod relay_url;
mod tls_pin;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::identity::{ConnectionId, PublicKey, SigningKey};
use crate::name::Name;
use crate::secret::Secret;

pub use relay_url::{RelayUrl, RelayUrlError};
pub use tls_pin::TlsPin;

/// What an invitation code says.
#[derive(Debug)]
pub struct Invitation {
    /// Where the relay is reached, by redeeming and by the link.
    pub relay_url: RelayUrl,
    /// The connection that redeeming completes.
    pub connection: ConnectionId,
    /// Proves to the relay that its holder was invited. Only its public half is known to the relay.
    pub one_time_key: SigningKey,
    /// The key with which the relay signs what it says, whoever ends TLS on the way.
    pub relay_identity: PublicKey,
    /// The relay's TLS key, where no authority vouches for it.
    pub tls_pin: Option<TlsPin>,
    /// The connection's name.
    pub name: Name,
    /// The public side's short name: the side that issued the code.
    pub local: Name,
    /// The private side's short name: the side that redeems the code.
    pub remote: Name,
    /// How the two sides synchronise.
    pub mode: Mode,
    /// When the code expires by the relay's clock, in seconds since 1970-01-01T00:00:00Z.
    pub expires: u64,
}

/// How the two sides of a connection synchronise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Each side keeps two scripts of its own, for what leaves and for what arrives.
    Script,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script => f.pad("script"),
        }
    }
}

/// Why a text is not an invitation code of this version. Trying the same text again is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// The text is something else.
    #[error("this is not an invitation code; one starts with \"inv1_\"")]
    NotAnInvitation,
    /// As long as it should be, but a character differs from what was issued.
    #[error("the invitation code has a wrong character in it; copy it instead of typing it")]
    Mistyped,
    /// As [`Mistyped`](Self::Mistyped), and the character is one that no code has.
    #[error(
        "the invitation code has a wrong character in it: {character:?}, character number {place}; copy it instead of typing it"
    )]
    StrangeCharacter {
        /// The character that does not belong there.
        character: char,
        /// Its place, counted from 1, white space left out.
        place: usize,
    },
    /// Part of the code was lost on the way.
    #[error("a piece of the invitation code is missing: {have} of {want} characters are here")]
    PieceMissing {
        /// Characters given, white space left out.
        have: usize,
        /// Characters of the whole code; where not even its beginning is whole, of the shortest there is.
        want: usize,
    },
    /// Something was copied along with the code.
    #[error(
        "there is extra text after the invitation code: it has {want} characters, and {have} are here; copy the code alone"
    )]
    TooLong {
        /// Characters given, white space left out.
        have: usize,
        /// Characters of the code.
        want: usize,
    },
    /// The code is whole, and newer than this program.
    #[error("the invitation code has version {0}, and this program knows version 1 only")]
    UnsupportedVersion(u8),
    /// The code is what was issued, and what was issued makes no sense.
    #[error("the invitation code is whole, but its {field} is not valid; ask for a new code")]
    DamagedField {
        /// The field, in words.
        field: &'static str,
    },
}

impl Invitation {
    /// The code, as handed to the private side. Whoever has it can redeem it.
    #[must_use]
    pub fn encode(&self) -> Secret<String> {
        envelope::seal(record::VERSION, record::write(self).expose())
    }

    /// Reads a code, ignoring the white space that mail programs put around and into it.
    ///
    /// # Errors
    /// [`InvitationError`], by what went wrong with the text.
    pub fn decode(text: &str) -> Result<Self, InvitationError> {
        let opened = envelope::open(text)?;
        if opened.version != record::VERSION {
            return Err(InvitationError::UnsupportedVersion(opened.version));
        }
        record::read(opened.record())
    }
}

#[cfg(test)]
mod tests;
