//! The relay's steps: greeting, then challenge, then accepted or refused.

use super::transcript::{self, read_plain, read_signed, write_json, write_plain, write_signed};
use super::{
    ACCEPTED, Acceptance, AcceptedBody, Binding, BindingName, CHALLENGE, ChallengeBody, HELLO,
    HandshakeError, HelloBody, Introduction, Nonce, PROOF, ProofBody, REFUSED, Refusal,
    ResumeOffer, Ticket, Transcript,
};
use crate::identity::{ConnectionId, PublicKey, Signature, SigningKey};
use crate::protocol::LINK_VERSION;

/// The agent's hello, read and not yet believed.
#[derive(Debug)]
pub struct Greeting {
    message: Vec<u8>,
    body: HelloBody,
}

/// The relay has challenged and awaits the agent's proof.
pub struct RelayChallenge {
    hello: Vec<u8>,
    body: HelloBody,
    challenge: Vec<u8>,
    binding: Binding,
}

/// An agent's proof before it is known whose it is.
pub struct Claim {
    signature: Signature,
    signed: Vec<u8>,
    proof: Proof,
}

/// An agent's proof, once it was checked.
#[derive(Debug)]
pub struct Proof {
    /// What the agent told of itself.
    pub peer: Introduction,
    /// The session that it would go on with.
    pub offer: Option<ResumeOffer>,
    /// The ticket that the agent showed, as the successor of another process.
    pub succeeds: Option<Ticket>,
    /// What this handshake comes to.
    pub transcript: Transcript,
}

impl Greeting {
    /// Reads the first message of a link.
    ///
    /// # Errors
    /// [`HandshakeError::Malformed`].
    pub fn read(message: &[u8]) -> Result<Self, HandshakeError> {
        let body = read_plain(HELLO, message, "no hello")?;
        Ok(Self {
            message: message.to_vec(),
            body,
        })
    }

    /// The connection that the agent asks for.
    #[must_use]
    pub const fn connection(&self) -> ConnectionId {
        self.body.connection
    }

    /// Whether a version that the agent speaks is spoken here.
    ///
    /// # Errors
    /// [`HandshakeError::UnsupportedVersion`] with the agent's versions.
    pub fn check_version(&self) -> Result<(), HandshakeError> {
        if self.body.versions.contains(&LINK_VERSION) {
            return Ok(());
        }
        Err(HandshakeError::UnsupportedVersion(
            self.body.versions.clone(),
        ))
    }

    /// A signed no to this hello, as the message to send.
    #[must_use]
    pub fn refuse(&self, key: &SigningKey, refusal: &Refusal) -> Vec<u8> {
        refuse(&self.message, key, refusal)
    }

    /// Answers the hello; returns the challenge to send and the next step.
    ///
    /// `binding` is this end's exporter when TLS ends here; it is used if the agent asked for it.
    /// `time` is the relay's clock in seconds since 1970.
    ///
    /// # Errors
    /// [`HandshakeError::Randomness`].
    pub fn challenge(
        self,
        key: &SigningKey,
        introduction: &Introduction,
        binding: Binding,
        time: u64,
    ) -> Result<(Vec<u8>, RelayChallenge), HandshakeError> {
        let binding = match self.body.binding {
            BindingName::TlsExporter => binding,
            BindingName::None => Binding::None,
        };
        let json = write_json(&ChallengeBody {
            version: LINK_VERSION,
            software: introduction.software.clone(),
            features: introduction.features.clone(),
            nonce: Nonce::generate()?,
            exporter: binding.digest(),
            window: introduction.window,
            time,
        });
        let signature = key.sign(&transcript::challenge(&self.message, &json));
        let challenge = write_signed(CHALLENGE, &signature, &json);
        let next = RelayChallenge {
            hello: self.message,
            body: self.body,
            challenge: challenge.clone(),
            binding,
        };
        Ok((challenge, next))
    }
}

impl RelayChallenge {
    /// Reads the agent's proof, which may be by any key.
    ///
    /// # Errors
    /// [`HandshakeError::Malformed`].
    pub fn read_proof(&self, message: &[u8]) -> Result<Claim, HandshakeError> {
        let proof = read_signed::<ProofBody>(PROOF, message, "no proof")?;
        let parts = (&self.hello, &self.challenge, &proof.json, &self.binding);
        let (hello, challenge, json, binding) = parts;
        Ok(Claim {
            signature: proof.signature,
            signed: transcript::proof(hello, challenge, json, binding),
            proof: Proof {
                peer: Introduction {
                    software: self.body.software.clone(),
                    features: self.body.features.clone(),
                    window: self.body.window,
                    deactivated: self.body.deactivated,
                },
                offer: proof.body.resume,
                succeeds: proof.body.succeeds,
                transcript: Transcript::new(hello, challenge, json, binding),
            },
        })
    }

    /// Takes the agent's proof, which must be by this key; returns what the agent told of itself and would
    /// go on with.
    ///
    /// # Errors
    /// [`HandshakeError::BadProof`] or [`HandshakeError::Malformed`].
    pub fn handle_proof(&self, message: &[u8], agent: &PublicKey) -> Result<Proof, HandshakeError> {
        self.read_proof(message)?
            .by(agent)
            .map_err(|_| HandshakeError::BadProof)
    }

    /// The relay's yes, as the message to send.
    #[must_use]
    pub fn accept(&self, acceptance: &Acceptance) -> Vec<u8> {
        let body = AcceptedBody {
            deactivated: acceptance.deactivated,
            session: acceptance.session.map(|session| session.id),
            resume_window: acceptance
                .session
                .map_or(0, |session| session.resume_window),
            resumed: acceptance.resumed,
        };
        write_plain(ACCEPTED, &body)
    }

    /// A signed no, as the message to send.
    #[must_use]
    pub fn refuse(&self, key: &SigningKey, refusal: &Refusal) -> Vec<u8> {
        refuse(&self.hello, key, refusal)
    }
}

impl Claim {
    /// The features that whoever claims to be the agent named in its hello.
    #[must_use]
    pub fn has(&self, feature: &str) -> bool {
        self.proof.peer.has(feature)
    }

    /// Whether this key made the proof.
    #[must_use]
    pub fn is_by(&self, key: &PublicKey) -> bool {
        key.verify(&self.signed, &self.signature).is_ok()
    }

    /// The proof, if this key made it; else the claim again.
    ///
    /// # Errors
    /// The claim, which another key may have made.
    #[expect(
        clippy::result_large_err,
        reason = "one per handshake, taken apart at once"
    )]
    pub fn by(self, key: &PublicKey) -> Result<Proof, Self> {
        if self.is_by(key) {
            Ok(self.proof)
        } else {
            Err(self)
        }
    }
}

fn refuse(hello: &[u8], key: &SigningKey, refusal: &Refusal) -> Vec<u8> {
    let json = write_json(refusal);
    let signature = key.sign(&transcript::refused(hello, &json));
    write_signed(REFUSED, &signature, &json)
}
