//! Whether the peer is alive: all timers of a session's keep-alive, in one table.
//!
//! An answer is demanded by data and by pings; any frame counts as one. See `docs/protocol.md`,
//! section 3.2, rule 6. All but the first grow with the round trip, so that a slow path is not a dead one.

use std::time::Duration;

use super::Silent;

/// A side that awaits nothing asks for a sign of life after this: often enough that a proxy which
/// cuts idle sockets after 30 or 60 seconds does not, seldom enough to cost nothing.
pub(super) const IDLE_PING_AFTER: Duration = Duration::from_secs(15);
/// A side that awaits an answer asks once more after this: four times the delay of an acknowledgement.
pub(super) const ASK_AFTER: Duration = Duration::from_secs(2);
/// After this the path is in doubt, and another is tried beside it: the longest pause that a caller
/// whose link died silently should notice.
pub(super) const DOUBT_AFTER: Duration = Duration::from_secs(4);
/// A side that awaits an answer and heard nothing at all for this takes the path for dead.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(10);
/// Three lost copies of one TCP segment in a row keep a path silent for 3 + 6 + 12 of its round trips
/// or so; silence of that length happens on a bad path that lives.
const DEAD_AFTER_ROUND_TRIPS: u32 = 15;
/// However slow the path: longer than this nobody waits.
pub(super) const DEAD_AFTER_AT_MOST: Duration = Duration::from_secs(30);
/// How much one new measurement changes the smoothed round trip (RFC 6298, section 2).
const SMOOTHING: u32 = 8;

pub(super) struct Liveness {
    last_heard: Duration,
    /// Since when an answer is due: the first data or ping sent after anything was last heard.
    awaiting_since: Option<Duration>,
    /// Whether a ping was sent since then.
    has_pinged: bool,
    /// Whether the path has been in doubt since then.
    is_doubtful: bool,
    /// A ping is to be sent.
    wants_ping: bool,
    next_token: u64,
    /// When the ping with the last token was sent; nothing once it was answered, so that an answer counts once.
    pinged_at: Option<Duration>,
    round_trip: Duration,
}

impl Liveness {
    pub(super) const fn new(round_trip: Duration, now: Duration) -> Self {
        Self {
            last_heard: now,
            awaiting_since: None,
            has_pinged: false,
            is_doubtful: false,
            wants_ping: false,
            next_token: 1,
            pinged_at: None,
            round_trip,
        }
    }

    pub(super) const fn last_heard(&self) -> Duration {
        self.last_heard
    }

    pub(super) const fn round_trip(&self) -> Duration {
        self.round_trip
    }

    pub(super) const fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Any frame arrived.
    pub(super) const fn heard(&mut self, now: Duration) {
        self.last_heard = now;
        self.awaiting_since = None;
        self.has_pinged = false;
        self.is_doubtful = false;
        self.wants_ping = false;
    }

    /// A pong arrived; the one to the last ping measures the path.
    pub(super) fn answered(&mut self, token: u64, now: Duration) {
        if token == self.next_token - 1
            && let Some(pinged_at) = self.pinged_at.take()
        {
            let measured = now.saturating_sub(pinged_at);
            self.round_trip = self.round_trip / SMOOTHING * (SMOOTHING - 1) + measured / SMOOTHING;
        }
    }

    /// Something was sent that demands an answer.
    pub(super) fn asked(&mut self, now: Duration) {
        self.awaiting_since.get_or_insert(now);
    }

    /// A ping is wanted with the next frames.
    pub(super) const fn ask_now(&mut self) {
        self.wants_ping = true;
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) -> Result<(), Silent> {
        let Some(since) = self.awaiting_since else {
            if now >= self.last_heard + IDLE_PING_AFTER {
                self.wants_ping = true;
                self.asked(now);
            }
            return Ok(());
        };
        if now >= since + self.dead_after() {
            return Err(Silent {
                quiet: now.saturating_sub(self.last_heard),
            });
        }
        self.wants_ping |= !self.has_pinged && now >= since + self.ask_after();
        self.is_doubtful |= now >= since + self.doubt_after();
        Ok(())
    }

    /// The token of a ping to send now, if one is wanted.
    pub(super) fn poll_ping(&mut self, now: Duration) -> Option<u64> {
        if !self.wants_ping {
            return None;
        }
        self.wants_ping = false;
        self.has_pinged = true;
        self.asked(now);
        let token = self.next_token;
        self.next_token += 1;
        self.pinged_at = Some(now);
        Some(token)
    }

    pub(super) fn poll_timeout(&self) -> Duration {
        match self.awaiting_since {
            Some(since) if self.is_doubtful => since + self.dead_after(),
            // A ping that cannot be sent, because the socket takes nothing, must not be waited for.
            Some(since) if self.has_pinged || self.wants_ping => since + self.doubt_after(),
            Some(since) => since + self.ask_after(),
            None => self.last_heard + IDLE_PING_AFTER,
        }
    }

    fn ask_after(&self) -> Duration {
        ASK_AFTER
            .max(self.round_trip.saturating_mul(2))
            .min(self.dead_after())
    }

    fn doubt_after(&self) -> Duration {
        DOUBT_AFTER
            .max(self.round_trip.saturating_mul(4))
            .min(self.dead_after())
    }

    fn dead_after(&self) -> Duration {
        DEAD_AFTER
            .max(self.round_trip.saturating_mul(DEAD_AFTER_ROUND_TRIPS))
            .min(DEAD_AFTER_AT_MOST)
    }
}
