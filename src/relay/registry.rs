//! Every connection in memory, with its live link: what each call looks up, without touching a disk.
//!
//! Filled from the store at start and kept in step by `connections`, which changes the store first.
//! Decides nothing; never waits; its locks are held for a few instructions.

mod connection;
mod go_ahead;
mod link_slot;
mod succession;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

pub use self::connection::{CallPermit, Connection, Duplicate, LinkStatus};
pub use self::go_ahead::{GoAhead, GoAheads};
pub use self::link_slot::{LinkSlot, Live};

use super::clock;
use super::record::{ConnectionRecord, State};
use crate::identity::ConnectionId;
use crate::protocol::handshake::Ticket;

/// What bounds every connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls of one connection that may be under way at once.
    pub calls_in_flight: usize,
    /// Calls of one connection that may wait for its link. Each holds its caller's socket and its request's head.
    pub calls_waiting: usize,
    /// How long after a link was lost the agent counts as reconnecting rather than offline.
    pub redial_grace: Duration,
}

/// Every connection, by id and by name.
#[derive(Debug)]
pub struct Registry {
    index: RwLock<Index>,
    limits: Limits,
    link_changed: Notify,
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<ConnectionId, Arc<Connection>>,
    by_name: HashMap<String, Arc<Connection>>,
    /// Removed here, and when: a late agent is told so.
    tombstones: HashMap<ConnectionId, u64>,
}

/// Why an agent gets no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    /// No such connection.
    #[error("no such connection")]
    Unknown,
    /// Nobody has accepted its invitation.
    #[error("the connection's invitation has not been accepted yet")]
    Pending,
    /// This side revoked its agent, and nobody has accepted it since.
    #[error("the connection's agent has been revoked")]
    Revoked {
        /// In seconds since 1970.
        at: u64,
    },
    /// It was removed, here or by the agent itself.
    #[error("the connection has been removed")]
    Removed {
        /// In seconds since 1970.
        at: u64,
    },
    /// Another link with this identity is up.
    #[error("an agent with this identity is linked already")]
    AlreadyLinked,
}

impl Registry {
    /// The connections that the store holds.
    #[must_use]
    pub fn new(records: Vec<ConnectionRecord>, limits: Limits) -> Self {
        let registry = Self {
            index: RwLock::default(),
            limits,
            link_changed: Notify::new(),
        };
        for record in records {
            registry.put(record);
        }
        registry
    }

    /// The connection that callers and admins mean by this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Connection>> {
        self.read(|index| index.by_name.get(name).cloned())
    }

    /// The connection with this id, unless it was removed here.
    #[must_use]
    pub fn find_by_id(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        self.read(|index| index.by_id.get(&id).cloned())
    }

    /// The connection that an agent may link to, if it proves to have accepted it: its key is in the
    /// record, and [`Registry::reserve_link`] comes next.
    ///
    /// # Errors
    /// Why there is none.
    pub fn admit(&self, id: ConnectionId) -> Result<Arc<Connection>, LinkRefusal> {
        let found = self.read(|index| match index.tombstones.get(&id) {
            Some(at) => Err(LinkRefusal::Removed { at: *at }),
            None => index.by_id.get(&id).cloned().ok_or(LinkRefusal::Unknown),
        })?;
        let record = found.record();
        match (record.state(), record.removed) {
            (State::Removed, removed) => Err(LinkRefusal::Removed {
                at: removed.map_or(0, |removed| removed.at),
            }),
            (State::Pending, _) => Err(record
                .agent_revoked_at
                .map_or(LinkRefusal::Pending, |at| LinkRefusal::Revoked { at })),
            (State::Active | State::Deactivated(_), _) => Ok(found),
        }
    }

    /// All connections that are listed, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Connection>> {
        let mut all: Vec<_> = self.read(|index| index.by_name.values().cloned().collect());
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Takes a new or changed record over from the store; a tombstone takes the connection's place.
    pub fn put(&self, record: ConnectionRecord) -> Option<Arc<Connection>> {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let (true, Some(removed)) = (record.is_tombstone(), record.removed) {
            index.tombstones.insert(record.id, removed.at);
            let gone = index.by_id.remove(&record.id);
            if let Some(gone) = &gone {
                index.by_name.remove(gone.name().as_str());
                gone.set_record(record);
            }
            return gone;
        }
        if let Some(known) = index.by_id.get(&record.id) {
            known.set_record(record);
            return Some(Arc::clone(known));
        }
        let connection = Arc::new(Connection::new(record, self.limits, clock::now()));
        index
            .by_name
            .insert(connection.name().to_string(), Arc::clone(&connection));
        index.by_id.insert(connection.id(), Arc::clone(&connection));
        Some(connection)
    }

    /// Gives the agent's place to one link, and to no second while the slot lives.
    ///
    /// # Errors
    /// [`LinkRefusal::AlreadyLinked`] and [`LinkRefusal::Removed`].
    pub fn reserve_link(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
    ) -> Result<LinkSlot, LinkRefusal> {
        let slot = connection.reserve()?;
        Ok(LinkSlot::new(
            Arc::clone(connection),
            Arc::clone(self),
            slot,
        ))
    }

    /// Gives the agent's place to one link, in place of `former`, whose agent shows no sign of life.
    ///
    /// # Errors
    /// [`LinkRefusal::AlreadyLinked`] when another took it first.
    pub fn replace_link(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        former: &Arc<Live>,
    ) -> Result<LinkSlot, LinkRefusal> {
        let slot = connection.replace(former)?;
        Ok(LinkSlot::new(
            Arc::clone(connection),
            Arc::clone(self),
            slot,
        ))
    }

    /// Gives a place beside the agent's link to the process that was announced under this ticket.
    ///
    /// # Errors
    /// [`LinkRefusal::AlreadyLinked`] when none was, or not lately; [`LinkRefusal::Removed`].
    pub fn succeed_link(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        ticket: Ticket,
    ) -> Result<LinkSlot, LinkRefusal> {
        let slot = connection.succeed(ticket)?;
        Ok(LinkSlot::new(
            Arc::clone(connection),
            Arc::clone(self),
            slot,
        ))
    }

    /// Ends when a link has come up or ended since the last wait. For one waiter, who keeps times on disk:
    /// a relay that takes over knows by them which agents are about to come.
    pub async fn link_changed(&self) {
        self.link_changed.notified().await;
    }

    fn read<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
