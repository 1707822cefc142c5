//! Redeeming an invitation: what the agent asks, what the relay answers, and what each of them signs.
//!
//! Pure. One request and one answer in JSON, specified in `docs/invitation-code.md` and pinned by
//! `tests/vectors/redeem`. Unknown members are ignored, so that either side may be newer. Whether an
//! invitation is still open is the relay's business, not decided here. Never sends a private key: both
//! sides prove with signatures.

mod refusal;

use serde::{Deserialize, Serialize};

use crate::identity::{
    self, ConnectionId, IdentityError, PublicKey, Signature, SigningKey, from_base64, to_base64,
};
use crate::invitation::Invitation;

pub use refusal::RedeemRefusal;

/// The version of request and answer that this module speaks.
pub const VERSION: u32 = 1;
/// The longest request and the longest answer that are read, in bytes: both have a few hundred.
pub const MAX_LENGTH: usize = 4096;
/// The longest project key and the longest program name, in bytes: they are shown in tables and logs.
pub const MAX_TEXT_LENGTH: usize = 128;

/// Length of a nonce, in bytes: never drawn twice.
const NONCE_LENGTH: usize = 32;
/// Begins what an agent signs with the one-time key. A signature made with the same key for any other purpose
/// begins otherwise, so neither can be passed off as the other.
const REQUEST_DOMAIN: &[u8] = b"relay-agent redeem request 1\0";
/// Begins what a relay signs with its identity key in an answer. The relay signs handshakes with that key too: an
/// answer must not pass for a handshake, nor a handshake for an answer.
const ANSWER_DOMAIN: &[u8] = b"relay-agent redeem answer 1\0";

/// What an agent asks of the relay: to become the private side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedeemRequest {
    /// The connection that the invitation is for.
    pub connection: ConnectionId,
    /// The public half of the agent's key for this connection.
    pub agent_key: PublicKey,
    /// Drawn anew for every attempt, so that an old answer does not fit.
    pub nonce: [u8; NONCE_LENGTH],
    /// The private side's project for incoming sync, where one was chosen.
    pub project: Option<String>,
    /// The agent's program and its version.
    pub software: String,
    /// By the one-time key of the invitation.
    pub signature: Signature,
}

/// What the relay says to an agent that it let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedeemAnswer {
    /// The connection that is now complete.
    pub connection: ConnectionId,
    /// When the invitation was first redeemed, in seconds since 1970-01-01T00:00:00Z.
    pub redeemed_at: u64,
    /// Whether the public side has deactivated the connection.
    pub deactivated: bool,
    /// By the relay's identity key.
    pub signature: Signature,
}

/// Why bytes are not a request that this version understands. The sender has to change something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// Not JSON, too long, or a member is missing or has a wrong form.
    #[error("this is not a request to redeem an invitation: {0}")]
    Malformed(String),
    /// The sender is newer than this program.
    #[error("the request has version {0}, and this program knows version {VERSION}")]
    UnsupportedVersion(u32),
}

impl RedeemRequest {
    /// The request to redeem an invitation, signed. `project` must satisfy [`is_showable`].
    ///
    /// # Errors
    /// [`IdentityError::KeyGeneration`] when the machine gives no random bytes.
    pub fn new(
        invitation: &Invitation,
        agent_key: &SigningKey,
        project: Option<String>,
        software: String,
    ) -> Result<Self, IdentityError> {
        let nonce = identity::random_bytes()?;
        Ok(Self::with_nonce(
            invitation.connection,
            &invitation.one_time_key,
            agent_key.public_key(),
            nonce,
            project,
            software,
        ))
    }

    /// As [`new`](Self::new), with a nonce of the caller's: for tests. A nonce must never be used twice.
    #[must_use]
    pub fn with_nonce(
        connection: ConnectionId,
        one_time_key: &SigningKey,
        agent_key: PublicKey,
        nonce: [u8; NONCE_LENGTH],
        project: Option<String>,
        software: String,
    ) -> Self {
        let message = request_message(
            &connection,
            &agent_key,
            &nonce,
            project.as_deref(),
            &software,
        );
        Self {
            connection,
            agent_key,
            nonce,
            project,
            software,
            signature: one_time_key.sign(&message),
        }
    }

    /// Checks that whoever made the request holds the private half of the invitation's one-time key.
    ///
    /// # Errors
    /// [`IdentityError::BadSignature`] when not, or when any part of the request was changed on the way.
    pub fn verify(&self, one_time_key: &PublicKey) -> Result<(), IdentityError> {
        let message = request_message(
            &self.connection,
            &self.agent_key,
            &self.nonce,
            self.project.as_deref(),
            &self.software,
        );
        one_time_key.verify(&message, &self.signature)
    }

    /// The request as sent.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_json(&RequestWire {
            version: VERSION,
            connection: self.connection,
            agent_key: self.agent_key,
            nonce: to_base64(&self.nonce),
            project: self.project.clone(),
            software: self.software.clone(),
            signature: self.signature,
        })
    }

    /// Reads a request; proves nothing yet, see [`verify`](Self::verify).
    ///
    /// # Errors
    /// [`RedeemError`], by whether the sender is newer or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RedeemError> {
        let wire: RequestWire = from_json(bytes)?;
        let malformed = |what: &str| RedeemError::Malformed(what.to_owned());
        let nonce = from_base64(&wire.nonce)
            .ok_or_else(|| malformed("nonce is not 32 bytes of base64url"))?;
        let is_wrong = |text: &String| !is_showable(text);
        if wire.project.as_ref().is_some_and(is_wrong) {
            return Err(malformed("project is too long or not showable"));
        }
        if is_wrong(&wire.software) {
            return Err(malformed("software is too long or not showable"));
        }
        Ok(Self {
            connection: wire.connection,
            agent_key: wire.agent_key,
            nonce,
            project: wire.project,
            software: wire.software,
            signature: wire.signature,
        })
    }
}

impl RedeemAnswer {
    /// The answer to a request, signed.
    #[must_use]
    pub fn new(
        request: &RedeemRequest,
        redeemed_at: u64,
        deactivated: bool,
        relay_identity: &SigningKey,
    ) -> Self {
        let message = answer_message(request, redeemed_at, deactivated);
        Self {
            connection: request.connection,
            redeemed_at,
            deactivated,
            signature: relay_identity.sign(&message),
        }
    }

    /// Checks that the relay which issued the invitation gave this answer to this request.
    ///
    /// # Errors
    /// [`IdentityError::BadSignature`] when it did not.
    pub fn verify(
        &self,
        request: &RedeemRequest,
        relay_identity: &PublicKey,
    ) -> Result<(), IdentityError> {
        if self.connection != request.connection {
            return Err(IdentityError::BadSignature);
        }
        let message = answer_message(request, self.redeemed_at, self.deactivated);
        relay_identity.verify(&message, &self.signature)
    }

    /// The answer as sent.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_json(&AnswerWire {
            version: VERSION,
            connection: self.connection,
            redeemed_at: self.redeemed_at,
            deactivated: self.deactivated,
            signature: self.signature,
        })
    }

    /// Reads an answer; `None` for anything else. Proves nothing yet, see [`verify`](Self::verify).
    #[must_use]
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let wire: AnswerWire = from_json(bytes).ok()?;
        Some(Self {
            connection: wire.connection,
            redeemed_at: wire.redeemed_at,
            deactivated: wire.deactivated,
            signature: wire.signature,
        })
    }
}

/// Whether a text may be sent as project or program: at most [`MAX_TEXT_LENGTH`] bytes, not empty, and no
/// control characters, which would write where they should not in a terminal or a log.
#[must_use]
pub fn is_showable(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TEXT_LENGTH && !text.chars().any(char::is_control)
}

#[derive(Serialize, Deserialize)]
struct VersionWire {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct RequestWire {
    version: u32,
    connection: ConnectionId,
    agent_key: PublicKey,
    nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    software: String,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
struct AnswerWire {
    version: u32,
    connection: ConnectionId,
    redeemed_at: u64,
    deactivated: bool,
    signature: Signature,
}

/// A struct of plain members with names cannot fail to become JSON; an empty body would be refused by the far side.
fn to_json<T: Serialize>(wire: &T) -> Vec<u8> {
    serde_json::to_vec(wire).unwrap_or_default()
}

/// The version first: a newer sender may have changed everything else.
fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RedeemError> {
    if bytes.len() > MAX_LENGTH {
        return Err(RedeemError::Malformed("too long".to_owned()));
    }
    let malformed = |error: serde_json::Error| RedeemError::Malformed(error.to_string());
    let VersionWire { version } = serde_json::from_slice(bytes).map_err(malformed)?;
    if version != VERSION {
        return Err(RedeemError::UnsupportedVersion(version));
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

/// What the one-time key signs.
fn request_message(
    connection: &ConnectionId,
    agent_key: &PublicKey,
    nonce: &[u8; NONCE_LENGTH],
    project: Option<&str>,
    software: &str,
) -> Vec<u8> {
    let mut message = REQUEST_DOMAIN.to_vec();
    // A proof seen for one connection is worth nothing for another.
    message.extend_from_slice(connection.as_bytes());
    // Whoever reads the request on its way (a proxy that ends TLS) cannot put a key of his own in it.
    message.extend_from_slice(agent_key.as_bytes());
    // No two requests are the same, so no two answers are.
    message.extend_from_slice(nonce);
    // Nor can he choose another project.
    match project {
        Some(project) => {
            message.push(1);
            push_text(&mut message, project);
        }
        None => message.push(0),
    }
    push_text(&mut message, software);
    message
}

/// What the relay's identity key signs.
fn answer_message(request: &RedeemRequest, redeemed_at: u64, deactivated: bool) -> Vec<u8> {
    let mut message = ANSWER_DOMAIN.to_vec();
    // An answer for another connection or another agent does not fit.
    message.extend_from_slice(request.connection.as_bytes());
    message.extend_from_slice(request.agent_key.as_bytes());
    // Nor does one that was recorded earlier and is played again.
    message.extend_from_slice(&request.nonce);
    message.extend_from_slice(&redeemed_at.to_be_bytes());
    message.push(u8::from(deactivated));
    message
}

/// The length first, so that no two sequences of texts look alike. Texts are far shorter than four bytes can count.
fn push_text(message: &mut Vec<u8>, text: &str) {
    message.extend_from_slice(&(text.len() as u32).to_be_bytes());
    message.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
