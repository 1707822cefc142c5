//! The agent's steps: hello, then proof, then established.

use super::transcript::{self, read_plain, read_signed, write_json, write_plain, write_signed};
use super::{
    ACCEPTED, AcceptedBody, Binding, CHALLENGE, ChallengeBody, Digest, HELLO, HandshakeError,
    HelloBody, Introduction, Nonce, PROOF, ProofBody, REFUSED, RESUME, Refusal, ResumeOffer,
    Resumed, SUCCESSION, SessionGrant, Ticket, Transcript,
};
use crate::identity::{ConnectionId, PublicKey, SigningKey};
use crate::protocol::LINK_VERSION;

/// The agent has said hello and awaits the relay's challenge.
pub struct AgentHello {
    message: Vec<u8>,
    relay: PublicKey,
    binding: Binding,
    succeeds: Option<Ticket>,
}

/// The agent has proved itself and awaits the relay's word.
pub struct AgentProof {
    hello: Vec<u8>,
    relay: PublicKey,
    challenge: ChallengeBody,
    binding: Binding,
    transcript: Transcript,
    has_offered: bool,
}

/// The handshake's fruit on the agent.
#[derive(Debug)]
pub struct Established {
    /// What the relay told of itself.
    pub relay: Introduction,
    /// The relay's clock when it answered, in seconds since 1970.
    pub relay_time: u64,
    /// The session that goes on, when it can be resumed after a cut.
    pub session: Option<SessionGrant>,
    /// Present when it is the one that was offered.
    pub resumed: Option<Resumed>,
    /// What this handshake comes to.
    pub transcript: Transcript,
}

impl AgentHello {
    /// Begins a handshake for `connection` with the relay whose identity is `relay`.
    ///
    /// # Errors
    /// [`HandshakeError::Randomness`].
    pub fn new(
        connection: ConnectionId,
        relay: PublicKey,
        introduction: &Introduction,
        binding: Binding,
    ) -> Result<Self, HandshakeError> {
        let body = HelloBody {
            versions: vec![LINK_VERSION],
            software: introduction.software.clone(),
            features: introduction.features.clone(),
            connection,
            nonce: Nonce::generate()?,
            binding: binding.name(),
            window: introduction.window,
            deactivated: introduction.deactivated,
        };
        Ok(Self {
            message: write_plain(HELLO, &body),
            relay,
            binding,
            succeeds: None,
        })
    }

    /// As a process that another of this agent announced under this ticket.
    #[must_use]
    pub const fn succeeding(mut self, ticket: Option<Ticket>) -> Self {
        self.succeeds = ticket;
        self
    }

    /// The message to send.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Takes the relay's challenge; returns the proof to send and the next step. `offer` is the session to
    /// go on with; it is passed over when the relay cannot.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`], [`HandshakeError::WrongRelay`], [`HandshakeError::Intercepted`],
    /// [`HandshakeError::UnsupportedVersion`] or [`HandshakeError::Malformed`].
    pub fn handle_challenge(
        self,
        message: &[u8],
        key: &SigningKey,
        offer: Option<ResumeOffer>,
    ) -> Result<(Vec<u8>, AgentProof), HandshakeError> {
        if message.first() == Some(&REFUSED) {
            let refused = read_refusal(&self.message, &self.relay, message);
            if matches!(&refused, HandshakeError::Refused(refusal) if refusal.code.follows_a_proof())
            {
                // Nothing was proved yet: someone else's proof was refused, under a copy of this hello.
                return Err(HandshakeError::Malformed(
                    "a refusal of a proof that was not given",
                ));
            }
            return Err(refused);
        }
        let challenge = read_signed::<ChallengeBody>(CHALLENGE, message, "no challenge")?;
        let signed = transcript::challenge(&self.message, &challenge.json);
        self.relay
            .verify(&signed, &challenge.signature)
            .map_err(|_| HandshakeError::WrongRelay)?;
        let binding = self.agreed_binding(&challenge.body)?;
        if challenge.body.version != LINK_VERSION {
            return Err(HandshakeError::UnsupportedVersion(vec![
                challenge.body.version,
            ]));
        }
        let can = |feature: &str| challenge.body.features.iter().any(|named| named == feature);
        let resume = offer.filter(|_| can(RESUME));
        let succeeds = self.succeeds.filter(|_| can(SUCCESSION));
        let json = write_json(&ProofBody { resume, succeeds });
        let signature = key.sign(&transcript::proof(&self.message, message, &json, &binding));
        let proof = write_signed(PROOF, &signature, &json);
        let next = AgentProof {
            transcript: Transcript::new(&self.message, message, &json, &binding),
            hello: self.message,
            relay: self.relay,
            challenge: challenge.body,
            binding,
            has_offered: resume.is_some(),
        };
        Ok((proof, next))
    }

    /// What both ends bind to. The relay's exporter, which its signature vouches for, differs from
    /// ours exactly when two TLS connections meet on the way.
    fn agreed_binding(&self, challenge: &ChallengeBody) -> Result<Binding, HandshakeError> {
        match (self.binding, challenge.exporter) {
            (_, None) => Ok(Binding::None),
            (Binding::Exporter(ours), Some(theirs)) if theirs == Digest::of(&ours) => {
                Ok(self.binding)
            }
            (Binding::Exporter(_) | Binding::None, Some(_)) => Err(HandshakeError::Intercepted),
        }
    }
}

impl AgentProof {
    /// Takes the relay's word.
    ///
    /// # Errors
    /// [`HandshakeError::Refused`], [`HandshakeError::DoubtfulBadProof`] or [`HandshakeError::Malformed`].
    pub fn handle_word(self, message: &[u8]) -> Result<Established, HandshakeError> {
        if message.first() == Some(&REFUSED) {
            let refused = read_refusal(&self.hello, &self.relay, message);
            return Err(match (refused, self.binding) {
                // No signature of the relay says which proof it refused. Bound to one TLS connection,
                // it can only have been this one.
                (HandshakeError::Refused(refusal), Binding::None) if refusal.code.is_of_key() => {
                    HandshakeError::DoubtfulBadProof
                }
                (refused, Binding::None | Binding::Exporter(_)) => refused,
            });
        }
        let accepted: AcceptedBody = read_plain(ACCEPTED, message, "neither yes nor no")?;
        if accepted.resumed.is_some() && !(self.has_offered && accepted.session.is_some()) {
            return Err(HandshakeError::Malformed("a session that was not offered"));
        }
        let resume_window = accepted.resume_window;
        Ok(Established {
            session: accepted
                .session
                .map(|id| SessionGrant { id, resume_window }),
            resumed: accepted.resumed,
            transcript: self.transcript,
            relay: Introduction {
                software: self.challenge.software,
                features: self.challenge.features,
                window: self.challenge.window,
                deactivated: accepted.deactivated,
            },
            relay_time: self.challenge.time,
        })
    }
}

/// A refusal counts only when the relay's identity key signed it.
fn read_refusal(hello: &[u8], relay: &PublicKey, message: &[u8]) -> HandshakeError {
    let refusal = match read_signed::<Refusal>(REFUSED, message, "a broken refusal") {
        Ok(refusal) => refusal,
        Err(error) => return error,
    };
    match relay.verify(
        &transcript::refused(hello, &refusal.json),
        &refusal.signature,
    ) {
        Ok(()) => HandshakeError::Refused(refusal.body),
        Err(_) => HandshakeError::WrongRelay,
    }
}
