//! What an agent is told when it gets no link: code and words for each reason.

use std::sync::Arc;

use crate::identity::PublicKey;
use crate::protocol::handshake::{HandshakeError, Refusal, RefusalCode};
use crate::relay::clock;
use crate::relay::registry::{Connection, LinkRefusal};

/// Said when a live link ends because the connection was removed.
pub(super) const REMOVED_HERE: &str = "the connection was removed on the public side";
/// A second agent with a live one's identity may try again after this, in seconds: the first may just
/// have vanished without a word, which takes half a minute to notice.
const ALREADY_LINKED_RETRY_AFTER: u64 = 30;

/// An agent of other versions may try again after this, in seconds: somebody has to install something first.
const OTHER_VERSION_RETRY_AFTER: u64 = 300;

pub(super) fn of_link(error: LinkRefusal) -> Refusal {
    let (code, text, retry_after) = match error {
        LinkRefusal::Unknown => (
            RefusalCode::UnknownConnection,
            "the relay has no such connection".to_owned(),
            None,
        ),
        LinkRefusal::Pending => {
            let text = "nobody has redeemed this connection's invitation with this relay";
            (RefusalCode::UnknownConnection, text.to_owned(), None)
        }
        LinkRefusal::Removed { at } => {
            let text = format!("{REMOVED_HERE} at {}", clock::rfc3339(at));
            (RefusalCode::Removed, text, None)
        }
        LinkRefusal::AlreadyLinked => {
            let text = "another agent with this identity is linked; if this machine is a clone, \
                        remove the connection here and accept an invitation of its own";
            (
                RefusalCode::AlreadyLinked,
                text.to_owned(),
                Some(ALREADY_LINKED_RETRY_AFTER),
            )
        }
    };
    Refusal {
        code,
        text,
        retry_after,
    }
}

pub(super) fn of_version(error: &HandshakeError) -> Refusal {
    Refusal {
        code: RefusalCode::UnsupportedVersion,
        text: format!("{error}; upgrade the older of agent and relay"),
        retry_after: Some(OTHER_VERSION_RETRY_AFTER),
    }
}

pub(super) fn of_bad_proof() -> Refusal {
    Refusal {
        code: RefusalCode::BadProof,
        text: "this agent's key is not the one that redeemed the invitation".to_owned(),
        retry_after: None,
    }
}

/// The connection with the key that redeemed its invitation.
pub(super) fn with_agent_key(
    connection: Arc<Connection>,
) -> Result<(Arc<Connection>, PublicKey), Refusal> {
    let record = connection.record();
    match &record.accepted {
        Some(accepted) => Ok((Arc::clone(&connection), accepted.agent_key)),
        None => Err(of_link(LinkRefusal::Pending)),
    }
}
