//! The link's handshake: its four messages, what is signed, and the steps of each side.
//!
//! One type per awaited message, consumed by the step that handles it, so that a step cannot be
//! skipped or taken twice: `AgentHello` → `AgentProof` on the agent, `RelayChallenge` on the relay.
//! Pure: bytes in, bytes out; who waits how long is decided in `link`. Layout and
//! invariants are in `docs/protocol.md`, section 2.

mod agent;
mod relay;
mod resume;
mod succession;
mod transcript;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::agent::{AgentHello, AgentProof, Established};
pub use self::relay::{Claim, Greeting, Proof, RelayChallenge};
pub use self::resume::{
    Acceptance, EARLY_ACK, LEAVE, MOVE, RESUME, ResumeOffer, Resumed, SessionGrant, SessionId,
};
pub use self::succession::{SUCCESSION, Ticket};
pub use self::transcript::Transcript;
use crate::identity::{self, ConnectionId, IdentityError};

/// Length of the TLS exporter that both signatures cover, in bytes.
pub const EXPORTER_LENGTH: usize = 32;
/// The exporter's label (RFC 8446, section 7.5). Part of the protocol's version.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-relay-agent-link-v1";

const HELLO: u8 = 0x01;
const CHALLENGE: u8 = 0x02;
const PROOF: u8 = 0x03;
const ACCEPTED: u8 = 0x04;
const REFUSED: u8 = 0x05;

/// What ties the signatures to the TLS connection they travel on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// TLS ends in this process, and this is its exporter.
    Exporter([u8; EXPORTER_LENGTH]),
    /// TLS ends elsewhere (a load balancer, an inspecting proxy that the administrator allows), or there is none.
    None,
}

impl Binding {
    const fn name(self) -> BindingName {
        match self {
            Self::Exporter(_) => BindingName::TlsExporter,
            Self::None => BindingName::None,
        }
    }

    fn digest(self) -> Option<Digest> {
        match self {
            Self::Exporter(bytes) => Some(Digest::of(&bytes)),
            Self::None => None,
        }
    }

    const fn bytes(&self) -> &[u8] {
        match self {
            Self::Exporter(bytes) => bytes,
            Self::None => &[],
        }
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exporter(_) => "tls-exporter",
            Self::None => "none",
        })
    }
}

/// What a side tells of itself in the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// Program and version.
    pub software: String,
    /// Optional parts of the protocol that it speaks.
    pub features: Vec<String>,
    /// How many unread bytes of a lane it is ready to hold.
    pub window: u64,
    /// Whether its side has deactivated the connection.
    pub deactivated: bool,
}

impl Introduction {
    /// Whether the side named a feature.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|named| named == feature)
    }
}

/// Why the relay refuses a link. See `docs/protocol.md`, section 2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// No link version in common.
    UnsupportedVersion,
    /// The relay has no such connection.
    UnknownConnection,
    /// The connection was removed on the public side.
    Removed,
    /// The agent's key was revoked.
    Revoked,
    /// The proof was made by a key that this agent has since replaced. Only to agents that named `rotate`.
    Replaced,
    /// The proof was not made by the key that redeemed the invitation.
    BadProof,
    /// Another agent with this identity has a live link.
    AlreadyLinked,
    /// Too many links or handshakes at once.
    Busy,
    /// The relay is about to stop.
    Draining,
    /// A code of a later version; taken as worth another try.
    #[serde(other)]
    Other,
}

impl RefusalCode {
    /// Whether trying again can never succeed, so that the connection must stop, visibly.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::UnknownConnection
            | Self::Removed
            | Self::Revoked
            | Self::Replaced
            | Self::BadProof => true,
            Self::UnsupportedVersion
            | Self::AlreadyLinked
            | Self::Busy
            | Self::Draining
            | Self::Other => false,
        }
    }

    /// Whether it is the key that was refused: another key of the same agent may be accepted.
    #[must_use]
    pub const fn is_of_key(self) -> bool {
        match self {
            Self::BadProof | Self::Replaced | Self::Revoked => true,
            Self::UnknownConnection
            | Self::Removed
            | Self::UnsupportedVersion
            | Self::AlreadyLinked
            | Self::Busy
            | Self::Draining
            | Self::Other => false,
        }
    }

    /// Whether it can be said of a proof alone. `Revoked` can be said before: of all keys of a connection.
    const fn follows_a_proof(self) -> bool {
        self.is_of_key() && !matches!(self, Self::Revoked)
    }
}

/// A signed refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, for the program.
    pub code: RefusalCode,
    /// Why, for people.
    pub text: String,
    /// When another try is welcome, in seconds.
    pub retry_after: Option<u64>,
}

/// What can go wrong in a handshake, by whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// A message that breaks the layout, or another than the awaited one.
    #[error("the other side sent {0}")]
    Malformed(&'static str),
    /// The relay's signature is not that of the identity which the invitation pinned.
    #[error("the relay's signature is not that of the relay which made the invitation")]
    WrongRelay,
    /// The relay's TLS connection is not the agent's: two meet somewhere on the way.
    #[error("something between this machine and the relay opens the TLS connection")]
    Intercepted,
    /// The agent's proof is not that of the key which redeemed the invitation.
    #[error("the agent's proof does not match the key that redeemed the invitation")]
    BadProof,
    /// The relay refused the proof, where nothing bound the proof to one TLS connection: whoever opens
    /// TLS on the way can have brought that about by changing the proof.
    #[error(
        "the relay refused this agent's proof, which anything that opens TLS on the way can have changed; \
         if nothing does, this agent's key is not the one that redeemed the invitation"
    )]
    DoubtfulBadProof,
    /// The relay said no, and it was the relay who said it.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// The peer speaks only other versions of the link.
    #[error("no link version in common: the other side speaks {0:?}")]
    UnsupportedVersion(Vec<u32>),
    /// The machine's generator of random bytes failed.
    #[error("could not make a nonce")]
    Randomness(#[source] IdentityError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum BindingName {
    TlsExporter,
    None,
}

#[derive(Debug, Serialize, Deserialize)]
struct HelloBody {
    versions: Vec<u32>,
    software: String,
    #[serde(default)]
    features: Vec<String>,
    connection: ConnectionId,
    nonce: Nonce,
    binding: BindingName,
    window: u64,
    #[serde(default)]
    deactivated: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChallengeBody {
    version: u32,
    software: String,
    #[serde(default)]
    features: Vec<String>,
    nonce: Nonce,
    /// SHA-256 of the relay's TLS exporter, when both signatures are bound to it.
    exporter: Option<Digest>,
    window: u64,
    time: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProofBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resume: Option<ResumeOffer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    succeeds: Option<Ticket>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AcceptedBody {
    #[serde(default)]
    deactivated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    #[serde(default)]
    resume_window: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resumed: Option<Resumed>,
}

/// 32 bytes that travel as base64url: a nonce or a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Bytes32([u8; 32]);

/// Random bytes that make a handshake unlike any other.
type Nonce = Bytes32;
/// SHA-256 of a TLS exporter.
type Digest = Bytes32;

impl Bytes32 {
    fn generate() -> Result<Self, HandshakeError> {
        identity::random_bytes()
            .map(Self)
            .map_err(HandshakeError::Randomness)
    }

    fn of(bytes: &[u8]) -> Self {
        let mut digest = [0; 32];
        digest
            .copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
        Self(digest)
    }
}

impl TryFrom<String> for Bytes32 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        identity::from_base64(&text)
            .map(Self)
            .ok_or("not 32 bytes in base64url")
    }
}

impl From<Bytes32> for String {
    fn from(bytes: Bytes32) -> Self {
        identity::to_base64(&bytes.0)
    }
}

#[cfg(test)]
mod tests;
