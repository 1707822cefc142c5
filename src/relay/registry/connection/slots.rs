//! Whose the connection's one link is: places for it given out, taken over and given back.
//!
//! A slot that is not the current one any more touches nothing when it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Connection, Inner, LinkState};
use crate::protocol::handshake::Ticket;
use crate::relay::clock;
use crate::relay::registry::LinkRefusal;
use crate::relay::registry::link_slot::Live;

/// For how long a second machine with an agent's identity is remembered: one that was cloned tries again
/// every half minute.
const DOUBLE_REMEMBERED: Duration = Duration::from_secs(600);
/// How long the agent must not have been heard before such a machine, or the agent itself after a restart,
/// may take its link: an agent that was cut is back sooner.
const DOUBLE_WAITS: Duration = Duration::from_secs(20);
/// Why a link ends whose agent came back without it.
const BEGAN_ANEW: &str = "the agent was restarted, or gave the link up, and began a new one";

impl Connection {
    /// The number of a new slot. A former link that waits for its agent to come back gives way to it: the
    /// agent came, and does not go on with it.
    pub(in crate::relay::registry) fn reserve(&self) -> Result<u64, LinkRefusal> {
        let mut inner = self.inner();
        if let Some(removed) = inner.record.removed {
            return Err(LinkRefusal::Removed { at: removed.at });
        }
        match &inner.link {
            LinkState::Down(_) => {}
            LinkState::Up(live) if live.handle.is_away() && inner.may_give_way(live) => {
                live.handle.abandon(BEGAN_ANEW);
            }
            LinkState::Reserved | LinkState::Up(_) => return Err(LinkRefusal::AlreadyLinked),
        }
        Ok(inner.next_slot())
    }

    /// The number of a new slot, in place of that of `former`, whose agent shows no sign of life.
    pub(in crate::relay::registry) fn replace(
        &self,
        former: &Arc<Live>,
    ) -> Result<u64, LinkRefusal> {
        let mut inner = self.inner();
        match &inner.link {
            LinkState::Up(live) if Arc::ptr_eq(live, former) && inner.may_give_way(live) => {
                live.handle.abandon(BEGAN_ANEW);
            }
            LinkState::Down(_) => {}
            LinkState::Reserved | LinkState::Up(_) => return Err(LinkRefusal::AlreadyLinked),
        }
        Ok(inner.next_slot())
    }

    /// The number of a slot beside the link that there is, for the process that was announced under this ticket.
    pub(in crate::relay::registry) fn succeed(&self, ticket: Ticket) -> Result<u64, LinkRefusal> {
        let mut inner = self.inner();
        if let Some(removed) = inner.record.removed {
            return Err(LinkRefusal::Removed { at: removed.at });
        }
        let number = inner.slots + 1;
        if !inner.succession.admit(ticket, number) {
            return Err(LinkRefusal::AlreadyLinked);
        }
        inner.slots = number;
        Ok(number)
    }

    /// The link is up, unless the connection was removed meanwhile.
    pub(in crate::relay::registry) fn link_up(
        &self,
        slot: u64,
        live: Arc<Live>,
    ) -> Result<(), LinkRefusal> {
        let mut inner = self.inner();
        if let Some(removed) = inner.record.removed {
            return Err(LinkRefusal::Removed { at: removed.at });
        }
        if inner.succession.comes_up(slot) {
            inner.take_over(slot)?;
        } else if inner.current != slot {
            return Err(LinkRefusal::AlreadyLinked);
        }
        inner.link = LinkState::Up(live);
        drop(inner);
        self.link_changed();
        Ok(())
    }

    pub(in crate::relay::registry) fn link_down(&self, slot: u64, now: u64) {
        let mut inner = self.inner();
        if inner.succession.ended(slot) || inner.current != slot {
            return;
        }
        if let LinkState::Up(live) = &inner.link {
            inner.last_seen_at = Some(Inner::heard_at(live, now));
            inner.seen_since_stored = true;
        }
        inner.link = LinkState::Down(Some(Instant::now()));
        if let Some((number, former)) = inner.succession.take_former() {
            inner.current = number;
            inner.link = LinkState::Up(former);
        }
        drop(inner);
        self.link_changed();
    }
}

impl Inner {
    /// Whether who comes without the session of a link that was cut, or does not answer, may have its place.
    fn may_give_way(&self, live: &Live) -> bool {
        !self.succession.is_former_there() && !self.may_be_a_double(live)
    }

    /// Whether who comes without the session of a link that was cut a moment ago is rather a second machine,
    /// because there has been one lately: it must not win by coming in just the right moment.
    fn may_be_a_double(&self, live: &Live) -> bool {
        let known = self.duplicate.is_some_and(|duplicate| {
            clock::now().saturating_sub(duplicate.at) < DOUBLE_REMEMBERED.as_secs()
        });
        known && live.handle.stats().quiet < DOUBLE_WAITS
    }

    /// This slot is the connection's from now on, and the link that there is goes on beside it.
    fn take_over(&mut self, slot: u64) -> Result<(), LinkRefusal> {
        match &self.link {
            LinkState::Up(live) => {
                // The ticket came a second time: its first answer was lost.
                if let Some(twice) = self.succession.keep(self.current, Arc::clone(live)) {
                    twice.handle.abandon(BEGAN_ANEW);
                }
            }
            LinkState::Down(_) => {}
            LinkState::Reserved => return Err(LinkRefusal::AlreadyLinked),
        }
        self.current = slot;
        Ok(())
    }

    fn next_slot(&mut self) -> u64 {
        self.link = LinkState::Reserved;
        self.slots += 1;
        self.current = self.slots;
        self.slots
    }
}
