//! Two sessions and the cable between them under virtual time, against a model of what went in.

use std::collections::VecDeque;

use super::super::*;
use crate::protocol::frame::LaneCounts;

/// One end. The model of a lane is a count: byte `n` of it is [`byte_at`] of `n`.
pub(super) struct End {
    pub(super) session: Session,
    written: [u64; 2],
    read: [u64; 2],
    /// Messages on the cable towards this end, with their time of arrival.
    cable: VecDeque<(Duration, Bytes)>,
    /// What this end told of itself to be received when it last offered to resume.
    told: Option<LaneCounts>,
    /// How long its clock has stood still, with its machine.
    stood_still: Duration,
}

/// The agent is end 0, the relay end 1.
pub(super) struct Pair {
    pub(super) now: Duration,
    pub(super) ends: [End; 2],
    pub(super) delay: Duration,
    pub(super) cable: Cable,
}

/// What the cable does with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cable {
    /// Carries them.
    Whole,
    /// Swallows them, and neither end knows.
    HalfOpen,
    /// Is gone, and both ends know.
    Cut,
}

/// A session with a peer of this version.
fn measured(window: u64) -> Session {
    let mut session = Session::new(window, Duration::from_millis(50), Duration::ZERO);
    session.measure_the_path();
    session
}

/// The model: what byte `number` of a lane that `end` writes is.
fn byte_at(end: usize, lane: Lane, number: u64) -> u8 {
    let seed = (number << 2) | ((end as u64) << 1) | lane.index() as u64;
    (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

fn bytes_of(end: usize, lane: Lane, numbers: std::ops::Range<u64>) -> Vec<u8> {
    numbers.map(|number| byte_at(end, lane, number)).collect()
}

impl Pair {
    pub(super) fn new(window: u64) -> Self {
        let end = || End {
            session: measured(window),
            written: [0; 2],
            read: [0; 2],
            cable: VecDeque::new(),
            told: None,
            stood_still: Duration::ZERO,
        };
        Self {
            now: Duration::ZERO,
            ends: [end(), end()],
            delay: Duration::from_millis(25),
            cable: Cable::Whole,
        }
    }

    pub(super) fn write(&mut self, end: usize, lane: Lane, length: usize) -> usize {
        let from = self.ends[end].written[lane.index()];
        let bytes = bytes_of(end, lane, from..from + length as u64);
        let taken = self.ends[end].session.write(lane, &bytes);
        self.ends[end].written[lane.index()] += taken as u64;
        taken
    }

    /// Reads, and compares what came with what was written.
    pub(super) fn read(&mut self, end: usize, lane: Lane, most: usize) -> usize {
        let clock = self.ends[end].clock(self.now);
        let bytes = self.ends[end].session.read(lane, most, clock);
        let from = self.ends[end].read[lane.index()];
        let read = from + bytes.len() as u64;
        assert!(
            read <= self.ends[1 - end].written[lane.index()],
            "bytes that nobody wrote"
        );
        assert_eq!(
            bytes,
            bytes_of(1 - end, lane, from..read),
            "other bytes than were written"
        );
        self.ends[end].read[lane.index()] = read;
        bytes.len()
    }

    /// Puts on the cable what both ends have to send.
    pub(super) fn send(&mut self) {
        for from in 0..2 {
            self.send_from(from);
        }
    }

    fn send_from(&mut self, from: usize) {
        if self.cable == Cable::Cut {
            return;
        }
        let clock = self.ends[from].clock(self.now);
        while let Some(message) = self.ends[from].session.poll_frame(clock) {
            if self.cable == Cable::Whole {
                let arrival = self.now + self.delay;
                self.ends[1 - from].cable.push_back((arrival, message));
            }
        }
    }

    /// Lets time pass up to `until`, stopping at every arrival and timer.
    pub(super) fn run(&mut self, until: Duration) -> Result<(), Silent> {
        self.run_only(&[0, 1], until)
    }

    /// The same while nothing but these ends runs.
    pub(super) fn run_only(&mut self, ends: &[usize], until: Duration) -> Result<(), Silent> {
        while self.cable != Cable::Cut {
            for end in ends {
                self.send_from(*end);
            }
            let due = ends.iter().map(|end| self.ends[*end].due());
            let next = due.min().unwrap_or(until).max(self.now);
            if next > until {
                break;
            }
            self.now = next;
            for end in ends {
                self.ends[*end].catch_up(self.now)?;
            }
        }
        self.now = until;
        Ok(())
    }

    /// The machine of one end is suspended: neither it nor its clock goes on, and what the other end sends waits for it,
    /// or is swallowed when the cable does that. An error is the other end's.
    pub(super) fn suspend(&mut self, end: usize, time: Duration) -> Result<(), Silent> {
        let began = self.now;
        let ran = self.run_only(&[1 - end], began + time);
        self.ends[end].stood_still += self.now - began;
        ran
    }

    /// Reads everything, for as long as it takes to arrive.
    pub(super) fn settle(&mut self) {
        for _ in 0..60 {
            let is_done = |end: usize| {
                let session = &self.ends[end].session;
                self.ends[end].written == self.ends[1 - end].read
                    && Lane::BOTH
                        .iter()
                        .all(|lane| session.unacknowledged(*lane) == 0)
            };
            if is_done(0) && is_done(1) {
                break;
            }
            self.run(self.now + Duration::from_secs(1)).unwrap();
            for end in 0..2 {
                for lane in Lane::BOTH {
                    while self.read(end, lane, 64 * 1024) > 0 {}
                }
            }
        }
        for end in 0..2 {
            assert_eq!(
                self.ends[end].written,
                self.ends[1 - end].read,
                "not all arrived"
            );
            for lane in Lane::BOTH {
                assert_eq!(self.ends[end].session.unacknowledged(lane), 0);
            }
        }
    }

    /// Both ends know that the WebSocket is gone, and what was on it with it.
    pub(super) fn cut(&mut self) {
        self.cable = Cable::Cut;
        for end in &mut self.ends {
            end.cable.clear();
        }
    }

    /// From now on a cable that carried swallows everything.
    pub(super) fn forget(&mut self) {
        if self.cable == Cable::Whole {
            self.cable = Cable::HalfOpen;
        }
    }

    /// The agent offers to go on, as the proof of a new handshake does; the old WebSocket may stand.
    pub(super) fn offer(&mut self) {
        self.ends[0].told = Some(self.ends[0].session.received());
    }

    /// The relay accepts the offer and leaves the old WebSocket, the agent follows when it has taken
    /// another `late` messages from it.
    pub(super) fn accept(&mut self, late: usize) -> Result<(), Violation> {
        let told = self.ends[0].told.take().expect("an offer");
        let round_trip = 2 * self.delay;
        let [agent, relay] = &mut self.ends;
        let received = relay.session.received();
        let from = relay.session.from_here(told);
        let clock = relay.clock(self.now);
        relay.session.resume(from, received, round_trip, clock)?;
        relay.cable.clear();
        for _ in 0..late.min(agent.cable.len()) {
            agent.take_one(self.now);
        }
        agent.cable.clear();
        let clock = agent.clock(self.now);
        agent.session.resume(received, from, round_trip, clock)?;
        self.cable = Cable::Whole;
        Ok(())
    }

    pub(super) fn has_offered(&self) -> bool {
        self.ends[0].told.is_some()
    }

    /// What must hold at every moment.
    pub(super) fn check(&self, window: u64) {
        for (from, end) in self.ends.iter().enumerate() {
            for lane in Lane::BOTH {
                let outgoing = &end.session.outgoing[lane.index()];
                assert!(outgoing.unacknowledged() <= window, "window overrun");
                let (sent, kept) = (outgoing.sent_total(), outgoing.retained());
                assert_eq!(kept.len() as u64, outgoing.unacknowledged());
                // The ends tell a shift by a byte; comparing all of it each time takes minutes.
                for part in [kept.len().min(64), kept.len()] {
                    let at = sent - (kept.len() - part.saturating_sub(64)) as u64;
                    let expected = bytes_of(from, lane, at..at + part.min(64) as u64);
                    let found = &kept[part.saturating_sub(64)..part];
                    assert_eq!(found, expected, "not what was sent is kept");
                }
                let unread = &end.session.incoming[lane.index()];
                assert!(unread.unread() <= window, "more is held than the window");
            }
        }
    }
}

impl End {
    /// What its own clock shows.
    pub(super) fn clock(&self, now: Duration) -> Duration {
        now - self.stood_still
    }

    /// When anything arrives here, or a timer fires.
    fn due(&self) -> Duration {
        let timer = self.session.poll_timeout() + self.stood_still;
        let arrival = self.cable.front().map(|(at, _)| *at);
        arrival.map_or(timer, |at| at.min(timer))
    }

    /// Takes what has arrived, and looks at the clock.
    fn catch_up(&mut self, now: Duration) -> Result<(), Silent> {
        while self.cable.front().is_some_and(|(at, _)| *at <= now) {
            self.take_one(now);
        }
        let clock = self.clock(now);
        self.session.handle_timeout(clock)
    }

    fn take_one(&mut self, now: Duration) {
        let clock = self.clock(now);
        let (_, message) = self.cable.pop_front().expect("a message");
        self.session
            .handle_frame(message, clock)
            .expect("no rule is broken");
    }
}
