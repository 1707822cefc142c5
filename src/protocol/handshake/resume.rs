//! What the handshake says of the session: which one the agent would go on with, and which one goes on.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::HandshakeError;
use crate::identity;
use crate::protocol::frame::LaneCounts;

/// The feature of a side that can go on with a session over another WebSocket.
pub const RESUME: &str = "resume";
/// The feature of an agent that moves to another WebSocket when the relay asks it to.
pub const MOVE: &str = "move";
/// The feature of a side that acknowledges long before half a window is read.
pub const EARLY_ACK: &str = "early-ack";

/// The feature of a relay that lets calls wait for an agent that takes leave.
pub const LEAVE: &str = "leave";

/// Names a session. No secret: only the agent that proves the connection's identity can go on with one.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId([u8; 16]);

/// What an agent offers in its proof: to go on with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeOffer {
    /// Which.
    pub session: SessionId,
    /// How many bytes of each lane the agent has received in it.
    pub received: LaneCounts,
}

/// The relay goes on with the session that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// How many bytes of each lane the relay has received: the agent goes on after these.
    pub received: LaneCounts,
    /// After which byte of each lane the relay goes on.
    pub from: LaneCounts,
}

/// The session that the relay opens, or goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionGrant {
    /// Its name, to be offered after a cut.
    pub id: SessionId,
    /// For how many seconds it is kept without a WebSocket.
    pub resume_window: u64,
}

/// The relay's yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// Whether the public side has deactivated the connection.
    pub deactivated: bool,
    /// The session, when both sides can resume one.
    pub session: Option<SessionGrant>,
    /// Present when it is the one that was offered.
    pub resumed: Option<Resumed>,
}

impl SessionId {
    /// A new name.
    ///
    /// # Errors
    /// [`HandshakeError::Randomness`].
    pub fn generate() -> Result<Self, HandshakeError> {
        identity::random_bytes()
            .map(Self)
            .map_err(HandshakeError::Randomness)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl TryFrom<String> for SessionId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        identity::from_base64(&text)
            .map(Self)
            .ok_or("not 16 bytes in base64url")
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        identity::to_base64(&id.0)
    }
}
