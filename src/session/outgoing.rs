//! One direction of a lane on the sender's side: bytes gathered into data frames, sent, and kept until
//! acknowledged, so that a new WebSocket can be given what the last one swallowed.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};

use super::Violation;
use super::flight::Flight;
use crate::protocol::frame::{DATA_HEADER, Lane, data_header};

/// The payload of a full frame. With its own header and that of the WebSocket (at the most eight bytes for so many, RFC 6455,
/// section 5.2) it fills four TLS records of 16 KiB: with a byte more each frame would cost a fifth record, and a write and a read of its own.
pub(super) const FULL_PAYLOAD: usize = 4 * 16 * 1024 - 8 - DATA_HEADER;
/// What stands unused before each message. Allocators give long pieces that begin with a page, and a copy from the start
/// of one page to a few bytes behind the start of another, such as behind the head of a WebSocket frame, takes some
/// processors ten times as long (AMD's, by `rep movsb`, which the C library uses: its bug 30994).
const UNALIGNED: usize = 64;
/// Where the payload begins in the message that is being filled.
const PAYLOAD: usize = UNALIGNED + DATA_HEADER;
/// How many written bytes may wait for the WebSocket. Two frames: one on its way and one to follow;
/// more would only make a small call queue behind a large one (HTTP/2 above is fair, this queue is not).
const MAX_PENDING: usize = 2 * FULL_PAYLOAD;
/// The first allocation of a frame: an ordinary small call with its HTTP/2 framing.
const SMALL_FRAME: usize = 2 * 1024;
/// How many frames may be unacknowledged, so that a window of tiny ones costs little more than itself.
/// Acknowledgements come twice a second at the least: never reached below 32,000 writes a second.
const MAX_SENT: usize = 16 * 1024;

pub(super) struct Outgoing {
    lane: Lane,
    flight: Flight,
    /// Whole messages that wait to be sent.
    pending: VecDeque<Bytes>,
    /// The message being filled, behind [`UNALIGNED`] bytes, header first; empty when none is.
    open: BytesMut,
    /// How long the last message became: the next one is given as much room at once, for under load it is hardly shorter.
    usual: usize,
    /// Payload bytes in `pending` and `open`.
    pending_bytes: usize,
    /// Messages sent and not wholly acknowledged, oldest first.
    sent: VecDeque<Bytes>,
    /// Number of the first byte in `sent`.
    sent_from: u64,
    sent_total: u64,
    acknowledged: u64,
    repeat: Option<Repeat>,
}

/// What of `sent` has to go out again, up to its end.
#[derive(Debug, Clone, Copy)]
struct Repeat {
    /// The next message.
    index: usize,
    /// How much of its payload the peer has.
    skip: usize,
}

impl Outgoing {
    pub(super) fn new(lane: Lane, window: u64) -> Self {
        Self {
            lane,
            flight: Flight::new(window),
            pending: VecDeque::new(),
            open: BytesMut::new(),
            usual: 0,
            pending_bytes: 0,
            sent: VecDeque::new(),
            sent_from: 0,
            sent_total: 0,
            acknowledged: 0,
            repeat: None,
        }
    }

    /// The peer acknowledges early, so that the path can be measured.
    pub(super) fn measure(&mut self) {
        self.flight.measure();
    }

    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(super) const fn unacknowledged(&self) -> u64 {
        self.sent_total - self.acknowledged
    }

    pub(super) fn room(&self) -> usize {
        if self.sent.len() >= MAX_SENT {
            return 0;
        }
        let in_use = self.unacknowledged() + self.pending_bytes as u64;
        let in_flight = self.flight.limit().saturating_sub(in_use);
        let in_flight = usize::try_from(in_flight).unwrap_or(usize::MAX);
        in_flight.min(MAX_PENDING.saturating_sub(self.pending_bytes))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            if self.open.is_empty() {
                let room = rest.len().max(self.usual).clamp(SMALL_FRAME, FULL_PAYLOAD);
                self.open.reserve(PAYLOAD + room);
                self.open.resize(UNALIGNED, 0);
                self.open.extend_from_slice(&data_header(self.lane));
            }
            let space = PAYLOAD + FULL_PAYLOAD - self.open.len();
            let (now, later) = rest.split_at(rest.len().min(space));
            self.open.extend_from_slice(now);
            rest = later;
            if self.open.len() == PAYLOAD + FULL_PAYLOAD {
                self.usual = FULL_PAYLOAD;
                let mut whole = std::mem::take(&mut self.open).freeze();
                whole.advance(UNALIGNED);
                self.pending.push_back(whole);
            }
        }
        self.pending_bytes += taken;
        taken
    }

    /// The next data message: what is to be repeated first, then what is new, kept as sent.
    pub(super) fn poll_frame(&mut self, now: Duration) -> Option<Bytes> {
        if let Some(message) = self.poll_repeat() {
            return Some(message);
        }
        let message = match self.pending.pop_front() {
            Some(message) => message,
            None => self.close_open()?,
        };
        let payload = message.len() - DATA_HEADER;
        self.pending_bytes -= payload;
        self.sent_total += payload as u64;
        self.sent.push_back(message.clone());
        self.flight.sent(self.sent_total, self.acknowledged, now);
        Some(message)
    }

    /// The message being filled, in no more memory than it needs for as long as it is kept.
    fn close_open(&mut self) -> Option<Bytes> {
        if self.open.is_empty() {
            return None;
        }
        self.usual = self.open.len() - PAYLOAD;
        let mut message;
        if self.open.len() > self.open.capacity() / 2 {
            message = std::mem::take(&mut self.open).freeze();
        } else {
            message = Bytes::copy_from_slice(&self.open);
            self.open.clear();
            if self.open.capacity() > PAYLOAD + SMALL_FRAME {
                // A link that falls idle holds no more than it did before.
                self.open = BytesMut::new();
            }
        }
        message.advance(UNALIGNED);
        Some(message)
    }

    fn poll_repeat(&mut self) -> Option<Bytes> {
        let Repeat { index, skip } = self.repeat?;
        let Some(message) = self.sent.get(index).cloned() else {
            self.repeat = None;
            self.drop_acknowledged();
            return None;
        };
        self.repeat = Some(Repeat {
            index: index + 1,
            skip: 0,
        });
        if skip == 0 {
            return Some(message);
        }
        let mut rest = BytesMut::with_capacity(message.len() - skip);
        rest.extend_from_slice(&message[..DATA_HEADER]);
        rest.extend_from_slice(&message[DATA_HEADER + skip..]);
        Some(rest.freeze())
    }

    pub(super) fn acknowledge(&mut self, total: u64, now: Duration) -> Result<(), Violation> {
        if total < self.acknowledged || total > self.sent_total {
            let (sent, acknowledged) = (self.sent_total, self.acknowledged);
            return Err(Violation::Ack {
                total,
                sent,
                acknowledged,
            });
        }
        self.acknowledged = total;
        self.flight.acknowledged(total, now);
        self.drop_acknowledged();
        Ok(())
    }

    /// Begins a new WebSocket after byte `from`.
    pub(super) fn resume(&mut self, from: u64) -> Result<(), Violation> {
        if from < self.acknowledged || from > self.sent_total {
            return Err(Violation::Resume {
                from,
                lowest: self.acknowledged,
                highest: self.sent_total,
            });
        }
        let mut start = self.sent_from;
        let mut index = 0;
        for message in &self.sent {
            let end = start + payload_of(message);
            if end > from {
                break;
            }
            start = end;
            index += 1;
        }
        // Within one message, so within its length.
        let skip = usize::try_from(from.saturating_sub(start)).unwrap_or_default();
        self.repeat = Some(Repeat { index, skip });
        self.flight.begin_anew();
        self.drop_acknowledged();
        Ok(())
    }

    /// Forgets what is acknowledged and need not be repeated: the peer counts on the whole
    /// repetition that it was promised, also where it has acknowledged a part meanwhile.
    fn drop_acknowledged(&mut self) {
        while let Some(oldest) = self.sent.front() {
            let end = self.sent_from + payload_of(oldest);
            if end > self.acknowledged {
                break;
            }
            match &mut self.repeat {
                Some(Repeat { index: 0, .. }) => break,
                Some(Repeat { index, .. }) => *index -= 1,
                None => {}
            }
            self.sent_from = end;
            self.sent.pop_front();
        }
    }

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

fn payload_of(message: &Bytes) -> u64 {
    (message.len() - DATA_HEADER) as u64
}
