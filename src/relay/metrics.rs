//! Counts of what the relay did, for `/metrics`, `status` and its conditions.
//!
//! Recording takes no lock and allocates nothing. Labels are words of fixed tables and names of connections, of which
//! the page shows a bounded number.

pub mod page;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::Response;

use super::clock;
use crate::metric::calls::{Calls, MethodLabel};
use crate::metric::words::Words;
use crate::problem::ProblemCode;

/// What a call is refused with when its connection has too many under way.
const TOO_MANY_CALLS: &str = "too-many-calls";

/// A link has lost its WebSocket, and is kept for the agent to come back.
pub const WEBSOCKET_LOST: &str = "websocket-lost";

/// Why the relay itself answers calls, by the code of its problem documents (`docs/errors.md`).
pub const REASONS: [&str; 23] = [
    "token-missing",
    "several-tokens",
    "token-unknown",
    "token-for-another-connection",
    "no-upstream-named",
    "unknown-connection",
    "unknown-upstream",
    "connection-pending",
    "connection-deactivated",
    "connection-removed",
    "agent-offline",
    "agent-reconnecting",
    "relay-draining",
    TOO_MANY_CALLS,
    "loop-detected",
    "connect-not-supported",
    "bad-websocket",
    "unknown-expectation",
    "link-lost",
    "agent-draining",
    "outcome-unknown",
    "answer-timeout",
    "other",
];

/// Why links lost their WebSocket or ended: the word of the first, and [`LinkEnd::word`](crate::link::LinkEnd::word).
pub const RECONNECTS: [&str; 9] = [
    WEBSOCKET_LOST,
    "closed-by-the-other-side",
    "closed-here",
    "silence",
    "lost",
    "not-resumed",
    "violation",
    "abandoned",
    "other",
];

/// The counts of one relay.
#[derive(Debug)]
pub struct Metrics {
    /// Calls of callers.
    pub calls: Calls,
    /// Those that the relay answered itself, by reason.
    pub refusals: Words<{ REASONS.len() }>,
    /// Links that lost their WebSocket or ended, by reason.
    pub reconnects: Words<{ RECONNECTS.len() }>,
    /// Links made; one that goes on counts once.
    pub links_made: AtomicU64,
    /// Sockets turned away because their address has too many open.
    pub sockets_turned_away: Hits,
    /// Agents turned away because too many handshakes were under way.
    pub agents_turned_away: Hits,
    /// Calls refused because their connection has too many under way.
    pub calls_turned_away: Hits,
    /// Sockets that could not be accepted.
    pub accepts_failed: Hits,
    listeners: AtomicUsize,
}

/// Counts something that should not happen often, and when it last did.
#[derive(Debug, Default)]
pub struct Hits {
    times: AtomicU64,
    last_at: AtomicU64,
}

/// How often something happened since the start, and when last, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Happened {
    /// How often.
    pub times: u64,
    /// When last.
    pub last_at: u64,
}

/// A listener that accepts, until it is dropped.
#[derive(Debug)]
pub struct Listening<'a>(&'a Metrics);

impl Default for Metrics {
    fn default() -> Self {
        Self {
            calls: Calls::default(),
            refusals: Words::new(&REASONS),
            reconnects: Words::new(&RECONNECTS),
            links_made: AtomicU64::new(0),
            sockets_turned_away: Hits::default(),
            agents_turned_away: Hits::default(),
            calls_turned_away: Hits::default(),
            accepts_failed: Hits::default(),
            listeners: AtomicUsize::new(0),
        }
    }
}

impl Metrics {
    /// Counts a call whose answer has a head now.
    pub fn answered<B>(&self, method: MethodLabel, began: Instant, answer: &Response<B>) {
        self.calls.record(method, answer.status(), began.elapsed());
        if let Some(ProblemCode(code)) = answer.extensions().get() {
            self.refusals.record(code);
            if code == TOO_MANY_CALLS {
                self.calls_turned_away.hit();
            }
        }
    }

    /// A listener begins to accept.
    #[must_use]
    pub fn listening(&self) -> Listening<'_> {
        self.listeners.fetch_add(1, Ordering::Relaxed);
        Listening(self)
    }

    /// Listeners that accept.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.listeners.load(Ordering::Relaxed)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hits {
    /// It happened.
    pub fn hit(&self) {
        self.times.fetch_add(1, Ordering::Relaxed);
        self.last_at.store(clock::now(), Ordering::Relaxed);
    }

    /// How often it happened, and when last.
    #[must_use]
    pub fn happened(&self) -> Happened {
        Happened {
            times: self.times.load(Ordering::Relaxed),
            last_at: self.last_at.load(Ordering::Relaxed),
        }
    }
}

impl Happened {
    /// Whether it happened within so many seconds before `now`.
    #[must_use]
    pub fn is_within(&self, seconds: u64, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
        self.times > 0 && now.saturating_sub(self.last_at) < seconds
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;
    use crate::link::LinkEnd;
    use crate::problem::Problem;
    use crate::protocol::CloseCode;

    #[test]
    fn a_refused_call_counts_by_its_reason_and_a_full_connection_is_remembered() {
        let metrics = Metrics::default();
        let refuse = |code: &'static str| {
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, code, "no");
            let method = MethodLabel::of(&Method::GET);
            metrics.answered(method, Instant::now(), &problem.into_response());
        };
        refuse("agent-offline");
        assert_eq!(metrics.calls_turned_away.happened(), Happened::default());
        refuse(TOO_MANY_CALLS);
        refuse("something-new");
        let refusals: Vec<_> = metrics.refusals.counted().collect();
        assert_eq!(
            refusals,
            [("agent-offline", 1), (TOO_MANY_CALLS, 1), ("other", 1)]
        );
        let happened = metrics.calls_turned_away.happened();
        assert_eq!(happened.times, 1);
        assert!(happened.is_within(60, SystemTime::now()));
    }

    #[test]
    fn every_end_of_a_link_has_a_count_of_its_own() {
        let why = || "why".to_owned();
        let ends = [
            LinkEnd::ClosedHere(CloseCode::Internal),
            LinkEnd::ClosedByPeer {
                code: CloseCode::Internal,
                text: why(),
            },
            LinkEnd::Lost(why()),
            LinkEnd::NotResumed {
                why: why(),
                window: std::time::Duration::ZERO,
            },
            LinkEnd::Abandoned(why()),
        ];
        let metrics = Metrics::default();
        for end in &ends {
            metrics.reconnects.record(end.word());
        }
        let counted: Vec<_> = metrics.reconnects.counted().collect();
        assert_eq!(counted.len(), ends.len());
        assert!(counted.iter().all(|(word, _)| *word != "other"));
    }

    #[test]
    fn a_listener_counts_until_it_ends() {
        let metrics = Metrics::default();
        let listening = metrics.listening();
        assert_eq!(metrics.listeners(), 1);
        drop(listening);
        assert_eq!(metrics.listeners(), 0);
    }
}
