//! An agent's one place on its connection: held while its link is set up and lives, freed on drop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::Connection;
use super::go_ahead::GoAheads;
use super::{LinkRefusal, Registry};
use crate::link::LinkHandle;
use crate::link::http2::LaneClient;
use crate::relay::clock;

/// A link that is up, though perhaps without a WebSocket at the moment.
pub struct Live {
    /// When it came up, in seconds since 1970.
    pub since: u64,
    /// The agent's program and version.
    pub software: String,
    /// Sends calls and control messages down the link.
    pub client: LaneClient,
    /// Closes and observes the link.
    pub handle: LinkHandle,
    /// Calls whose callers wait to be told to go on (`Expect: 100-continue`).
    pub go_aheads: GoAheads,
    /// Whether the agent takes leave, and calls had better wait for its next link.
    is_leaving: AtomicBool,
    /// Where the agent, or the last proxy before the relay, comes from; and how often it came back.
    origin: Mutex<(SocketAddr, u64)>,
}

impl Live {
    /// A link that has just come up.
    #[must_use]
    pub const fn new(
        since: u64,
        address: SocketAddr,
        software: String,
        client: LaneClient,
        handle: LinkHandle,
        go_aheads: GoAheads,
    ) -> Self {
        Self {
            since,
            software,
            client,
            handle,
            go_aheads,
            is_leaving: AtomicBool::new(false),
            origin: Mutex::new((address, 0)),
        }
    }

    /// The agent takes leave: it finishes what is under way, and may come back with another link.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    /// Whether calls can be sent down the link now.
    #[must_use]
    pub fn takes_calls(&self) -> bool {
        !self.handle.is_away() && !self.is_leaving.load(Ordering::Relaxed)
    }

    /// Where the agent, or the last proxy before the relay, comes from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.origin().0
    }

    /// How often the link has gone on over another WebSocket.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.origin().1
    }

    /// The link goes on over a WebSocket from here.
    pub fn moved_to(&self, address: SocketAddr) {
        let mut origin = self.origin();
        *origin = (address, origin.1 + 1);
    }

    fn origin(&self) -> MutexGuard<'_, (SocketAddr, u64)> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("since", &self.since)
            .field("address", &self.address())
            .field("software", &self.software)
            .finish_non_exhaustive()
    }
}

/// The place of an agent's link. While it lives, a second link of the same agent is refused, unless this
/// one gave way to it.
#[derive(Debug)]
pub struct LinkSlot {
    connection: Arc<Connection>,
    registry: Arc<Registry>,
    number: u64,
}

impl LinkSlot {
    pub(super) const fn new(
        connection: Arc<Connection>,
        registry: Arc<Registry>,
        number: u64,
    ) -> Self {
        Self {
            connection,
            registry,
            number,
        }
    }

    /// The connection whose slot it is.
    #[must_use]
    pub const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The link carries calls from now on, until the slot is dropped.
    ///
    /// # Errors
    /// [`LinkRefusal::Removed`] when the connection was removed while the link was set up; the link
    /// must be closed with that reason.
    pub fn establish(&self, live: &Arc<Live>) -> Result<(), LinkRefusal> {
        self.connection.link_up(self.number, Arc::clone(live))?;
        self.registry.link_changed.notify_one();
        Ok(())
    }
}

impl Drop for LinkSlot {
    fn drop(&mut self) {
        self.connection.link_down(self.number, clock::now());
        self.registry.link_changed.notify_one();
    }
}
