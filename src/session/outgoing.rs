//! One direction of a lane on the sender's side: bytes gathered into data frames, sent, and kept until acknowledged.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::Violation;
use crate::protocol::frame::{DATA_HEADER, Lane, MAX_PAYLOAD, data_header};

/// How many written bytes may wait for the WebSocket. Two frames: one on its way and one to follow;
/// more would only make a small call queue behind a large one (HTTP/2 above is fair, this queue is not).
const MAX_PENDING: usize = 2 * MAX_PAYLOAD;
/// The first allocation of a frame: an ordinary small call with its HTTP/2 framing.
const SMALL_FRAME: usize = 2 * 1024;

pub(super) struct Outgoing {
    lane: Lane,
    window: u64,
    /// Whole messages that wait to be sent.
    pending: VecDeque<Bytes>,
    /// The message being filled, header first; empty when none is.
    open: BytesMut,
    /// Payload bytes in `pending` and `open`.
    pending_bytes: usize,
    /// Messages sent and not wholly acknowledged, oldest first.
    sent: VecDeque<Bytes>,
    /// Number of the first byte in `sent`.
    sent_from: u64,
    sent_total: u64,
    acknowledged: u64,
}

impl Outgoing {
    pub(super) fn new(lane: Lane, window: u64) -> Self {
        Self {
            lane,
            window,
            pending: VecDeque::new(),
            open: BytesMut::new(),
            pending_bytes: 0,
            sent: VecDeque::new(),
            sent_from: 0,
            sent_total: 0,
            acknowledged: 0,
        }
    }

    pub(super) const fn unacknowledged(&self) -> u64 {
        self.sent_total - self.acknowledged
    }

    pub(super) fn room(&self) -> usize {
        let in_use = self.unacknowledged() + self.pending_bytes as u64;
        let in_window = usize::try_from(self.window.saturating_sub(in_use)).unwrap_or(usize::MAX);
        in_window.min(MAX_PENDING.saturating_sub(self.pending_bytes))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            if self.open.is_empty() {
                let size = rest.len().clamp(SMALL_FRAME, MAX_PAYLOAD);
                self.open = BytesMut::with_capacity(DATA_HEADER + size);
                self.open.extend_from_slice(&data_header(self.lane));
            }
            let space = DATA_HEADER + MAX_PAYLOAD - self.open.len();
            let (now, later) = rest.split_at(rest.len().min(space));
            self.open.extend_from_slice(now);
            rest = later;
            if self.open.len() == DATA_HEADER + MAX_PAYLOAD {
                self.pending
                    .push_back(std::mem::take(&mut self.open).freeze());
            }
        }
        self.pending_bytes += taken;
        taken
    }

    /// The next data message, kept as sent.
    pub(super) fn poll_frame(&mut self) -> Option<Bytes> {
        let message = match self.pending.pop_front() {
            Some(message) => message,
            None if self.open.is_empty() => return None,
            None => std::mem::take(&mut self.open).freeze(),
        };
        let payload = message.len() - DATA_HEADER;
        self.pending_bytes -= payload;
        self.sent_total += payload as u64;
        self.sent.push_back(message.clone());
        Some(message)
    }

    pub(super) fn acknowledge(&mut self, total: u64) -> Result<(), Violation> {
        if total < self.acknowledged || total > self.sent_total {
            let (sent, acknowledged) = (self.sent_total, self.acknowledged);
            return Err(Violation::Ack {
                total,
                sent,
                acknowledged,
            });
        }
        self.acknowledged = total;
        while let Some(oldest) = self.sent.front() {
            let end = self.sent_from + (oldest.len() - DATA_HEADER) as u64;
            if end > total {
                break;
            }
            self.sent_from = end;
            self.sent.pop_front();
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) const fn sent_total(&self) -> u64 {
        self.sent_total
    }

    #[cfg(test)]
    pub(super) fn retained(&self) -> Vec<u8> {
        let skip = usize::try_from(self.acknowledged - self.sent_from).unwrap();
        let payloads: Vec<u8> = self
            .sent
            .iter()
            .flat_map(|message| message[DATA_HEADER..].to_vec())
            .collect();
        payloads[skip..].to_vec()
    }
}
