//! Which WebSocket carries a session, seen from outside the driver: what is known of it, and how it is changed.
//!
//! The two ends of a move: the relay leaves its WebSocket first ([`LinkHandle::leave_for`]), so that
//! its counts are exact, and both then take the new one ([`LinkHandle::arrive`], [`LinkHandle::attach`]).

use std::sync::MutexGuard;
use std::time::Duration;

use tokio::sync::watch;

use super::LinkHandle;
use super::lane::State;
use super::websocket::Socket;
use crate::protocol::frame::LaneCounts;
#[cfg(any(test, feature = "relay"))]
use crate::protocol::handshake::Resumed;
use crate::protocol::handshake::{ResumeOffer, SessionId};
use crate::session::Violation;

/// Why a link has no WebSocket that is between two, for people.
pub(super) const MOVING: &str = "the agent is moving to another WebSocket";

/// What is known of the WebSocket under a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// It carries the session.
    Up,
    /// An answer on it is overdue.
    Doubtful,
    /// It was left for another, which is on its way.
    Moving,
    /// It is gone, and the session is kept.
    Away {
        /// Why, for people.
        why: String,
    },
}

impl Path {
    /// Whether calls had better wait for another path.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        match self {
            Self::Away { .. } | Self::Moving => true,
            Self::Up | Self::Doubtful => false,
        }
    }
}

/// The relay has left its WebSocket for another.
#[cfg(any(test, feature = "relay"))]
pub(super) struct Leave {
    /// What the agent is told.
    pub(super) resumed: Resumed,
    /// How many it had then left.
    number: u64,
}

impl LinkHandle {
    /// What is known of the WebSocket, now and from now on.
    #[must_use]
    pub fn path(&self) -> watch::Receiver<Path> {
        self.shared.path.subscribe()
    }

    /// Whether the link has no WebSocket now.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.shared.path.borrow().is_away()
    }

    /// Why the link has no WebSocket now, for people; nothing while it has one.
    #[must_use]
    pub fn away(&self) -> Option<String> {
        match &*self.shared.path.borrow() {
            Path::Away { why } => Some(why.clone()),
            Path::Moving => Some(MOVING.to_owned()),
            Path::Up | Path::Doubtful => None,
        }
    }

    /// The session's name, where it can be resumed.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.shared.grant.map(|grant| grant.id)
    }

    #[cfg(feature = "relay")]
    pub(super) fn grant(&self) -> Option<crate::protocol::handshake::SessionGrant> {
        self.shared.grant
    }

    /// What the agent offers to the relay to go on with this session; nothing when that is not possible.
    #[must_use]
    pub fn offer(&self) -> Option<ResumeOffer> {
        let grant = self.shared.grant?;
        let state = self.shared.lock();
        state.goes_on().then(|| ResumeOffer {
            session: grant.id,
            received: state.session.received(),
        })
    }

    /// The relay leaves its WebSocket, for a new one on which the agent has received `received` bytes
    /// of each lane. Nothing when the session is over.
    #[cfg(any(test, feature = "relay"))]
    #[must_use]
    pub(super) fn leave_for(&self, received: LaneCounts) -> Option<Leave> {
        let mut state = self.shared.lock();
        if !state.goes_on() {
            return None;
        }
        state.leave();
        Some(Leave {
            resumed: Resumed {
                received: state.session.received(),
                from: state.session.from_here(received),
            },
            number: state.paths_left,
        })
    }

    /// The relay goes on over the WebSocket for which it left the former. When it has meanwhile left that
    /// one for yet another, the WebSocket is dropped: its counts are of the past, and the agent has given it up.
    ///
    /// # Errors
    /// [`Violation::Resume`]; the session is then of no further use.
    #[cfg(any(test, feature = "relay"))]
    pub(super) fn arrive(
        &self,
        leave: &Leave,
        socket: Socket,
        round_trip: Duration,
    ) -> Result<(), Violation> {
        let Resumed { received, from } = leave.resumed;
        let state = self.shared.lock();
        if state.paths_left != leave.number {
            return Ok(());
        }
        self.go_on(state, socket, from, received, round_trip)
    }

    /// The agent goes on over a new WebSocket, whose round trip the handshake measured.
    ///
    /// # Errors
    /// [`Violation::Resume`]; the session is then of no further use.
    #[cfg(any(test, feature = "agent"))]
    pub(super) fn attach(
        &self,
        socket: Socket,
        from_here: LaneCounts,
        from_peer: LaneCounts,
        round_trip: Duration,
    ) -> Result<(), Violation> {
        self.go_on(self.shared.lock(), socket, from_here, from_peer, round_trip)
    }

    fn go_on(
        &self,
        mut state: MutexGuard<'_, State>,
        socket: Socket,
        from_here: LaneCounts,
        from_peer: LaneCounts,
        round_trip: Duration,
    ) -> Result<(), Violation> {
        let now = self.shared.now();
        state
            .session
            .resume(from_here, from_peer, round_trip, now)?;
        state.leave();
        state.next = Some(socket);
        // Under the lock, so that what the driver shows comes before or after, as it happened.
        self.shared.show(&Path::Up);
        Ok(())
    }

    /// Ends the session without a word, because the other side no longer has it or has begun another.
    pub fn abandon(&self, why: &str) {
        let mut state = self.shared.lock();
        state.abandoned.get_or_insert_with(|| why.to_owned());
        state.rouse_driver();
    }

    /// Asks the other side for a sign of life; whether anything was heard within `deadline`.
    pub async fn answers_within(&self, deadline: Duration) -> bool {
        if self.is_away() {
            return false;
        }
        let heard = self.shared.heard.notified();
        {
            let mut state = self.shared.lock();
            state.is_probed = true;
            state.session.ping();
            state.wake_driver();
        }
        let mut path = self.path();
        let answered = async {
            tokio::select! {
                // Both only wait.
                () = heard => true,
                _ = path.wait_for(Path::is_away) => false,
            }
        };
        tokio::time::timeout(deadline, answered).await == Ok(true)
    }
}
