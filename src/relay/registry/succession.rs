//! One process of an agent that takes over from another: who was announced, and the link that it takes the place of.
//!
//! Decides nothing about time but how long an announcement holds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link_slot::Live;
use crate::protocol::handshake::Ticket;

/// The longest time for which an announcement holds: a process starts and links in a second, or not at all.
const LONGEST: Duration = Duration::from_secs(120);

/// What is known of a connection's succession.
#[derive(Debug, Default)]
pub(super) struct Succession {
    announced: Option<(Ticket, Instant)>,
    /// The slot of the process that showed the ticket and whose link is being set up.
    coming: Option<u64>,
    /// The link that another took the place of, with its slot, until it ends.
    former: Option<(u64, Arc<Live>)>,
}

impl Succession {
    /// Another process comes. The last word holds.
    pub(super) fn announce(&mut self, ticket: Ticket, within: Duration) {
        self.announced = Some((ticket, Instant::now() + within.min(LONGEST)));
    }

    /// Whether whoever shows this ticket may link, by this slot. It may come again, as long as the ticket holds.
    pub(super) fn admit(&mut self, ticket: Ticket, slot: u64) -> bool {
        let holds = self
            .announced
            .is_some_and(|(announced, until)| announced == ticket && Instant::now() < until);
        if holds {
            self.coming = Some(slot);
        }
        holds
    }

    /// Whether this slot's link is the one that takes over; once.
    pub(super) fn comes_up(&mut self, slot: u64) -> bool {
        self.coming.take_if(|coming| *coming == slot).is_some()
    }

    /// Keeps the link that was taken over from. Gives it back when there is one already: then it is the link of
    /// a process that came with the same ticket before.
    pub(super) fn keep(&mut self, slot: u64, link: Arc<Live>) -> Option<Arc<Live>> {
        if self.former.is_some() {
            return Some(link);
        }
        self.former = Some((slot, link));
        None
    }

    /// A slot is given back; whether it was that of a former link, or of one that never came up.
    pub(super) fn ended(&mut self, slot: u64) -> bool {
        let was_former = self.former.take_if(|(number, _)| *number == slot).is_some();
        was_former || self.comes_up(slot)
    }

    /// The link that was taken over from, while its last calls end.
    pub(super) fn former(&self) -> Option<Arc<Live>> {
        self.former.as_ref().map(|(_, live)| Arc::clone(live))
    }

    /// Whether the process that was taken over from is there still.
    pub(super) fn is_former_there(&self) -> bool {
        self.former
            .as_ref()
            .is_some_and(|(_, live)| !live.handle.is_away())
    }

    /// The link that was taken over from, which is the connection's again.
    pub(super) fn take_former(&mut self) -> Option<(u64, Arc<Live>)> {
        self.former.take()
    }
}
