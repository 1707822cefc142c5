//! How much is under way on paths of every kind: a queue in front of a reader of a certain speed, under virtual time.

use std::collections::VecDeque;

use super::super::flight::{Flight, LEAST};
use super::super::incoming::ACK_EARLY;
use super::*;

const FRAME: u64 = FULL_PAYLOAD as u64;
const MILLISECOND: Duration = Duration::from_millis(1);

/// A sender that always has something to send, a path, and a reader that takes so many bytes a second.
struct Path {
    flight: Flight,
    now: Duration,
    round_trip: Duration,
    bytes_per_second: u64,
    sent: u64,
    acknowledged: u64,
    /// Frames on their way or in the queue: when the reader has read each, and their count by then.
    read_at: VecDeque<(Duration, u64)>,
    /// Acknowledgements on their way back.
    acks: VecDeque<(Duration, u64)>,
    /// The last total that the reader acknowledged.
    told: u64,
    /// The most that was under way since it was last asked.
    most: u64,
}

impl Path {
    fn new(round_trip: Duration, bytes_per_second: u64) -> Self {
        let mut flight = Flight::new(WINDOW);
        flight.measure();
        Self {
            flight,
            now: Duration::ZERO,
            round_trip,
            bytes_per_second,
            sent: 0,
            acknowledged: 0,
            read_at: VecDeque::new(),
            acks: VecDeque::new(),
            told: 0,
            most: 0,
        }
    }

    /// Bytes that were acknowledged a second, over `long` from now on.
    fn carries(&mut self, long: Duration) -> f64 {
        let (before, until) = (self.acknowledged, self.now + long);
        self.most = 0;
        while self.now < until {
            self.send();
            let next = [self.read_at.front(), self.acks.front()];
            self.now = next.into_iter().flatten().map(|(at, _)| *at).min().unwrap();
            self.read();
            self.hear();
        }
        (self.acknowledged - before) as f64 / long.as_secs_f64()
    }

    fn send(&mut self) {
        while self.sent - self.acknowledged + FRAME <= self.flight.limit() {
            self.sent += FRAME;
            self.flight.sent(self.sent, self.acknowledged, self.now);
            let arrives = self.now + self.round_trip / 2;
            let begins = self
                .read_at
                .back()
                .map_or(arrives, |(at, _)| arrives.max(*at));
            let takes = Duration::from_secs_f64(FRAME as f64 / self.bytes_per_second as f64);
            self.read_at.push_back((begins + takes, self.sent));
        }
        self.most = self.most.max(self.sent - self.acknowledged);
    }

    fn read(&mut self) {
        while self.read_at.front().is_some_and(|(at, _)| *at <= self.now) {
            let (at, total) = self.read_at.pop_front().unwrap();
            if total - self.told >= ACK_EARLY {
                self.told = total;
                self.acks.push_back((at + self.round_trip / 2, total));
            }
        }
    }

    fn hear(&mut self) {
        while self.acks.front().is_some_and(|(at, _)| *at <= self.now) {
            let (at, total) = self.acks.pop_front().unwrap();
            self.acknowledged = total;
            self.flight.acknowledged(total, at);
        }
    }
}

#[test]
fn a_short_path_is_filled_with_little() {
    let mut path = Path::new(MILLISECOND / 4, 400_000_000);
    for _ in 0..30 {
        let carried = path.carries(SECOND);
        assert!(carried > 0.95 * 400e6, "{carried}");
        assert!(path.most < 3 * LEAST, "{}", path.most);
    }
}

#[test]
fn a_long_path_is_filled_within_a_second_and_stays_so() {
    // 3 MB are under way on it.
    let mut path = Path::new(50 * MILLISECOND, 60_000_000);
    path.carries(SECOND / 2);
    let carried = path.carries(30 * SECOND);
    assert!(carried > 0.95 * 60e6, "{carried}");
    assert!(path.most <= WINDOW);
}

#[test]
fn a_window_too_small_for_the_path_is_used_whole() {
    let mut path = Path::new(200 * MILLISECOND, 1_000_000_000);
    path.carries(2 * SECOND);
    let carried = path.carries(30 * SECOND);
    assert!(carried > 0.9 * WINDOW as f64 / 0.2, "{carried}");
}

#[test]
fn a_path_that_becomes_longer_is_filled_again() {
    let mut path = Path::new(5 * MILLISECOND, 30_000_000);
    path.carries(3 * SECOND);
    path.round_trip = 100 * MILLISECOND;
    path.carries(SECOND);
    let carried = path.carries(20 * SECOND);
    assert!(carried > 0.9 * 30e6, "{carried}");
}

#[test]
fn a_reader_that_becomes_faster_is_followed() {
    let mut path = Path::new(50 * MILLISECOND, 1_000_000);
    path.carries(15 * SECOND);
    path.bytes_per_second = 50_000_000;
    path.carries(SECOND);
    let carried = path.carries(8 * SECOND);
    assert!(carried > 0.95 * 50e6, "{carried}");
}

#[test]
fn a_reader_that_becomes_slower_has_soon_little_before_it() {
    let mut path = Path::new(MILLISECOND, 500_000_000);
    path.carries(SECOND);
    path.bytes_per_second = 5_000_000;
    path.carries(2 * SECOND);
    path.carries(30 * SECOND);
    assert!(path.most < 3 * LEAST, "{}", path.most);
}

#[test]
fn a_peer_that_acknowledges_late_is_given_its_whole_window() {
    let mut session = new_session();
    while session.write(Lane::Inward, &[0; MAX_PAYLOAD]) > 0 {
        while session.poll_frame(Duration::ZERO).is_some() {}
    }
    assert_eq!(session.unacknowledged(Lane::Inward), WINDOW);

    let mut session = new_session();
    session.measure_the_path();
    while session.write(Lane::Inward, &[0; MAX_PAYLOAD]) > 0 {
        while session.poll_frame(Duration::ZERO).is_some() {}
    }
    assert_eq!(session.unacknowledged(Lane::Inward), LEAST);
}
