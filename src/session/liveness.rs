//! Whether the peer is alive: all timers of a session's keep-alive, in one table.
//!
//! An answer is demanded by data and by pings; any frame counts as one. See `docs/protocol.md`,
//! section 3.2, rule 6.

use std::time::Duration;

use super::Silent;

/// A side that awaits nothing asks for a sign of life after this: often enough that a proxy which
/// cuts idle sockets after 30 or 60 seconds does not, seldom enough to cost nothing.
pub(super) const IDLE_PING_AFTER: Duration = Duration::from_secs(15);
/// A side that awaits an answer asks once more after this.
pub(super) const DOUBT_AFTER: Duration = Duration::from_secs(5);
/// A side that awaits an answer and heard nothing at all for this declares the peer dead. Five round
/// trips of a bad satellite path.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(10);

pub(super) struct Liveness {
    last_heard: Duration,
    /// Since when an answer is due: the first data or ping sent after anything was last heard.
    awaiting_since: Option<Duration>,
    /// Whether the doubt since then was already spoken.
    has_pinged: bool,
    /// A ping is to be sent.
    wants_ping: bool,
    next_token: u64,
}

impl Liveness {
    pub(super) const fn new(now: Duration) -> Self {
        Self {
            last_heard: now,
            awaiting_since: None,
            has_pinged: false,
            wants_ping: false,
            next_token: 1,
        }
    }

    pub(super) const fn last_heard(&self) -> Duration {
        self.last_heard
    }

    /// Any frame arrived.
    pub(super) const fn heard(&mut self, now: Duration) {
        self.last_heard = now;
        self.awaiting_since = None;
        self.has_pinged = false;
        self.wants_ping = false;
    }

    /// Something was sent that demands an answer.
    pub(super) fn asked(&mut self, now: Duration) {
        self.awaiting_since.get_or_insert(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) -> Result<(), Silent> {
        match self.awaiting_since {
            Some(since) if now >= since + DEAD_AFTER => Err(Silent {
                quiet: now.saturating_sub(self.last_heard),
            }),
            Some(since) => {
                self.wants_ping |= !self.has_pinged && now >= since + DOUBT_AFTER;
                Ok(())
            }
            None => {
                if now >= self.last_heard + IDLE_PING_AFTER {
                    self.wants_ping = true;
                    self.asked(now);
                }
                Ok(())
            }
        }
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
        Some(token)
    }

    pub(super) fn poll_timeout(&self) -> Duration {
        match self.awaiting_since {
            // A ping that cannot be sent, because the socket takes nothing, must not be waited for.
            Some(since) if self.has_pinged || self.wants_ping => since + DEAD_AFTER,
            Some(since) => since + DOUBT_AFTER,
            None => self.last_heard + IDLE_PING_AFTER,
        }
    }
}
