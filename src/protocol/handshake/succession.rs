//! What names an agent process that takes over from another of the same identity.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::HandshakeError;
use crate::identity;

/// The feature of a relay that lets an announced process of an agent link beside the one that is linked.
pub const SUCCESSION: &str = "succession";

/// What an agent process announces its successor under. Worth nothing without the agent's identity key, which
/// whoever shows it has to prove as well.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ticket([u8; 16]);

impl Ticket {
    /// A new one.
    ///
    /// # Errors
    /// [`HandshakeError::Randomness`].
    pub fn generate() -> Result<Self, HandshakeError> {
        identity::random_bytes()
            .map(Self)
            .map_err(HandshakeError::Randomness)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

impl TryFrom<String> for Ticket {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        identity::from_base64(&text)
            .map(Self)
            .ok_or("not 16 bytes in base64url")
    }
}

impl From<Ticket> for String {
    fn from(ticket: Ticket) -> Self {
        identity::to_base64(&ticket.0)
    }
}
