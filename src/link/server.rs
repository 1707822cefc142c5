//! The relay's end of a link: the WebSocket upgrade, then the handshake step by step.
//!
//! Who may link is the caller's decision, made between the steps. Every wait has a deadline.

use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::tls::Stream;
use super::websocket::{self, ExchangeError, Socket, Transport};
use super::{Link, LinkHandle};
use crate::body::{self, Body};
use crate::identity::{ConnectionId, PublicKey, SigningKey};
use crate::protocol::SUBPROTOCOL;
use crate::protocol::handshake::{
    Acceptance, Binding, Claim, Greeting, HandshakeError, Introduction, Proof, RESUME, Refusal,
    RelayChallenge, ResumeOffer, SessionGrant, SessionId, Ticket,
};

/// How long hyper may take to hand the connection over after the 101 was written.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);

/// An agent that upgraded and said hello.
pub struct Arrival {
    websocket: Socket,
    greeting: Greeting,
}

/// An agent that answered the challenge; by which key is to be found out.
pub struct Claimed {
    websocket: Socket,
    challenge: RelayChallenge,
    connection: ConnectionId,
    claim: Claim,
    round_trip: Duration,
}

/// An agent that proved who it is and awaits the relay's word.
pub struct Proven {
    websocket: Socket,
    challenge: RelayChallenge,
    connection: ConnectionId,
    proof: Proof,
    round_trip: Duration,
}

/// Why a link did not come about.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The request is not an upgrade to the link's subprotocol.
    #[error("not a WebSocket upgrade to {SUBPROTOCOL}: {0}")]
    NotAnUpgrade(&'static str),
    /// The connection was not handed over after the 101.
    #[error("the connection was lost during the upgrade")]
    Upgrade(#[source] Option<hyper::Error>),
    /// A message could not be exchanged.
    #[error("the handshake broke off")]
    Exchange(#[source] ExchangeError),
    /// A message was wrong.
    #[error("the handshake failed")]
    Handshake(#[source] HandshakeError),
}

/// Checks an upgrade request and makes its answer. The connection follows by [`Arrival::receive`]
/// once the answer is on its way.
///
/// # Errors
/// [`AcceptError::NotAnUpgrade`] saying what is missing.
pub fn upgrade(
    request: &mut Request<Incoming>,
) -> Result<(Response<Body>, OnUpgrade), AcceptError> {
    let says = |name: header::HeaderName, word: &str| {
        let values = request.headers().get_all(name);
        values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|item| item.trim().eq_ignore_ascii_case(word))
            })
    };
    if request.method() != Method::GET {
        return Err(AcceptError::NotAnUpgrade("the method is not GET"));
    }
    if !says(header::CONNECTION, "upgrade") || !says(header::UPGRADE, "websocket") {
        return Err(AcceptError::NotAnUpgrade(
            "the Upgrade header is missing; a proxy may have removed it",
        ));
    }
    if !says(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(AcceptError::NotAnUpgrade("Sec-WebSocket-Version is not 13"));
    }
    if !says(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(AcceptError::NotAnUpgrade("the subprotocol is another"));
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or(AcceptError::NotAnUpgrade("Sec-WebSocket-Key is missing"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| AcceptError::NotAnUpgrade("Sec-WebSocket-Key is unusable"))?;

    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(SUBPROTOCOL),
    );
    Ok((response, hyper::upgrade::on(request)))
}

impl Arrival {
    /// Waits for the upgraded connection, which must be served over an `S`, and the agent's hello.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub async fn receive<S>(upgrade: OnUpgrade) -> Result<Self, AcceptError>
    where
        S: AsyncRead + AsyncWrite + Into<Stream> + Unpin + 'static,
    {
        let upgraded = tokio::time::timeout(UPGRADE_DEADLINE, upgrade)
            .await
            .map_err(|_| AcceptError::Upgrade(None))?
            .map_err(|error| AcceptError::Upgrade(Some(error)))?;
        let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<S>>() else {
            return Err(AcceptError::Upgrade(None));
        };
        let limits = Some(websocket::limits());
        let stream: Stream = io.into_inner().into();
        websocket::bound_what_waits(stream.descriptor());
        let stream: Box<dyn Transport> = Box::new(stream);
        let mut websocket =
            Socket::from_partially_read(stream, read_buf.into(), Role::Server, limits).await;
        let hello = websocket::receive(&mut websocket)
            .await
            .map_err(AcceptError::Exchange)?;
        let greeting = Greeting::read(&hello).map_err(AcceptError::Handshake)?;
        Ok(Self {
            websocket,
            greeting,
        })
    }

    /// The connection that the agent asks for.
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        self.greeting.connection()
    }

    /// Whether a version that the agent speaks is spoken here.
    ///
    /// # Errors
    /// [`HandshakeError::UnsupportedVersion`].
    pub fn check_version(&self) -> Result<(), HandshakeError> {
        self.greeting.check_version()
    }

    /// Says no, signed by the relay's identity key, and hangs up.
    ///
    /// # Errors
    /// [`AcceptError::Exchange`] when even that could not be said.
    pub async fn refuse(mut self, key: &SigningKey, refusal: &Refusal) -> Result<(), AcceptError> {
        let message = self.greeting.refuse(key, refusal);
        say_no(&mut self.websocket, message).await
    }

    /// Challenges the agent and reads its proof. `binding` is this end's TLS exporter when TLS ends here;
    /// `time` the relay's clock in seconds since 1970.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub async fn challenge(
        mut self,
        key: &SigningKey,
        introduction: &Introduction,
        binding: Binding,
        time: u64,
    ) -> Result<Claimed, AcceptError> {
        let connection = self.greeting.connection();
        let (message, challenge) = self
            .greeting
            .challenge(key, introduction, binding, time)
            .map_err(AcceptError::Handshake)?;
        let began = Instant::now();
        websocket::send(&mut self.websocket, message)
            .await
            .map_err(AcceptError::Exchange)?;
        let proof = websocket::receive(&mut self.websocket)
            .await
            .map_err(AcceptError::Exchange)?;
        let round_trip = began.elapsed();
        let claim = challenge
            .read_proof(&proof)
            .map_err(AcceptError::Handshake)?;
        Ok(Claimed {
            websocket: self.websocket,
            challenge,
            connection,
            claim,
            round_trip,
        })
    }
}

impl Claimed {
    /// Whether this key made the proof.
    #[must_use]
    pub fn is_by(&self, agent: &PublicKey) -> bool {
        self.claim.is_by(agent)
    }

    /// Whether the agent named a feature.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.claim.has(feature)
    }

    /// The agent, if this key made its proof; else who claims to be it, who may have proved another.
    ///
    /// # Errors
    /// The claim again.
    #[expect(
        clippy::result_large_err,
        reason = "one per handshake, taken apart at once"
    )]
    pub fn by(self, agent: &PublicKey) -> Result<Proven, Self> {
        let Self {
            websocket,
            challenge,
            connection,
            claim,
            round_trip,
        } = self;
        match claim.by(agent) {
            Ok(proof) => Ok(Proven {
                websocket,
                challenge,
                connection,
                proof,
                round_trip,
            }),
            Err(claim) => Err(Self {
                websocket,
                challenge,
                connection,
                claim,
                round_trip,
            }),
        }
    }

    /// Says no, signed, and hangs up.
    ///
    /// # Errors
    /// [`AcceptError::Exchange`] when even that could not be said.
    pub async fn refuse(mut self, key: &SigningKey, refusal: &Refusal) -> Result<(), AcceptError> {
        let message = self.challenge.refuse(key, refusal);
        say_no(&mut self.websocket, message).await
    }
}

impl Proven {
    /// What the agent told of itself.
    #[must_use]
    pub const fn peer(&self) -> &Introduction {
        &self.proof.peer
    }

    /// The session that the agent would go on with.
    #[must_use]
    pub const fn offer(&self) -> Option<ResumeOffer> {
        self.proof.offer
    }

    /// The ticket that the agent showed, as the successor of another process.
    #[must_use]
    pub const fn succeeds(&self) -> Option<Ticket> {
        self.proof.succeeds
    }

    /// Says yes to a new link; `deactivated` tells whether the public side has deactivated the
    /// connection, `resume_window` for how long its session is kept without a WebSocket.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub async fn accept(
        mut self,
        deactivated: bool,
        resume_window: Duration,
    ) -> Result<Link, AcceptError> {
        let resume_window = resume_window.as_secs();
        let grant = if self.proof.peer.has(RESUME) && resume_window > 0 {
            let id = SessionId::generate().map_err(AcceptError::Handshake)?;
            Some(SessionGrant { id, resume_window })
        } else {
            None
        };
        let message = self.challenge.accept(&Acceptance {
            deactivated,
            session: grant,
            resumed: None,
        });
        websocket::send(&mut self.websocket, message)
            .await
            .map_err(AcceptError::Exchange)?;
        let (peer, socket) = (self.proof.peer, self.websocket);
        let mut link = Link::new(self.connection, peer, grant, self.round_trip, socket);
        link.transcript = Some(self.proof.transcript);
        Ok(link)
    }

    /// Goes on with a link over this WebSocket, as the agent offered; `deactivated` is asked once the former
    /// WebSocket carries nothing more. Returns the agent back when the link's session is over.
    ///
    /// # Errors
    /// [`AcceptError`]; the link then waits for another try.
    pub async fn resume(
        mut self,
        link: &LinkHandle,
        deactivated: impl FnOnce() -> bool + Send,
    ) -> Result<Option<Self>, AcceptError> {
        let (Some(offer), Some(grant)) = (self.proof.offer, link.grant()) else {
            return Ok(Some(self));
        };
        let Some(leave) = link.leave_for(offer.received) else {
            return Ok(Some(self));
        };
        let message = self.challenge.accept(&Acceptance {
            deactivated: deactivated(),
            session: Some(grant),
            resumed: Some(leave.resumed),
        });
        websocket::send(&mut self.websocket, message)
            .await
            .map_err(AcceptError::Exchange)?;
        if let Err(violation) = link.arrive(&leave, self.websocket, self.round_trip) {
            link.abandon(&violation.to_string());
        }
        Ok(None)
    }

    /// Says no, signed, and hangs up.
    ///
    /// # Errors
    /// [`AcceptError::Exchange`] when even that could not be said.
    pub async fn refuse(mut self, key: &SigningKey, refusal: &Refusal) -> Result<(), AcceptError> {
        let message = self.challenge.refuse(key, refusal);
        say_no(&mut self.websocket, message).await
    }
}

/// Sends a last message and closes the WebSocket, so that the message is not lost to a reset.
async fn say_no(websocket: &mut Socket, message: Vec<u8>) -> Result<(), AcceptError> {
    websocket::send(websocket, message)
        .await
        .map_err(AcceptError::Exchange)?;
    // The agent has what it needs; how the socket ends is of no interest.
    let _ = tokio::time::timeout(websocket::STEP_DEADLINE, websocket.close(None)).await;
    Ok(())
}
