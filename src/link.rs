//! A link: a connection's live outbound WebSocket, and what runs on it.
//!
//! The agent dials ([`dial`], [`client`]), the relay answers ([`server`]); both get a [`Link`]: two
//! lanes as byte streams ([`lane`]), HTTP/2 on them ([`http2`]), and a driver that moves frames
//! between the session and the WebSocket. A link outlives its WebSocket: when one is lost the next is
//! attached ([`path`]), and nothing above notices. Decides nothing about calls or connections.

#[cfg(feature = "agent")]
pub mod client;
#[cfg(feature = "agent")]
pub mod dial;
mod driver;
pub mod http2;
pub mod lane;
pub mod path;
#[cfg(feature = "agent")]
pub mod request;
#[cfg(feature = "relay")]
pub mod server;
pub mod tls;
mod websocket;

use std::fmt;
use std::time::Duration;

use self::driver::LinkDriver;
use self::lane::{LaneStream, Shared};
use self::websocket::Socket;
use crate::identity::ConnectionId;
use crate::protocol::CloseCode;
use crate::protocol::frame::Lane;
use crate::protocol::handshake::{EARLY_ACK, Introduction, SessionGrant, Transcript};
use crate::session::{LaneTraffic, Session, Silent, Violation};

/// A link after its handshake, the same on both sides.
pub struct Link {
    /// Whose link it is.
    pub connection: ConnectionId,
    /// What the other side told of itself.
    pub peer: Introduction,
    /// By how many seconds the relay's clock was ahead of this machine's during the handshake, as the
    /// agent sees it; a round trip more or less.
    pub clock_ahead: Option<i64>,
    /// What the handshake that made it comes to; what is signed over it is worth nothing on another link.
    pub transcript: Option<Transcript>,
    /// Calls into the private network: the relay is the HTTP/2 client.
    pub inward: LaneStream,
    /// From the private network out: the agent is the HTTP/2 client.
    pub outward: LaneStream,
    /// Closes and observes the link from anywhere.
    pub handle: LinkHandle,
    /// Must run for anything to move.
    pub driver: LinkDriver,
}

/// Closes and observes a link. Cheap to clone.
#[derive(Clone)]
pub struct LinkHandle {
    shared: std::sync::Arc<Shared>,
}

/// What can be said of a live link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStats {
    /// How long the link has been up.
    pub age: Duration,
    /// How long nothing has been heard from the other side.
    pub quiet: Duration,
    /// The time to the other side and back, smoothed.
    pub round_trip: Duration,
    /// What has crossed each lane, in the order of [`Lane::BOTH`].
    pub traffic: [LaneTraffic; 2],
}

/// How a link ended.
#[derive(Debug)]
pub enum LinkEnd {
    /// This side closed it.
    ClosedHere(CloseCode),
    /// The other side closed it.
    ClosedByPeer {
        /// Why, for the program.
        code: CloseCode,
        /// Why, for people.
        text: String,
    },
    /// An answer was due and nothing came.
    Silent(Silent),
    /// The other side broke the protocol.
    Violation(Violation),
    /// The WebSocket broke or ended without a word.
    Lost(String),
    /// The WebSocket was lost, and no other came in time.
    NotResumed {
        /// How it was lost.
        why: String,
        /// How long the session was kept.
        window: Duration,
    },
    /// The session is over without a word on the wire, for this reason.
    Abandoned(String),
}

impl Link {
    fn new(
        connection: ConnectionId,
        peer: Introduction,
        grant: Option<SessionGrant>,
        round_trip: Duration,
        socket: Socket,
    ) -> Self {
        let mut session = Session::new(peer.window, round_trip, Duration::ZERO);
        if peer.has(EARLY_ACK) {
            session.measure_the_path();
        }
        let shared = Shared::new(session, grant);
        Self {
            connection,
            peer,
            clock_ahead: None,
            transcript: None,
            inward: LaneStream::new(&shared, Lane::Inward),
            outward: LaneStream::new(&shared, Lane::Outward),
            handle: LinkHandle {
                shared: std::sync::Arc::clone(&shared),
            },
            driver: LinkDriver::new(shared, socket),
        }
    }
}

impl LinkHandle {
    /// Ends the link in good order: what was written goes out first, then the reason.
    pub fn close(&self, code: CloseCode, text: &str) {
        self.shared.close(code, text.to_owned());
    }

    /// How the link is doing.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        self.shared.stats()
    }
}

impl LinkEnd {
    /// The kind of end, in a word for counting.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::ClosedHere(_) => "closed-here",
            Self::ClosedByPeer { .. } => "closed-by-the-other-side",
            Self::Silent(_) => "silence",
            Self::Violation(_) => "violation",
            Self::Lost(_) => "lost",
            Self::NotResumed { .. } => "not-resumed",
            Self::Abandoned(_) => "abandoned",
        }
    }
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedHere(code) => write!(f, "closed by this side ({code})"),
            Self::ClosedByPeer { code, text } if text.is_empty() => {
                write!(f, "closed by the other side ({code})")
            }
            Self::ClosedByPeer { code, text } => {
                write!(f, "closed by the other side ({code}): {text}")
            }
            Self::Silent(silent) => fmt::Display::fmt(silent, f),
            Self::Violation(violation) => fmt::Display::fmt(violation, f),
            Self::Lost(why) => write!(f, "lost: {why}"),
            Self::NotResumed { why, window } => {
                let seconds = window.as_secs();
                write!(f, "lost: {why}, and not resumed within {seconds} s")
            }
            Self::Abandoned(why) => f.write_str(why),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
