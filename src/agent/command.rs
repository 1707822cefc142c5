//! What may be asked of the running agent's supervisor, each with the channel for its answer.
//!
//! Shared by [`crate::agent::admin`], which asks, and [`crate::agent::supervisor`], which answers;
//! neither knows the other.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::agent::accept::{AcceptError, Acceptance};
use crate::agent::control::TellError;
use crate::agent::doctor::Destination;
use crate::agent::state::StateError;
use crate::agent::status::ConnectionStatus;
use crate::identity::ConnectionId;
use crate::invitation::Invitation;
use crate::name::Name;
use crate::protocol::handshake::Ticket;

/// Commands that may wait at once: as many as the admin socket has connections.
const QUEUE_LENGTH: usize = 32;

/// One request.
#[derive(Debug)]
pub enum Command {
    /// Every connection.
    Connections {
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<ConnectionStatus>>,
    },
    /// Every connection whose record can be read, with where its relay is.
    Destinations {
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<Destination>>,
    },
    /// Redeem an invitation.
    Accept {
        /// What the code says.
        invitation: Box<Invitation>,
        /// This side's project.
        project: Option<String>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Acceptance, AcceptError>>,
    },
    /// Clear or set this side's deactivation.
    SetDeactivated {
        /// The connection's name or id.
        name: String,
        /// Whether it shall be deactivated.
        deactivated: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<ConnectionStatus, CommandError>>,
    },
    /// Remove a connection.
    Remove {
        /// The connection's name or id.
        name: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Removal, CommandError>>,
    },
    /// Give a connection a new identity key.
    Rotate {
        /// The connection's name or id.
        name: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Rotation, CommandError>>,
    },
    /// Announce another process of this agent on every link. Until it is called off nothing is changed here, and
    /// nothing is dialled that has no link.
    Announce {
        /// What it will show.
        ticket: Ticket,
        /// Where the answer goes: the connections whose links are up.
        reply: oneshot::Sender<Result<Vec<ConnectionId>, AnnounceError>>,
    },
    /// There is no such process after all.
    CallOff,
    /// Panic in the task of a connection, to see that no other one notices.
    #[cfg(test)]
    Fail {
        /// The connection's name.
        name: String,
        /// Dropped by the panic.
        reply: oneshot::Sender<()>,
    },
}

/// How a removal went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The connection is gone from here, and the relay knows, or has no need to.
    Done,
    /// No calls pass any more; the relay is told as soon as it can be reached.
    RelayNotToldYet,
    /// Another agent with the same identity holds the link, so this one is a copy: gone from here, and
    /// the relay is not told, because the other one's connection lives on.
    OnlyHere,
}

/// How an order for a new identity key went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The relay has the new key, and it is current here.
    Done {
        /// Its short form.
        fingerprint: String,
    },
    /// There is no link now; it is done on the next one.
    WhenLinked,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// No connection has this name or id.
    #[error("there is no connection called {0:?}")]
    NoSuchConnection(String),
    /// Its record cannot be read.
    #[error("the record of {0:?} cannot be read, so nothing can be changed")]
    Damaged(String),
    /// It is no longer a connection that can be activated.
    #[error("the connection {name:?} has ended: {why}")]
    Ended {
        /// The connection.
        name: String,
        /// Why it ended.
        why: String,
    },
    /// The change could not be written down, so it was not made.
    #[error("the change could not be written down")]
    State(#[source] Arc<StateError>),
    /// The relay is too old to take a new key.
    #[error(
        "the relay of {0:?} does not know how to take a new identity key; the one in use stays good"
    )]
    NoRotation(String),
    /// The new key did not come about. It is tried again by itself.
    #[error("the connection {name:?} keeps its identity key for now: {why}")]
    NotRotated {
        /// The connection.
        name: String,
        /// Why.
        why: String,
    },
    /// The agent is about to stop, or failed.
    #[error("the agent is stopping")]
    Stopping,
}

/// Why another process could not be announced.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// An invitation is being redeemed.
    #[error("an invitation is being accepted; try again when it is")]
    Accepting,
    /// The link has no WebSocket at the moment.
    #[error("the link of {0} has been cut and is being resumed; try again when it is")]
    Cut(Name),
    /// The relay is too old.
    #[error("the relay of {0} takes no second process beside the first; restart the agent instead")]
    Unable(Name),
    /// The relay did not confirm it.
    #[error("the relay of {name} could not be told")]
    NotTold {
        /// The connection.
        name: Name,
        /// Why.
        source: TellError,
    },
    /// A connection's task failed.
    #[error("a connection is being started anew; try again")]
    Restarting,
}

/// The asking end. Clones ask the same supervisor.
#[derive(Debug, Clone)]
pub struct Commands(mpsc::Sender<Command>);

/// A new pair of ends.
#[must_use]
pub fn channel() -> (Commands, mpsc::Receiver<Command>) {
    let (sender, receiver) = mpsc::channel(QUEUE_LENGTH);
    (Commands(sender), receiver)
}

impl Commands {
    /// Sends the command that `make` builds around the answer's channel, and waits for the answer.
    ///
    /// # Errors
    /// [`CommandError::Stopping`] when the supervisor is gone.
    pub async fn ask<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.0
            .send(make(reply))
            .await
            .map_err(|_| CommandError::Stopping)?;
        answer.await.map_err(|_| CommandError::Stopping)
    }

    /// Lets the supervisor go on as before it announced another process.
    pub async fn call_off(&self) {
        // A supervisor that is gone goes on with nothing.
        let _ = self.0.send(Command::CallOff).await;
    }
}
