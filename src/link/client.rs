//! The agent's end of a link: dial, upgrade, handshake.

use std::time::{Duration, Instant, SystemTime};

use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self};

use super::dial::{DialError, Dialer};
use super::tls::Stream;
use super::websocket::{self, ExchangeError, STEP_DEADLINE, Socket, Transport};
use super::{Link, LinkHandle};
use crate::identity::{ConnectionId, PublicKey, SigningKey};
use crate::invitation::{RelayUrl, TlsPin};
use crate::protocol::handshake::{
    AgentHello, Binding, EARLY_ACK, Established, HandshakeError, Introduction, MOVE, RESUME,
    Refusal, RefusalCode, Resumed, SessionGrant, Ticket,
};
use crate::protocol::rotation::ROTATE;
use crate::protocol::{LINK_PATH, SOFTWARE, SUBPROTOCOL};
use crate::session::WINDOW;

/// The longest time for which a session is kept without a WebSocket, whatever the relay says: as long as
/// a relay can be told to.
const LONGEST_RESUME_WINDOW: u64 = 3600;
/// How long to wait after a proof was refused that something on the way may have changed: nothing will
/// be otherwise before somebody has looked at it.
const DOUBTFUL_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Whose link to make, and what this side says of itself.
pub struct LinkTarget<'a> {
    /// Where the relay is.
    pub relay_url: &'a RelayUrl,
    /// The relay's TLS key, where no authority vouches for it.
    pub tls_pin: Option<TlsPin>,
    /// The identity that the invitation pinned.
    pub relay_identity: PublicKey,
    /// The connection.
    pub connection: ConnectionId,
    /// The key that redeemed the invitation.
    pub key: &'a SigningKey,
    /// Whether the administrator accepts that a middlebox opens the TLS.
    pub allow_tls_inspection: bool,
    /// Whether this side has deactivated the connection.
    pub deactivated: bool,
    /// The link to go on with, if there is one.
    pub resume: Option<LinkHandle>,
    /// The ticket under which another process of this agent announced this one.
    pub succeeds: Option<Ticket>,
}

/// What a dial led to.
pub enum Connected {
    /// The link that was to go on does, over a new WebSocket.
    Resumed,
    /// A new link.
    New(Box<Link>),
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The relay was not reached.
    #[error("the relay at {relay} is not reached")]
    Unreachable {
        /// Its host and port.
        relay: String,
        /// At which hop.
        #[source]
        source: DialError,
    },
    /// Something answered, but did not become a WebSocket.
    #[error("{relay} answered {status} instead of opening the link")]
    NotUpgraded {
        /// Its host and port.
        relay: String,
        /// What it answered.
        status: StatusCode,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The WebSocket upgrade failed before any answer.
    #[error("the WebSocket with {relay} did not come about")]
    Upgrade {
        /// Its host and port.
        relay: String,
        /// Why.
        #[source]
        source: Box<tungstenite::Error>,
    },
    /// The upgrade was not answered in time.
    #[error("{relay} did not answer the WebSocket upgrade within {} s", STEP_DEADLINE.as_secs())]
    UpgradeTimedOut {
        /// Its host and port.
        relay: String,
    },
    /// A message could not be exchanged.
    #[error("the handshake with {relay} broke off")]
    Exchange {
        /// Its host and port.
        relay: String,
        /// Why.
        #[source]
        source: ExchangeError,
    },
    /// The handshake failed, or the relay refused.
    #[error("no link with {relay}")]
    Handshake {
        /// Its host and port.
        relay: String,
        /// Why.
        #[source]
        source: HandshakeError,
    },
}

impl ConnectError {
    /// The relay's signed refusal, if that is what it was.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Handshake {
                source: HandshakeError::Refused(refusal),
                ..
            } => Some(refusal),
            Self::Handshake { .. }
            | Self::Unreachable { .. }
            | Self::NotUpgraded { .. }
            | Self::Upgrade { .. }
            | Self::UpgradeTimedOut { .. }
            | Self::Exchange { .. } => None,
        }
    }

    /// The refusal's code when trying again can never succeed.
    #[must_use]
    pub fn is_final(&self) -> Option<RefusalCode> {
        self.refusal()
            .map(|refusal| refusal.code)
            .filter(|code| code.is_final())
    }

    /// Whether the relay refused the key that was proved: another of the connection may be accepted.
    #[must_use]
    pub fn is_of_key(&self) -> bool {
        let is_doubtful = matches!(
            self,
            Self::Handshake {
                source: HandshakeError::DoubtfulBadProof,
                ..
            }
        );
        is_doubtful
            || self
                .refusal()
                .is_some_and(|refusal| refusal.code.is_of_key())
    }

    /// When to ask again, if the relay said so or it is no use before.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotUpgraded { retry_after, .. } => *retry_after,
            Self::Handshake {
                source: HandshakeError::DoubtfulBadProof,
                ..
            } => Some(DOUBTFUL_RETRY_AFTER),
            Self::Handshake { .. }
            | Self::Unreachable { .. }
            | Self::Upgrade { .. }
            | Self::UpgradeTimedOut { .. }
            | Self::Exchange { .. } => self
                .refusal()
                .and_then(|refusal| refusal.retry_after)
                .map(Duration::from_secs),
        }
    }
}

/// Makes a link, or goes on with the one that is to be resumed.
///
/// # Errors
/// [`ConnectError`], which knows whether another try can succeed.
pub async fn connect(dialer: &Dialer, target: &LinkTarget<'_>) -> Result<Connected, ConnectError> {
    let relay = target.relay_url.authority();
    let stream = dialer
        .connect(target.relay_url, target.tls_pin)
        .await
        .map_err(|source| ConnectError::Unreachable {
            relay: relay.clone(),
            source,
        })?;
    // A stream that has just finished its TLS handshake always has its exporter.
    let binding = match stream.exporter() {
        Ok(Some(exporter)) if !target.allow_tls_inspection => Binding::Exporter(exporter),
        Ok(_) | Err(_) => Binding::None,
    };
    websocket::bound_what_waits(stream.descriptor());
    let mut socket = upgrade(target.relay_url, stream).await?;
    let shaken = shake_hands(&mut socket, target, binding, &relay).await;
    let (established, round_trip) = shaken.inspect_err(say_loudly)?;
    let peer = established.relay;
    tracing::debug!(
        %relay, relay_clock = established.relay_time, software = %peer.software,
        resumed = established.resumed.is_some(), "link accepted"
    );
    if let (Some(link), Some(resumed)) = (&target.resume, established.resumed) {
        let Resumed { received, from } = resumed;
        if let Err(violation) = link.attach(socket, received, from, round_trip) {
            // The relay counts wrongly; without the session the next dial begins anew.
            link.abandon(&violation.to_string());
        }
        return Ok(Connected::Resumed);
    }
    let grant = established
        .session
        .filter(|_| peer.has(RESUME))
        .map(bounded);
    let mut link = Link::new(target.connection, peer, grant, round_trip, socket);
    link.handle.shared.lock().session.can_dial();
    link.clock_ahead = clock_ahead(established.relay_time, SystemTime::now());
    link.transcript = Some(established.transcript);
    Ok(Connected::New(Box::new(link)))
}

/// The session, kept no longer than makes sense.
fn bounded(grant: SessionGrant) -> SessionGrant {
    SessionGrant {
        resume_window: grant.resume_window.min(LONGEST_RESUME_WINDOW),
        ..grant
    }
}

/// By how many seconds a clock is ahead of `now`, which is this machine's.
fn clock_ahead(clock: u64, now: SystemTime) -> Option<i64> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(i128::from(clock) - i128::from(now)).ok()
}

/// What somebody has to look at, although the link is tried again.
fn say_loudly(error: &ConnectError) {
    if let ConnectError::Handshake {
        relay,
        source: source @ HandshakeError::DoubtfulBadProof,
    } = error
    {
        tracing::error!(%relay, why = %source, "no link until this is mended");
    }
}

async fn upgrade(relay_url: &RelayUrl, stream: Stream) -> Result<Socket, ConnectError> {
    let relay = relay_url.authority();
    let failed = |source| ConnectError::Upgrade {
        relay: relay.clone(),
        source: Box::new(source),
    };
    let scheme = if relay_url.is_tls() { "wss" } else { "ws" };
    let url = format!("{scheme}://{relay}{}", relay_url.path(LINK_PATH));
    let mut request = url.into_client_request().map_err(failed)?;
    let headers = request.headers_mut();
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    headers.insert(header::USER_AGENT, HeaderValue::from_static(SOFTWARE));

    let limits = Some(websocket::limits());
    let stream: Box<dyn Transport> = Box::new(stream);
    let upgrading = tokio_tungstenite::client_async_with_config(request, stream, limits);
    let upgraded = tokio::time::timeout(STEP_DEADLINE, upgrading)
        .await
        .map_err(|_| ConnectError::UpgradeTimedOut {
            relay: relay.clone(),
        })?;
    match upgraded {
        Ok((websocket, _response)) => Ok(websocket),
        Err(tungstenite::Error::Http(response)) => Err(ConnectError::NotUpgraded {
            relay,
            status: response.status(),
            retry_after: retry_after(response.headers()),
        }),
        Err(error) => Err(failed(error)),
    }
}

/// Hello, challenge, proof, word; and the time from hello to challenge.
async fn shake_hands(
    websocket: &mut Socket,
    target: &LinkTarget<'_>,
    binding: Binding,
    relay: &str,
) -> Result<(Established, Duration), ConnectError> {
    let handshake = |source| ConnectError::Handshake {
        relay: relay.to_owned(),
        source,
    };
    let exchange = |source| ConnectError::Exchange {
        relay: relay.to_owned(),
        source,
    };
    let introduction = Introduction {
        software: SOFTWARE.to_owned(),
        features: [RESUME, MOVE, EARLY_ACK, ROTATE]
            .map(str::to_owned)
            .to_vec(),
        window: WINDOW,
        deactivated: target.deactivated,
    };
    let hello = AgentHello::new(
        target.connection,
        target.relay_identity,
        &introduction,
        binding,
    )
    .map_err(handshake)?
    .succeeding(target.succeeds);
    let began = Instant::now();
    websocket::send(websocket, hello.message().to_vec())
        .await
        .map_err(exchange)?;
    let challenge = websocket::receive(websocket).await.map_err(exchange)?;
    let round_trip = began.elapsed();
    // As late as can be: what arrives on the old WebSocket until then need not be repeated.
    let offer = target.resume.as_ref().and_then(LinkHandle::offer);
    let (proof, proven) = hello
        .handle_challenge(&challenge, target.key, offer)
        .map_err(handshake)?;
    websocket::send(websocket, proof).await.map_err(exchange)?;
    let word = websocket::receive(websocket).await.map_err(exchange)?;
    let established = proven.handle_word(&word).map_err(handshake)?;
    Ok((established, round_trip))
}

/// `Retry-After` in seconds (RFC 9110, section 10.2.3), which is how a relay says it; a date is passed over.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    text.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::handshake::SessionId;

    #[test]
    fn a_clock_is_compared_whatever_it_says() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(clock_ahead(1_300, now), Some(300));
        assert_eq!(clock_ahead(0, now), Some(-1_000));
        assert_eq!(clock_ahead(u64::MAX, now), None);
    }

    #[test]
    fn no_relay_makes_an_agent_keep_a_session_for_ever() {
        let id = SessionId::generate().unwrap();
        let resume_window = u64::MAX;
        let grant = bounded(SessionGrant { id, resume_window });
        assert_eq!(grant.resume_window, LONGEST_RESUME_WINDOW);
    }

    #[test]
    fn a_refused_proof_that_something_may_have_changed_is_tried_again_slowly() {
        let error = ConnectError::Handshake {
            relay: "relay.example:443".to_owned(),
            source: HandshakeError::DoubtfulBadProof,
        };
        assert_eq!(error.is_final(), None);
        assert_eq!(error.retry_after(), Some(DOUBTFUL_RETRY_AFTER));
    }
}
