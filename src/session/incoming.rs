//! One direction of a lane on the reader's side: bytes that arrived, read in order, and counted for acknowledgement.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Violation, WINDOW};

/// Read bytes are acknowledged at the latest at this count, so that the sender never waits for the delay.
const ACK_EVERY: u64 = WINDOW / 4;

pub(super) struct Incoming {
    unread: VecDeque<Bytes>,
    /// Bytes that arrived since the session began.
    received: u64,
    /// Bytes that the reader took since the session began.
    read: u64,
    /// The last total that was acknowledged.
    acknowledged: u64,
}

impl Incoming {
    pub(super) const fn new() -> Self {
        Self {
            unread: VecDeque::new(),
            received: 0,
            read: 0,
            acknowledged: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    pub(super) fn receive(&mut self, payload: Bytes) -> Result<(), Violation> {
        let received = self.received + payload.len() as u64;
        let unacknowledged = received - self.acknowledged;
        if unacknowledged > WINDOW {
            return Err(Violation::Window(unacknowledged - WINDOW));
        }
        self.received = received;
        self.unread.push_back(payload);
        Ok(())
    }

    pub(super) fn read(&mut self, most: usize) -> Bytes {
        let Some(first) = self.unread.front_mut() else {
            return Bytes::new();
        };
        let bytes = first.split_to(first.len().min(most));
        if first.is_empty() {
            self.unread.pop_front();
        }
        self.read += bytes.len() as u64;
        bytes
    }

    pub(super) const fn has_unacknowledged(&self) -> bool {
        self.read > self.acknowledged
    }

    pub(super) const fn wants_ack(&self) -> bool {
        self.read - self.acknowledged >= ACK_EVERY
    }

    /// The total to acknowledge now.
    pub(super) const fn acknowledge(&mut self) -> u64 {
        self.acknowledged = self.read;
        self.read
    }
}
