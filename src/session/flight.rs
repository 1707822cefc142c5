//! How much of a lane may be under way: enough to fill the path, and little more.
//!
//! The window says what the other side can hold. Where the other side reads more slowly than the path carries, a window
//! that is used whole stands in sockets' buffers, and a small call waits behind it. So the sender measures the rate
//! at which bytes are acknowledged and the shortest round trip; their product is what the path itself holds.
//! Works only with a peer that acknowledges early: one that waits for a quarter of the window is given all of it.

use std::time::Duration;

use super::incoming::ACK_EARLY;

/// What may be under way whatever was measured: two full frames, one whose acknowledgement is on its way and one that is
/// being read. It is all that stands before a small call on a short path: beside a transfer on loopback the call takes
/// 1.4 ms with it (median), 2.0 ms with twice as much, and the transfer is as fast with either.
pub(super) const LEAST: u64 = 128 * 1024;
/// How many halves of what the path holds may be under way. With two the rate could never be seen to grow. With three, and
/// [`LEAST`] beside, a path of 50 ms is filled to the window in seven round trips.
const HALVES: u128 = 3;
/// How much the rate forgets with each measurement that was slower.
const FORGET: u64 = 8;
/// The shortest time over which a rate is measured: acknowledgements come in bursts.
const RATE_OVER: Duration = Duration::from_millis(5);
/// For how long the shortest round trip holds. The path may have become longer since, which with much under way
/// nobody can tell from a queue; then [`LEAST`] is under way until one was measured with it.
const SHORTEST_HOLDS: Duration = Duration::from_secs(10);
/// Of how much time the round trips are that replace the shortest: many on a path so short that a moment's
/// delay of a program is longer than it, one on a long one.
const MEASURED_FOR: Duration = Duration::from_millis(20);
/// So many round trips with little under way, none of them shorter than [`LONG`], show at once that a path has become long: a
/// program that was kept waiting so often looks the same, and has the queue back at the next that is shorter.
const LONGER: u32 = 3;
/// A path on which [`LEAST`] under way is slow: 6.5 MB/s.
const LONG: Duration = Duration::from_millis(20);

pub(super) struct Flight {
    window: u64,
    is_measured: bool,
    limit: u64,
    bytes_per_second: u64,
    shortest: Duration,
    shortest_until: Duration,
    search: Search,
    sample: Option<Sample>,
    /// The rate is being measured since then, when so many bytes were acknowledged.
    rate_from: Option<(Duration, u64)>,
}

/// The round trips with little under way that may replace the shortest one.
struct Search {
    shortest: Duration,
    spent: Duration,
    count: u32,
}

/// A round trip that is being measured.
struct Sample {
    began: Duration,
    /// It ends when so many bytes of the lane are acknowledged.
    ends_with: u64,
    /// Little was under way when it began: what it lasts is the path's, not a queue's.
    is_clear: bool,
}

impl Flight {
    pub(super) const fn new(window: u64) -> Self {
        Self {
            window,
            is_measured: false,
            limit: window,
            bytes_per_second: 0,
            shortest: Duration::MAX,
            shortest_until: Duration::ZERO,
            search: Search::NEW,
            sample: None,
            rate_from: None,
        }
    }

    /// The peer acknowledges early: from now on the path is measured.
    pub(super) fn measure(&mut self) {
        self.is_measured = true;
        self.begin_anew();
    }

    /// Another path, of which nothing is known.
    pub(super) fn begin_anew(&mut self) {
        if self.is_measured {
            *self = Self {
                is_measured: true,
                limit: LEAST.min(self.window),
                ..Self::new(self.window)
            };
        }
    }

    /// How many bytes may be unacknowledged. Never more than the window.
    pub(super) const fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes were sent, `sent` in all. One round trip is measured at a time, and none of a trickle: its
    /// acknowledgements are late by design.
    pub(super) fn sent(&mut self, sent: u64, acknowledged: u64, now: Duration) {
        let under_way = sent - acknowledged;
        if !self.is_measured || self.sample.is_some() || under_way < ACK_EARLY {
            return;
        }
        self.rate_from.get_or_insert((now, acknowledged));
        self.sample = Some(Sample {
            began: now,
            ends_with: sent,
            is_clear: under_way <= LEAST,
        });
    }

    /// So many bytes in all are acknowledged.
    pub(super) fn acknowledged(&mut self, total: u64, now: Duration) {
        let Some(sample) = self.sample.take_if(|sample| sample.ends_with <= total) else {
            return;
        };
        self.note_round_trip(now.saturating_sub(sample.began), sample.is_clear, now);
        self.note_rate(total, now);
        let limit = if self.is_searching(now) {
            LEAST
        } else {
            LEAST.saturating_add(self.path_holds_and_more())
        };
        self.limit = limit.min(self.window);
    }

    /// The shortest one is not known, or not any more.
    fn is_searching(&self, now: Duration) -> bool {
        now >= self.shortest_until
    }

    fn note_round_trip(&mut self, lasted: Duration, is_clear: bool, now: Duration) {
        if lasted <= self.shortest {
            self.settle_on(lasted, now);
        } else if is_clear && (lasted >= LONG || self.is_searching(now)) {
            self.search.note(lasted);
            if self.search.is_over(self.is_searching(now)) {
                if lasted >= LONG && self.shortest < LONG {
                    // What the path carried when it was short says nothing.
                    (self.bytes_per_second, self.rate_from) = (0, None);
                }
                self.settle_on(self.search.shortest, now);
            }
        } else if lasted < LONG {
            self.search = Search::NEW;
        }
    }

    const fn settle_on(&mut self, shortest: Duration, now: Duration) {
        self.shortest = shortest;
        self.shortest_until = now.saturating_add(SHORTEST_HOLDS);
        self.search = Search::NEW;
    }

    /// A search sends little, so what is measured meanwhile makes nothing slower.
    fn note_rate(&mut self, acknowledged: u64, now: Duration) {
        let Some((since, before)) = self.rate_from else {
            return;
        };
        let over = now.saturating_sub(since);
        if over < RATE_OVER.max(self.shortest) {
            return;
        }
        self.rate_from = None;
        let rate = u128::from(acknowledged - before) * 1_000_000_000 / over.as_nanos();
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if !self.is_searching(now) {
            self.bytes_per_second -= self.bytes_per_second / FORGET;
        }
        self.bytes_per_second = self.bytes_per_second.max(rate);
    }

    fn path_holds_and_more(&self) -> u64 {
        let bytes = u128::from(self.bytes_per_second) * self.shortest.as_nanos() / 1_000_000_000;
        u64::try_from(bytes * HALVES / 2).unwrap_or(u64::MAX)
    }
}

impl Search {
    const NEW: Self = Self {
        shortest: Duration::MAX,
        spent: Duration::ZERO,
        count: 0,
    };

    fn note(&mut self, lasted: Duration) {
        self.shortest = self.shortest.min(lasted);
        self.spent += lasted;
        self.count += 1;
    }

    fn is_over(&self, is_due: bool) -> bool {
        self.spent >= MEASURED_FOR && (is_due || self.count >= LONGER)
    }
}
