//! One direction of a lane on the reader's side: bytes that arrived, read in order, and counted for acknowledgement.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::{Violation, WINDOW};
use crate::protocol::MAX_MESSAGE;

/// Read bytes are acknowledged at the latest at this count, so that the sender never waits for the delay and
/// sees how fast they are read. Half of a full frame, so that each frame that is read is acknowledged, and all that are read
/// in one turn by one acknowledgement: the processor's time for a GiB is the same as with four times as much.
pub(super) const ACK_EARLY: u64 = 32 * 1024;
/// Payloads shorter than this are copied together when the reader is behind: kept each in the memory
/// of its own message, a window of one-byte frames would cost a hundred windows.
const SMALL: usize = 4 * 1024;

pub(super) struct Incoming {
    unread: VecDeque<Bytes>,
    /// Small payloads that follow all of `unread`, joined.
    joined: BytesMut,
    /// Bytes that arrived since the session began.
    received: u64,
    /// Bytes that arrived already on the WebSocket before, and will be repeated on this one.
    repeated: u64,
    /// Bytes that the reader took since the session began.
    read: u64,
    /// The last total that was acknowledged.
    acknowledged: u64,
    /// Whether the last acknowledgement may not have arrived.
    must_repeat_ack: bool,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self {
            unread: VecDeque::new(),
            joined: BytesMut::new(),
            received: 0,
            repeated: 0,
            read: 0,
            acknowledged: 0,
            must_repeat_ack: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.joined.is_empty()
    }

    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// The peer begins a new WebSocket after byte `from`.
    pub(super) const fn resume(&mut self, from: u64) -> Result<(), Violation> {
        let Some(repeated) = self.received.checked_sub(from) else {
            return Err(Violation::Resume {
                from,
                lowest: 0,
                highest: self.received,
            });
        };
        self.repeated = repeated;
        self.must_repeat_ack = self.read > 0;
        Ok(())
    }

    pub(super) fn receive(&mut self, mut payload: Bytes) -> Result<(), Violation> {
        let known = usize::try_from(self.repeated).map_or(payload.len(), |n| n.min(payload.len()));
        payload.advance(known);
        self.repeated -= known as u64;
        if payload.is_empty() {
            return Ok(());
        }
        let received = self.received + payload.len() as u64;
        let unacknowledged = received - self.acknowledged;
        if unacknowledged > WINDOW {
            return Err(Violation::Window(unacknowledged - WINDOW));
        }
        self.received = received;
        self.keep(payload);
        Ok(())
    }

    fn keep(&mut self, payload: Bytes) {
        let is_small = payload.len() < SMALL && !self.is_empty();
        if !is_small || self.joined.len() + payload.len() > MAX_MESSAGE {
            self.end_joined();
        }
        if is_small {
            self.joined.extend_from_slice(&payload);
        } else {
            self.unread.push_back(payload);
        }
    }

    fn end_joined(&mut self) {
        if !self.joined.is_empty() {
            self.unread.push_back(self.joined.split().freeze());
        }
    }

    pub(super) fn read(&mut self, most: usize) -> Bytes {
        if self.unread.is_empty() {
            self.end_joined();
        }
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
        self.read > self.acknowledged || self.must_repeat_ack
    }

    pub(super) const fn wants_ack(&self) -> bool {
        self.read - self.acknowledged >= ACK_EARLY
    }

    /// The total to acknowledge now.
    pub(super) const fn acknowledge(&mut self) -> u64 {
        self.must_repeat_ack = false;
        self.acknowledged = self.read;
        self.read
    }

    #[cfg(test)]
    pub(super) const fn unread(&self) -> u64 {
        self.received - self.read
    }
}
