//! What the supervisor asks of a link task, and what it sees of it.

use tokio::sync::{mpsc, oneshot, watch};

use crate::agent::command::{AnnounceError, CommandError, Removal, Rotation};
use crate::agent::state::ConnectionRecord;
use crate::agent::status::ConnectionStatus;
use crate::identity::ConnectionId;
use crate::invitation::{RelayUrl, TlsPin};
use crate::link::LinkHandle;
use crate::protocol::handshake::Ticket;

/// What the supervisor asks of a link task.
#[derive(Debug)]
pub enum Order {
    /// Clear or set this side's deactivation.
    SetDeactivated {
        /// Whether it shall be deactivated.
        deactivated: bool,
        /// Where the answer goes, once it is written down.
        reply: oneshot::Sender<Result<ConnectionStatus, CommandError>>,
    },
    /// Remove the connection.
    Remove {
        /// Where the answer goes, once it is written down and, if the link is up, told.
        reply: oneshot::Sender<Result<Removal, CommandError>>,
    },
    /// Give the connection a new identity key.
    Rotate {
        /// Where the answer goes, once the relay has it, or it has to wait.
        reply: oneshot::Sender<Result<Rotation, CommandError>>,
    },
    /// The invitation was accepted again: this is the record now.
    Adopt {
        /// What is on disk.
        record: Box<ConnectionRecord>,
    },
    /// Tell the relay that another process of this agent comes.
    Announce {
        /// What it will show.
        ticket: Ticket,
        /// Where the answer goes: the connection, if its link is up.
        reply: oneshot::Sender<Result<Option<ConnectionId>, AnnounceError>>,
    },
    /// There is no such process after all.
    CallOff,
    /// Panic, to see that no other connection notices.
    #[cfg(test)]
    Fail {
        /// Dropped by the panic.
        reply: oneshot::Sender<()>,
    },
}

/// How a link task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// The daemon stops.
    Stopped,
    /// The connection was removed, and nothing of it is left.
    Forgotten,
}

/// What the supervisor sees of a link task.
#[derive(Clone)]
pub struct Snapshot {
    /// For people and scripts.
    pub status: ConnectionStatus,
    /// Where the relay is.
    pub relay_url: RelayUrl,
    /// The relay's TLS key, where no authority vouches for it.
    pub tls_pin: Option<TlsPin>,
    /// The live link, if there is one: it knows when the relay was last heard.
    pub handle: Option<LinkHandle>,
}

/// The supervisor's ends of a link task's channels.
pub struct LinkTaskEnds {
    /// Takes orders.
    pub orders: mpsc::Sender<Order>,
    /// Shows the latest snapshot.
    pub snapshot: watch::Receiver<Snapshot>,
}
