//! Nothing a peer sends, in any order, over any number of WebSockets, makes a session panic, spin or
//! hold more than its windows; and what it repeats is what it was given.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use relay_agent::protocol::frame::{Frame, Lane, LaneCounts};
use relay_agent::session::{Session, WINDOW};

/// How far a count that the peer tells lies below what is possible, so that both sides of each limit are tried.
const BELOW: u64 = 8;
/// Stands for a count that no session reaches.
const FAR_OFF: u16 = u16::MAX;

// Each message is a length byte and as many bytes; time passes by a byte's worth of 100 ms. A length of
// zero is a new WebSocket: four counts follow, and a byte that says which side the session stands on.
fuzz_target!(|bytes: &[u8]| {
    let mut run = Run::new();
    let mut rest = bytes;
    while let Some((&length, tail)) = rest.split_first() {
        let goes_on = if length == 0 {
            let (counts, tail) = tail.split_at(tail.len().min(9));
            rest = tail;
            run.resume(counts)
        } else {
            let (message, tail) = tail.split_at(tail.len().min(usize::from(length)));
            rest = tail;
            run.receive(message)
        };
        if !goes_on || !run.pass_time(length) {
            return;
        }
        run.send_all();
        run.check_bounds();
    }
});

struct Run {
    session: Session,
    now: Duration,
    /// All that was written to the inward lane.
    written: Vec<u8>,
    /// After which byte of it the next data frame goes on.
    position: usize,
    /// How much of it has been sent at least once.
    sent: usize,
    /// Data frames sent for the first time: as many at most are repeated.
    frames: usize,
    /// What may be sent before anything else happens.
    due: usize,
    read: u64,
}

impl Run {
    fn new() -> Self {
        Self {
            session: Session::new(WINDOW, Duration::ZERO, Duration::ZERO),
            now: Duration::ZERO,
            written: Vec::new(),
            position: 0,
            sent: 0,
            frames: 0,
            due: 0,
            read: 0,
        }
    }

    /// A message comes, and as many bytes are written.
    fn receive(&mut self, message: &[u8]) -> bool {
        let message = bytes::Bytes::copy_from_slice(message);
        if let Ok(frame) = Frame::decode(message.clone()) {
            assert_eq!(frame.encode(), message);
        }
        let taken = self.session.write(Lane::Inward, &message);
        self.written.extend_from_slice(&message[..taken]);
        if self.session.handle_frame(message, self.now).is_err() {
            return false;
        }
        self.read += self.session.read(Lane::Outward, 256, self.now).len() as u64;
        true
    }

    /// The peer comes back over a new WebSocket and tells what it likes.
    fn resume(&mut self, bytes: &[u8]) -> bool {
        let told = |place: usize, possible: u64| {
            let number = |at: usize| bytes.get(at).copied().unwrap_or_default();
            match u16::from_be_bytes([number(2 * place), number(2 * place + 1)]) {
                FAR_OFF => u64::MAX,
                more => possible.saturating_sub(BELOW) + u64::from(more),
            }
        };
        let acknowledged = self.session.from_here(LaneCounts::default());
        let received = self.session.received();
        let peer_received = LaneCounts([told(0, acknowledged.0[0]), told(1, acknowledged.0[1])]);
        let from_peer = LaneCounts([
            received.0[0].saturating_sub(told(2, 0)),
            told(3, received.0[1].saturating_sub(u64::from(u8::MAX))),
        ]);
        // The relay corrects what it was told, the agent goes by the relay's word.
        let from_here = match bytes.get(8).copied().unwrap_or_default() % 2 {
            0 => self.session.from_here(peer_received),
            _ => peer_received,
        };
        let resumed = self.session.resume(from_here, from_peer, Duration::ZERO, self.now);
        let is_possible = Lane::BOTH.into_iter().all(|lane| {
            let highest = acknowledged.of(lane) + self.session.unacknowledged(lane);
            (acknowledged.of(lane)..=highest).contains(&from_here.of(lane))
                && from_peer.of(lane) <= received.of(lane)
        });
        assert_eq!(resumed.is_ok(), is_possible, "{resumed:?}");
        self.position = usize::try_from(from_here.of(Lane::Inward)).map_or(self.sent, |from| from.min(self.sent));
        self.due += self.frames;
        is_possible
    }

    fn pass_time(&mut self, length: u8) -> bool {
        self.now += Duration::from_millis(100) * u32::from(length);
        self.session.handle_timeout(self.now).is_ok()
    }

    /// Takes all that is to be sent: it comes to an end, and then nothing is due at once.
    fn send_all(&mut self) {
        // A pong, a ping, two acknowledgements, and what was written since.
        self.due += 4 + 2;
        while let Some(message) = self.session.poll_frame(self.now) {
            assert!(self.due > 0, "what comes in makes too many messages out");
            self.due -= 1;
            let Ok(Frame::Data { lane: Lane::Inward, payload }) = Frame::decode(message) else { continue };
            let end = self.position + payload.len();
            assert_eq!(payload, self.written[self.position..end], "after byte {}", self.position);
            self.position = end;
            if end > self.sent {
                self.sent = end;
                self.frames += 1;
            }
        }
        self.due = 0;
        assert!(self.session.poll_timeout() > self.now, "a driver would never rest");
    }

    fn check_bounds(&self) {
        assert!(self.session.unacknowledged(Lane::Inward) <= WINDOW);
        let received = self.session.received();
        assert!(received.of(Lane::Inward) <= WINDOW, "nobody reads it");
        assert!(received.of(Lane::Outward) - self.read <= WINDOW);
    }
}
