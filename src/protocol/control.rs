//! Control messages: what the two sides tell each other about the connection, as HTTP requests on the lanes.
//!
//! Never carries anything of a call's content.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handshake::Ticket;

/// The authority of control requests. `~` stands in no [`crate::name::Name`], so no upstream can be
/// called this.
pub const CONTROL_AUTHORITY: &str = "~control";
/// Tells the sender's own activation state.
pub const STATE_PATH: &str = "/v1/state";
/// Tells that the sender removed the connection.
pub const REMOVED_PATH: &str = "/v1/removed";
/// Gives the go-ahead for a call that came with `Expect: 100-continue`.
pub const CONTINUE_PATH: &str = "/v1/continue";
/// Asks the agent to dial a new WebSocket before it leaves this one.
pub const MOVE_PATH: &str = "/v1/move";
/// Tells the relay that the agent is about to stop, and may come back.
pub const LEAVE_PATH: &str = "/v1/leave";
/// Tells the relay that another process of the agent comes.
pub const SUCCESSION_PATH: &str = "/v1/succession";
/// Tells the agent that another machine came with its identity.
pub const DUPLICATE_PATH: &str = "/v1/duplicate";
/// The version of every control message.
pub const CONTROL_VERSION: u32 = 1;
/// How long the other side may take to confirm a message, and to send one whole. It does nothing but write
/// it down, but the link may be cut meanwhile and go on, ten minutes later at the most; when it does not,
/// the message fails at once.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(630);
/// The longest control message; all are well under a hundred bytes.
pub const MAX_CONTROL: usize = 4 * 1024;

/// Body of [`STATE_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateMessage {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Whether the sender's side has deactivated the connection.
    pub deactivated: bool,
}

/// Body of [`REMOVED_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedMessage {
    /// [`CONTROL_VERSION`].
    pub version: u32,
}

/// Body of [`LEAVE_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveMessage {
    /// [`CONTROL_VERSION`].
    pub version: u32,
}

/// Body of [`SUCCESSION_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessionMessage {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// What the other process will show.
    pub ticket: Ticket,
    /// For how many seconds it holds.
    pub within: u64,
}

/// Body of [`CONTINUE_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContinueMessage {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// The call's `relay-request-id`.
    pub request: String,
}

/// Body of [`MOVE_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveMessage {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Within how many seconds, at a moment that the agent draws by lot.
    pub within: u64,
}

/// Body of [`DUPLICATE_PATH`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DuplicateMessage {
    /// [`CONTROL_VERSION`].
    pub version: u32,
    /// Where it came from, as the relay sees it.
    pub address: String,
}
