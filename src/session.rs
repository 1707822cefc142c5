//! A session: two numbered byte streams in both directions, acknowledged and kept alive, over one
//! WebSocket after another.
//!
//! Pure. It takes frames, bytes and the time, and says what to send and when to look again; it has
//! no socket and no clock. Time is a [`Duration`] since the session began and never goes back. The
//! rules and their reasons are in `docs/protocol.md`, section 3.
//!
//! How to drive it: feed what arrives to [`Session::handle_frame`] and passing time to
//! [`Session::handle_timeout`]; [`Session::write`] and [`Session::read`] the lanes; after any of
//! these send what [`Session::poll_frame`] yields until it yields nothing, and call
//! `handle_timeout` again no later than [`Session::poll_timeout`] says. While there is no WebSocket
//! only write and read; go on with [`Session::resume`] when there is another.
//!
//! Invariants, for each lane and direction:
//!
//! 1. What is read is a prefix of what was written, each byte once, over any number of WebSockets.
//! 2. Unacknowledged bytes never exceed the window that the reader's side announced, and are kept
//!    until acknowledged: what a cut swallows can be sent again.
//! 3. Nothing the peer sends makes the session hold more than its own window for a lane, one pong and one close.

mod flight;
mod incoming;
mod liveness;
mod outgoing;
mod traffic;

use std::time::Duration;

use bytes::Bytes;

use self::incoming::Incoming;
use self::liveness::Liveness;
use self::outgoing::Outgoing;
pub use self::traffic::LaneTraffic;
use crate::protocol::CloseCode;
use crate::protocol::frame::{Frame, FrameError, Lane, LaneCounts};

/// How many unread bytes of a lane this side holds at the most. A path of 160 Mbit/s and 50 ms is
/// filled by 1 MiB, one of 600 Mbit/s by this; it bounds what retention may cost, and is not allocated before it is used.
pub const WINDOW: u64 = 4 * 1024 * 1024;
/// How long read bytes may stay unacknowledged: seldom enough to cost nothing, well below [`liveness::DOUBT_AFTER`].
const ACK_DELAY: Duration = Duration::from_millis(500);

/// See the module.
pub struct Session {
    outgoing: [Outgoing; 2],
    incoming: [Incoming; 2],
    liveness: Liveness,
    next_lane: Lane,
    ack_due: Option<Duration>,
    pong: Option<u64>,
    closing: Closing,
    /// Data frames of each lane, repeated ones among them.
    frames_sent: [u64; 2],
    frames_received: [u64; 2],
}

/// What a frame from the peer changed, for those who wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The lane has bytes to read.
    Data(Lane),
    /// The lane may have room to write.
    Room(Lane),
    /// Nothing that anyone waits for.
    Nothing,
    /// The peer's last frame.
    Closed {
        /// Why, for the program.
        code: CloseCode,
        /// Why, for people.
        text: String,
    },
}

/// A rule that the peer broke. The link ends with [`CloseCode::Protocol`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Not a frame.
    #[error("the other side sent {0}")]
    Frame(FrameError),
    /// More bytes than the window that was announced.
    #[error("the other side overran the window by {0} bytes")]
    Window(u64),
    /// A total below an earlier one or above what was sent.
    #[error(
        "the other side acknowledged {total} bytes of {sent} sent and {acknowledged} acknowledged"
    )]
    Ack {
        /// The impossible total.
        total: u64,
        /// Bytes sent on the lane so far.
        sent: u64,
        /// The total acknowledged before.
        acknowledged: u64,
    },
    /// The other side would resume where it cannot: bytes are gone that it lacks, or were never sent.
    #[error(
        "the other side would resume after byte {from}, which is not between {lowest} and {highest}"
    )]
    Resume {
        /// The impossible count.
        from: u64,
        /// The lowest possible one.
        lowest: u64,
        /// The highest possible one.
        highest: u64,
    },
}

/// The peer answered nothing for too long; the path or the peer is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing was heard from the other side for {} s though an answer was due", .quiet.as_secs())]
pub struct Silent {
    /// How long nothing at all was heard.
    pub quiet: Duration,
}

/// How far this side's own closing has come.
enum Closing {
    No,
    Asked(CloseCode, String),
    Sent(CloseCode),
}

impl Session {
    /// A new session. `peer_window` is how many unread bytes of a lane the peer is ready to hold; more
    /// than [`WINDOW`] is not made use of, because as much is kept here until it is acknowledged.
    /// `round_trip` is the time to the peer and back, as the handshake measured it.
    #[must_use]
    pub fn new(peer_window: u64, round_trip: Duration, now: Duration) -> Self {
        let window = peer_window.min(WINDOW);
        Self {
            outgoing: Lane::BOTH.map(|lane| Outgoing::new(lane, window)),
            incoming: [Incoming::new(), Incoming::new()],
            liveness: Liveness::new(round_trip, now),
            next_lane: Lane::Inward,
            ack_due: None,
            pong: None,
            closing: Closing::No,
            frames_sent: [0; 2],
            frames_received: [0; 2],
        }
    }

    /// The peer acknowledges early ([`EARLY_ACK`](crate::protocol::handshake::EARLY_ACK)): from now on no more is under
    /// way than fills the path.
    pub fn measure_the_path(&mut self) {
        for outgoing in &mut self.outgoing {
            outgoing.measure();
        }
    }

    /// This side can dial another path, so it looks sooner whether the one in use still carries anything.
    pub const fn can_dial(&mut self) {
        self.liveness.can_dial();
    }

    /// How many bytes of a lane can be written now.
    #[must_use]
    pub fn room(&self, lane: Lane) -> usize {
        self.outgoing[lane.index()].room()
    }

    /// Whether a lane has bytes to read.
    #[must_use]
    pub fn is_readable(&self, lane: Lane) -> bool {
        !self.incoming[lane.index()].is_empty()
    }

    /// How many bytes of a lane the peer has not acknowledged yet.
    #[must_use]
    pub fn unacknowledged(&self, lane: Lane) -> u64 {
        self.outgoing[lane.index()].unacknowledged()
    }

    /// When anything was last heard from the peer.
    #[must_use]
    pub const fn last_heard(&self) -> Duration {
        self.liveness.last_heard()
    }

    /// The time to the peer and back, smoothed.
    #[must_use]
    pub const fn round_trip(&self) -> Duration {
        self.liveness.round_trip()
    }

    /// Whether an answer is due for so long, or nothing was heard for so long though one is due, that the path is better not relied on.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        self.liveness.is_doubtful()
    }

    /// How many bytes of each lane have arrived: what to tell the peer so that it goes on from there.
    #[must_use]
    pub fn received(&self) -> LaneCounts {
        LaneCounts(Lane::BOTH.map(|lane| self.incoming[lane.index()].received()))
    }

    /// From where this side would go on with a peer that told to have received so much: what it has
    /// acknowledged since it told is gone.
    #[must_use]
    pub fn from_here(&self, peer_received: LaneCounts) -> LaneCounts {
        LaneCounts(Lane::BOTH.map(|lane| {
            let acknowledged = self.outgoing[lane.index()].acknowledged();
            peer_received.of(lane).max(acknowledged)
        }))
    }

    /// Goes on over a new WebSocket: with everything after `from_here` of each lane on this side, and
    /// everything after `from_peer` on the other.
    ///
    /// # Errors
    /// [`Violation::Resume`] when a count cannot be; the session is then of no further use.
    pub fn resume(
        &mut self,
        from_here: LaneCounts,
        from_peer: LaneCounts,
        round_trip: Duration,
        now: Duration,
    ) -> Result<(), Violation> {
        for lane in Lane::BOTH {
            self.outgoing[lane.index()].resume(from_here.of(lane))?;
            self.incoming[lane.index()].resume(from_peer.of(lane))?;
        }
        self.liveness.begin_anew(round_trip, now);
        self.pong = None;
        self.ack_due = Some(now);
        self.note_what_is_awaited(now);
        Ok(())
    }

    /// Takes a message from the peer.
    ///
    /// # Errors
    /// [`Violation`] when the peer broke a rule; the session is of no further use but to close.
    pub fn handle_frame(&mut self, message: Bytes, now: Duration) -> Result<Received, Violation> {
        self.liveness.heard(now);
        let received = match Frame::decode(message).map_err(Violation::Frame)? {
            Frame::Data { lane, payload } => {
                self.incoming[lane.index()].receive(payload)?;
                self.frames_received[lane.index()] += 1;
                Received::Data(lane)
            }
            Frame::Ack { lane, total } => {
                let before = self.unacknowledged(lane);
                self.outgoing[lane.index()].acknowledge(total, now)?;
                if self.unacknowledged(lane) < before {
                    self.liveness.was_answered();
                }
                Received::Room(lane)
            }
            Frame::Ping(token) => {
                self.pong = Some(token);
                Received::Nothing
            }
            Frame::Pong(token) => {
                self.liveness.ponged(token, now);
                Received::Nothing
            }
            Frame::Close { code, text } => Received::Closed { code, text },
        };
        self.note_what_is_awaited(now);
        Ok(received)
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`Silent`] when an answer was due and nothing came.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), Silent> {
        self.liveness.handle_timeout(now)
    }

    /// Writes bytes to a lane; returns how many were taken, 0 when there is no room now.
    pub fn write(&mut self, lane: Lane, bytes: &[u8]) -> usize {
        self.outgoing[lane.index()].write(bytes)
    }

    /// Takes up to `most` bytes of a lane to read; empty when none are there now. Shares the memory of
    /// the message they came in.
    pub fn read(&mut self, lane: Lane, most: usize, now: Duration) -> Bytes {
        let bytes = self.incoming[lane.index()].read(most);
        if !bytes.is_empty() && self.ack_due.is_none() {
            self.ack_due = Some(now + ACK_DELAY);
        }
        bytes
    }

    /// Asks the peer for a sign of life with the next frames, without waiting for doubt.
    pub fn ping(&mut self) {
        self.liveness.ask_now();
    }

    /// Asks for an orderly end: what was written goes out first, then a close frame, then nothing more.
    pub fn close(&mut self, code: CloseCode, text: String) {
        if matches!(self.closing, Closing::No) {
            self.closing = Closing::Asked(code, text);
        }
    }

    /// The code that this side closes with, once that was asked for.
    #[must_use]
    pub const fn closing_with(&self) -> Option<CloseCode> {
        match self.closing {
            Closing::Asked(code, _) | Closing::Sent(code) => Some(code),
            Closing::No => None,
        }
    }

    /// The code of this side's close frame, once it was sent.
    #[must_use]
    pub const fn closed_with(&self) -> Option<CloseCode> {
        match self.closing {
            Closing::Sent(code) => Some(code),
            Closing::No | Closing::Asked(..) => None,
        }
    }

    /// Whether so much of a lane was read that an acknowledgement is wanted at once.
    #[must_use]
    pub const fn wants_ack(&self, lane: Lane) -> bool {
        self.incoming[lane.index()].wants_ack()
    }

    /// The next message to send, if any.
    pub fn poll_frame(&mut self, now: Duration) -> Option<Bytes> {
        if self.closed_with().is_some() {
            return None;
        }
        if let Some(token) = self.pong.take() {
            return Some(Frame::Pong(token).encode());
        }
        if let Some(token) = self.liveness.poll_ping(now) {
            return Some(Frame::Ping(token).encode());
        }
        if let Some(ack) = self.poll_ack(now) {
            return Some(ack.encode());
        }
        if let Some(data) = self.poll_data(now) {
            self.liveness.asked(now);
            return Some(data);
        }
        self.poll_close()
    }

    /// When [`Session::handle_timeout`] and [`Session::poll_frame`] want to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Duration {
        let liveness = self.liveness.poll_timeout();
        self.ack_due.map_or(liveness, |ack| ack.min(liveness))
    }

    /// Like [`Session::poll_timeout`] while the socket takes nothing: what waits to be sent is then no
    /// reason to look again.
    #[must_use]
    pub fn poll_timeout_when_blocked(&self) -> Duration {
        self.liveness.poll_timeout()
    }

    /// Acknowledges a lane that read much, or every lane that read anything when the delay is over.
    fn poll_ack(&mut self, now: Duration) -> Option<Frame> {
        let is_due = self.ack_due.is_some_and(|due| due <= now);
        let wants_ack = |lane: &Lane| {
            let incoming = &self.incoming[lane.index()];
            incoming.wants_ack() || (is_due && incoming.has_unacknowledged())
        };
        let Some(lane) = Lane::BOTH.into_iter().find(wants_ack) else {
            if is_due {
                self.ack_due = None;
            }
            return None;
        };
        Some(Frame::Ack {
            lane,
            total: self.incoming[lane.index()].acknowledge(),
        })
    }

    /// The lanes take turns, so that neither starves the other.
    fn poll_data(&mut self, now: Duration) -> Option<Bytes> {
        for lane in [self.next_lane, self.next_lane.other()] {
            if let Some(message) = self.outgoing[lane.index()].poll_frame(now) {
                self.next_lane = lane.other();
                self.frames_sent[lane.index()] += 1;
                return Some(message);
            }
        }
        None
    }

    fn poll_close(&mut self) -> Option<Bytes> {
        let Closing::Asked(code, text) = &mut self.closing else {
            return None;
        };
        let frame = Frame::Close {
            code: *code,
            text: std::mem::take(text),
        };
        self.closing = Closing::Sent(*code);
        Some(frame.encode())
    }

    /// Data that is still unacknowledged after a frame goes on demanding an answer.
    fn note_what_is_awaited(&mut self, now: Duration) {
        if self
            .outgoing
            .iter()
            .any(|outgoing| outgoing.unacknowledged() > 0)
        {
            self.liveness.asked(now);
        }
    }
}

#[cfg(test)]
mod tests;
