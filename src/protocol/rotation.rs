//! A new identity key for a connection: the message that names it, who must sign it, and what each side
//! makes of it.
//!
//! ```text
//!  agent's disk                 on the link                      relay's store
//!  current A                                                     current A
//!  current A, next B            rotate: A → B ───────────►       current A, next B
//!  current B, previous A        ◄─────────── 204
//!                               handshake with B ────────►       current B, former A
//! ```
//!
//! Each line is one change of one disk. Whichever side crashes between two of them, the relay accepts a key
//! that the agent holds: it drops the old one only when the new one has proved itself, and the agent
//! makes the new one current only when the relay has it. Every step may be repeated. Pure: the children
//! decide, over public keys alone; files and rows are the products'. `docs/protocol.md`, section 5.

mod agent;
mod relay;

use serde::{Deserialize, Serialize};

pub use self::agent::{AgentKeys, AgentStep};
pub use self::relay::{Announcement, FORMER_KEPT, RelayKeys, RotateRefusal, Standing};
use super::handshake::Transcript;
use crate::identity::{ConnectionId, IdentityError, PublicKey, Signature, SigningKey};

/// The feature of a side that can give a connection a new key.
pub const ROTATE: &str = "rotate";
/// Where a new key is announced, on the outward lane.
pub const ROTATE_PATH: &str = "/v1/rotate";
/// The version of [`RotateMessage`].
pub const ROTATE_VERSION: u32 = 1;

/// The domains keep the two signatures apart from each other, and from all others.
const CURRENT_DOMAIN: &[u8] = b"relay-agent rotate v1 current\0";
const NEXT_DOMAIN: &[u8] = b"relay-agent rotate v1 next\0";

/// Names the key that an agent wants to have next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateMessage {
    /// [`ROTATE_VERSION`].
    pub version: u32,
    /// The key that the relay knows.
    pub current: PublicKey,
    /// The key to be accepted beside it.
    pub next: PublicKey,
    /// Made by `current`: its owner wants this.
    pub signature: Signature,
    /// Made by `next`: its owner is the same.
    pub proof: Signature,
}

impl RotateMessage {
    /// Names `next`, for this connection and on the link with this transcript alone.
    #[must_use]
    pub fn new(
        connection: ConnectionId,
        transcript: &Transcript,
        current: &SigningKey,
        next: &SigningKey,
    ) -> Self {
        let keys = [current.public_key(), next.public_key()];
        let sign =
            |key: &SigningKey, domain| key.sign(&signed(domain, connection, keys, transcript));
        let [from, to] = keys;
        Self {
            version: ROTATE_VERSION,
            current: from,
            next: to,
            signature: sign(current, CURRENT_DOMAIN),
            proof: sign(next, NEXT_DOMAIN),
        }
    }

    /// Checks that both keys made this message, for this connection and this link.
    ///
    /// # Errors
    /// [`IdentityError::BadSignature`].
    pub fn verify(
        &self,
        connection: ConnectionId,
        transcript: &Transcript,
    ) -> Result<(), IdentityError> {
        let keys = [self.current, self.next];
        let of = |domain| signed(domain, connection, keys, transcript);
        self.current.verify(&of(CURRENT_DOMAIN), &self.signature)?;
        self.next.verify(&of(NEXT_DOMAIN), &self.proof)
    }
}

fn signed(
    domain: &[u8],
    connection: ConnectionId,
    [current, next]: [PublicKey; 2],
    transcript: &Transcript,
) -> Vec<u8> {
    let parts: [&[u8]; 5] = [
        domain,
        connection.as_bytes(),
        current.as_bytes(),
        next.as_bytes(),
        transcript.as_bytes(),
    ];
    parts.concat()
}

#[cfg(test)]
mod tests;
