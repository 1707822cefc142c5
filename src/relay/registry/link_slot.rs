//! An agent's one place on its connection: held while its link is set up and lives, freed on drop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::connection::Connection;
use super::go_ahead::GoAheads;
use super::{LinkRefusal, Registry};
use crate::link::LinkHandle;
use crate::link::http2::LaneClient;
use crate::relay::clock;

/// A link that is up.
pub struct Live {
    /// When it came up, in seconds since 1970.
    pub since: u64,
    /// Where the agent, or the last proxy before the relay, comes from.
    pub address: SocketAddr,
    /// The agent's program and version.
    pub software: String,
    /// Sends calls and control messages down the link.
    pub client: LaneClient,
    /// Closes and observes the link.
    pub handle: LinkHandle,
    /// Calls whose callers wait to be told to go on (`Expect: 100-continue`).
    pub go_aheads: GoAheads,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            since,
            address,
            software,
            client: _,
            handle: _,
            go_aheads: _,
        } = self;
        f.debug_struct("Live")
            .field("since", since)
            .field("address", address)
            .field("software", software)
            .finish_non_exhaustive()
    }
}

/// The place of an agent's link. While it lives, a second link of the same agent is refused.
#[derive(Debug)]
pub struct LinkSlot {
    connection: Arc<Connection>,
    registry: Arc<Registry>,
}

impl LinkSlot {
    pub(super) const fn new(connection: Arc<Connection>, registry: Arc<Registry>) -> Self {
        Self {
            connection,
            registry,
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
    pub fn establish(&self, live: Live) -> Result<(), LinkRefusal> {
        self.connection.link_up(Arc::new(live))
    }
}

impl Drop for LinkSlot {
    fn drop(&mut self) {
        self.connection.link_down(clock::now());
        self.registry.link_ended.notify_one();
    }
}
