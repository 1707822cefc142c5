//! What the handshake's signatures cover, and the split of a message into signature and body.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Binding, Bytes32, HandshakeError};
use crate::identity::{SIGNATURE_LENGTH, Signature};

/// A message that begins with its sender's signature.
pub(super) struct Signed<T> {
    pub(super) signature: Signature,
    /// The bytes that `body` was read from; signatures cover bytes, never a re-encoding.
    pub(super) json: Vec<u8>,
    pub(super) body: T,
}

/// The domains keep a signature for one message from passing as one for another.
const CHALLENGE_DOMAIN: &[u8] = b"relay-agent link v1 challenge\0";
const PROOF_DOMAIN: &[u8] = b"relay-agent link v1 proof\0";
const REFUSED_DOMAIN: &[u8] = b"relay-agent link v1 refused\0";
const TRANSCRIPT_DOMAIN: &[u8] = b"relay-agent link v1 transcript\0";

/// A digest of all that both sides signed in the handshake that made a link: the same at both ends, another
/// for every link. What is signed over it is worth nothing on any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcript(Bytes32);

impl Transcript {
    pub(super) fn new(
        hello: &[u8],
        challenge: &[u8],
        proof_json: &[u8],
        binding: &Binding,
    ) -> Self {
        let parts = [hello, challenge, proof_json];
        Self(Bytes32::of(&join(
            TRANSCRIPT_DOMAIN,
            &parts,
            binding.bytes(),
        )))
    }

    /// One of given bytes, for tests of what is signed over it.
    #[cfg(test)]
    pub(crate) const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Bytes32(bytes))
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

/// What the relay signs to show that it is the relay of the invitation, answering this hello. Stops
/// an impostor, and a replay (the hello has the agent's nonce); a man in the middle shows by the
/// exporter's digest, which the challenge carries.
pub(super) fn challenge(hello: &[u8], challenge_json: &[u8]) -> Vec<u8> {
    join(CHALLENGE_DOMAIN, &[hello, challenge_json], &[])
}

/// What the agent signs to show that it holds the key that redeemed the invitation. Stops a replay
/// (the challenge has the relay's nonce) and a man in the middle.
pub(super) fn proof(
    hello: &[u8],
    challenge: &[u8],
    proof_json: &[u8],
    binding: &Binding,
) -> Vec<u8> {
    join(
        PROOF_DOMAIN,
        &[hello, challenge, proof_json],
        binding.bytes(),
    )
}

/// What the relay signs when it refuses. Stops an impostor from ending a connection for good; the
/// hello's nonce stops an old refusal from being played again.
pub(super) fn refused(hello: &[u8], refused_json: &[u8]) -> Vec<u8> {
    join(REFUSED_DOMAIN, &[hello, refused_json], &[])
}

fn join(domain: &[u8], hashed: &[&[u8]], binding: &[u8]) -> Vec<u8> {
    let mut message = domain.to_vec();
    for part in hashed {
        message.extend_from_slice(digest(&SHA256, part).as_ref());
    }
    message.extend_from_slice(binding);
    message
}

pub(super) fn write_plain<T: Serialize>(kind: u8, body: &T) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&write_json(body));
    message
}

pub(super) fn write_signed(kind: u8, signature: &Signature, json: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(1 + SIGNATURE_LENGTH + json.len());
    message.push(kind);
    message.extend_from_slice(signature.as_bytes());
    message.extend_from_slice(json);
    message
}

/// JSON of our own types, which have string keys and finite numbers only, so that writing cannot fail.
pub(super) fn write_json<T: Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_default()
}

pub(super) fn read_plain<T: DeserializeOwned>(
    kind: u8,
    message: &[u8],
    fault: &'static str,
) -> Result<T, HandshakeError> {
    let json = message
        .strip_prefix(&[kind])
        .ok_or(HandshakeError::Malformed(fault))?;
    serde_json::from_slice(json).map_err(|_| HandshakeError::Malformed(fault))
}

pub(super) fn read_signed<T: DeserializeOwned>(
    kind: u8,
    message: &[u8],
    fault: &'static str,
) -> Result<Signed<T>, HandshakeError> {
    let rest = message
        .strip_prefix(&[kind])
        .ok_or(HandshakeError::Malformed(fault))?;
    let (signature, json) = rest
        .split_first_chunk::<SIGNATURE_LENGTH>()
        .ok_or(HandshakeError::Malformed(fault))?;
    let body = serde_json::from_slice(json).map_err(|_| HandshakeError::Malformed(fault))?;
    Ok(Signed {
        signature: Signature::from_bytes(*signature),
        json: json.to_vec(),
        body,
    })
}
