//! Whether the peer is alive, and whether it hears this side: all timers of a session's keep-alive, in one table.
//!
//! An answer is demanded by data and by pings. An acknowledgement or a pong is one; any other frame shows that the peer
//! can be heard, and no more: a path may carry one way only. See `docs/protocol.md`, section 3.2,
//! rule 6. All but the idle ping grow with the round trip, so that a slow path is not a dead one.

use std::time::Duration;

use super::Silent;

/// A side that awaits nothing asks for a sign of life after this: often enough that a proxy which
/// cuts idle sockets after 30 or 60 seconds does not, seldom enough to cost nothing.
pub(super) const IDLE_PING_AFTER: Duration = Duration::from_secs(15);
/// The side that can dial another path asks sooner: what waits on the other side of a path that died silently
/// waits for this and [`DOUBT_AFTER`]. Together below ten seconds; ten thousand links are 2,000 pings a second.
pub(super) const DIALLER_PINGS_AFTER: Duration = Duration::from_secs(5);
/// A side that awaits an answer asks once more after this: four times the delay of an acknowledgement.
pub(super) const ASK_AFTER: Duration = Duration::from_secs(2);
/// A side that awaits an answer and heard nothing at all for this doubts the path, and another is tried beside it: the
/// longest pause that a caller whose link died silently should notice.
pub(super) const DOUBT_AFTER: Duration = Duration::from_secs(4);
/// A side that has had no answer for this doubts the path whatever else it heard.
pub(super) const UNHEARD_AFTER: Duration = Duration::from_secs(8);
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
    idle_ping_after: Duration,
    last_heard: Duration,
    /// Since when an answer is due: the first data or ping sent after the last answer.
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
            idle_ping_after: IDLE_PING_AFTER,
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

    /// This side can dial another path.
    pub(super) const fn can_dial(&mut self) {
        self.idle_ping_after = DIALLER_PINGS_AFTER;
    }

    /// Another path, of which nothing is known but this.
    pub(super) const fn begin_anew(&mut self, round_trip: Duration, now: Duration) {
        *self = Self {
            idle_ping_after: self.idle_ping_after,
            ..Self::new(round_trip, now)
        };
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
    pub(super) fn heard(&mut self, now: Duration) {
        self.last_heard = now;
        let is_unheard = |since| now >= since + self.unheard_after();
        self.is_doubtful &= self.awaiting_since.is_some_and(is_unheard);
    }

    /// Something arrived that the peer sent because it had heard this side.
    pub(super) const fn was_answered(&mut self) {
        self.awaiting_since = None;
        self.has_pinged = false;
        self.is_doubtful = false;
        self.wants_ping = false;
    }

    /// A pong arrived; the one to the last ping measures the path.
    pub(super) fn ponged(&mut self, token: u64, now: Duration) {
        if token == self.next_token - 1
            && let Some(pinged_at) = self.pinged_at.take()
        {
            let measured = now.saturating_sub(pinged_at);
            self.round_trip = self.round_trip / SMOOTHING * (SMOOTHING - 1) + measured / SMOOTHING;
            self.was_answered();
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
            if now >= self.last_heard + self.idle_ping_after {
                self.wants_ping = true;
                self.asked(now);
            }
            return Ok(());
        };
        let quiet_since = since.max(self.last_heard);
        if now >= quiet_since + self.dead_after() {
            return Err(Silent {
                quiet: now.saturating_sub(self.last_heard),
            });
        }
        self.wants_ping |= !self.has_pinged && now >= since + self.ask_after();
        self.is_doubtful |= now >= self.doubt_due(since);
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
        let Some(since) = self.awaiting_since else {
            return self.last_heard + self.idle_ping_after;
        };
        let dead = since.max(self.last_heard) + self.dead_after();
        if self.is_doubtful {
            return dead;
        }
        let next = dead.min(self.doubt_due(since));
        // A ping that cannot be sent, because the socket takes nothing, must not be waited for.
        if self.has_pinged || self.wants_ping {
            return next;
        }
        next.min(since + self.ask_after())
    }

    fn doubt_due(&self, since: Duration) -> Duration {
        let silent = since.max(self.last_heard) + self.doubt_after();
        silent.min(since + self.unheard_after())
    }

    fn ask_after(&self) -> Duration {
        self.grown(ASK_AFTER, 2)
    }

    fn doubt_after(&self) -> Duration {
        self.grown(DOUBT_AFTER, 4)
    }

    fn unheard_after(&self) -> Duration {
        self.grown(UNHEARD_AFTER, 8)
    }

    fn dead_after(&self) -> Duration {
        DEAD_AFTER
            .max(self.round_trip.saturating_mul(DEAD_AFTER_ROUND_TRIPS))
            .min(DEAD_AFTER_AT_MOST)
    }

    /// So many round trips, if that is longer, and no longer than a dead path is borne with.
    fn grown(&self, least: Duration, round_trips: u32) -> Duration {
        least
            .max(self.round_trip.saturating_mul(round_trips))
            .min(self.dead_after())
    }
}
