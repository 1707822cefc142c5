//! What an agent is told when it gets no link: code and words for each reason.

use crate::protocol::handshake::{HandshakeError, Refusal, RefusalCode};
use crate::relay::clock;
use crate::relay::registry::LinkRefusal;
use crate::relay::store::{FormerKey, KeyEnd};

/// Said when a live link ends because the connection was removed.
pub(super) const REMOVED_HERE: &str = "the connection was removed on the public side";
/// Said when a live link ends because its agent was revoked.
pub(super) const REVOKED_HERE: &str = "the public side revoked this agent's key; to come back, ask it for a \
                                       new invitation and accept that";
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
        LinkRefusal::Revoked { at } => (RefusalCode::Revoked, revoked_at(at), None),
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

/// For a proof by a key that was the connection's once. `knows_rotation`: whether the agent can have another.
pub(super) fn of_former_key(former: FormerKey, knows_rotation: bool) -> Refusal {
    let (code, text) = match former.why {
        KeyEnd::Revoked => (RefusalCode::Revoked, revoked_at(former.at)),
        KeyEnd::Replaced if knows_rotation => {
            let at = clock::rfc3339(former.at);
            let text = format!(
                "this key was replaced by a newer one at {at}: the state directory is a copy or an old backup; use \
                 the newer state, or remove the connection here and accept a new invitation"
            );
            (RefusalCode::Replaced, text)
        }
        KeyEnd::Replaced => return of_bad_proof(),
    };
    Refusal {
        code,
        text,
        retry_after: None,
    }
}

fn revoked_at(at: u64) -> String {
    format!("{REVOKED_HERE} (revoked at {})", clock::rfc3339(at))
}
