//! What the relay knows: connections, invitations, tokens. Plain values.
//!
//! Made by `store`, held by `registry`, shown by `api`. Nothing here reads a clock, a file or a
//! secret: of a token only its hash is known, of an invitation only the public half of its key.

use std::fmt;

use crate::identity::{ConnectionId, PublicKey};
use crate::name::Name;

/// Everything durable about one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Names it for machines, for ever.
    pub id: ConnectionId,
    /// Names it for people; unique among the connections that are listed.
    pub name: Name,
    /// The public side's short name.
    pub local: Name,
    /// The private side's short name.
    pub remote: Name,
    /// What the admin wrote about it; may be empty.
    pub description: String,
    /// The public side's project for incoming synchronisation.
    pub project: Option<String>,
    /// When it was initiated, in seconds since 1970.
    pub created_at: u64,
    /// The newest invitation; there is always one unless the database was edited by hand.
    pub invitation: Option<InvitationRecord>,
    /// Who accepted, once someone has.
    pub accepted: Option<Accepted>,
    /// Each side's own flag.
    pub deactivated: Deactivated,
    /// When the agent was last linked, in seconds since 1970.
    pub last_seen_at: Option<u64>,
    /// When and where it was removed.
    pub removed: Option<Removed>,
    /// When this side last revoked an agent of it, in seconds since 1970.
    pub agent_revoked_at: Option<u64>,
}

/// The far side, as it presented itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// When the invitation was redeemed, in seconds since 1970.
    pub at: u64,
    /// The agent's identity.
    pub agent_key: PublicKey,
    /// Since when that key is this connection's, in seconds since 1970.
    pub key_since: u64,
    /// The key that is to follow, accepted beside it until it proves itself.
    pub next_key: Option<PublicKey>,
    /// The agent's program and version.
    pub software: String,
    /// The private side's project for incoming synchronisation.
    pub project: Option<String>,
}

/// Which sides hold the connection deactivated. Each side sets and clears its own flag only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deactivated {
    /// By the public side, here.
    pub here: bool,
    /// By the private side.
    pub there: bool,
}

/// A connection that is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// When, in seconds since 1970.
    pub at: u64,
    /// By whom.
    pub by: Side,
}

/// One of the two sides of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This side, with the relay.
    Public,
    /// The far side, with the agent.
    Private,
}

/// What a connection may be used for. The link's status is apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has accepted the invitation yet.
    Pending,
    /// Calls pass while the agent is linked.
    Active,
    /// Refuses calls, for one side or both have deactivated it.
    Deactivated(Deactivated),
    /// The far side removed it. It stays listed until it is removed here too.
    Removed,
}

/// One invitation of a connection. Only the newest can be redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvitationRecord {
    /// When it was issued, in seconds since 1970.
    pub issued_at: u64,
    /// From when on it is refused, in seconds since 1970.
    pub expires_at: u64,
    /// Its fate so far.
    pub fate: InvitationFate,
}

/// What became of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationFate {
    /// Nothing: it can be redeemed until it expires.
    Open,
    /// An agent redeemed it then.
    Redeemed(u64),
    /// It was revoked, or replaced by a newer one, then.
    Revoked(u64),
}

/// A caller's token, as far as the relay knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Names it in listings and for revoking; no secret.
    pub id: String,
    /// SHA-256 of the token's text.
    pub hash: TokenHash,
    /// What the admin calls it; agents see it as the caller's name.
    pub label: Name,
    /// What it opens.
    pub scope: Scope,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
}

/// SHA-256 of a token's text.
pub type TokenHash = [u8; 32];

/// What a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Calls to one connection.
    Connection(ConnectionId),
    /// Calls to every connection.
    AllConnections,
    /// Management, and calls to every connection.
    Admin,
}

impl ConnectionRecord {
    /// The state that both sides' decisions add up to.
    #[must_use]
    pub const fn state(&self) -> State {
        if self.removed.is_some() {
            return State::Removed;
        }
        if self.accepted.is_none() {
            return State::Pending;
        }
        if self.deactivated.here || self.deactivated.there {
            return State::Deactivated(self.deactivated);
        }
        State::Active
    }

    /// The agent's keys that are accepted: the current one, and one that may follow.
    pub fn agent_keys(&self) -> impl Iterator<Item = PublicKey> + use<> {
        let keys = self
            .accepted
            .as_ref()
            .map(|accepted| [Some(accepted.agent_key), accepted.next_key]);
        keys.into_iter().flatten().flatten()
    }

    /// Whether it was removed here: a tombstone, kept only so that a late agent is told the truth.
    #[must_use]
    pub const fn is_tombstone(&self) -> bool {
        matches!(
            self.removed,
            Some(Removed {
                by: Side::Public,
                ..
            })
        )
    }
}

impl State {
    /// The one word that machines compare.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Deactivated(_) => "deactivated",
            Self::Removed => "removed",
        }
    }
}

/// In words, with the side that is to be asked.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let detail = match self {
            Self::Pending | Self::Active => "",
            Self::Deactivated(Deactivated {
                here: true,
                there: true,
            }) => " by both sides",
            Self::Deactivated(Deactivated { here: true, .. }) => " by this side",
            Self::Deactivated(_) | Self::Removed => " by the far side",
        };
        f.pad(&format!("{}{detail}", self.word()))
    }
}

impl InvitationRecord {
    /// The one word that says whether it can still be redeemed.
    #[must_use]
    pub const fn word(&self, now: u64) -> &'static str {
        match self.fate {
            InvitationFate::Open if now >= self.expires_at => "expired",
            InvitationFate::Open => "open",
            InvitationFate::Redeemed(_) => "used",
            InvitationFate::Revoked(_) => "revoked",
        }
    }
}

impl Scope {
    /// The one word that machines compare.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connection(_) => "connection",
            Self::AllConnections => "all",
            Self::Admin => "admin",
        }
    }

    /// Whether calls to this connection are opened.
    #[must_use]
    pub fn opens(self, connection: ConnectionId) -> bool {
        match self {
            Self::Connection(only) => only == connection,
            Self::AllConnections | Self::Admin => true,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A connection that nobody has accepted.
    pub(crate) fn pending(name: &str) -> ConnectionRecord {
        ConnectionRecord {
            id: ConnectionId::generate().unwrap(),
            name: name.parse().unwrap(),
            local: "acme".parse().unwrap(),
            remote: "widgets".parse().unwrap(),
            description: String::new(),
            project: None,
            created_at: 1_000,
            invitation: None,
            accepted: None,
            deactivated: Deactivated::default(),
            last_seen_at: None,
            removed: None,
            agent_revoked_at: None,
        }
    }

    /// A connection that an agent with this key has accepted.
    pub(crate) fn accepted(name: &str, agent_key: PublicKey) -> ConnectionRecord {
        ConnectionRecord {
            accepted: Some(Accepted {
                at: 2_000,
                agent_key,
                key_since: 2_000,
                next_key: None,
                software: "agent/test".into(),
                project: None,
            }),
            ..pending(name)
        }
    }

    #[test]
    fn a_connection_is_active_only_when_neither_side_has_deactivated_it() {
        let mut record = accepted("a", PublicKey::from_bytes([1; 32]));
        assert_eq!(record.state(), State::Active);
        record.deactivated.there = true;
        assert_eq!(record.state().to_string(), "deactivated by the far side");
        record.deactivated.here = true;
        assert_eq!(record.state().to_string(), "deactivated by both sides");
        record.deactivated.there = false;
        assert_eq!(record.state().to_string(), "deactivated by this side");
    }

    #[test]
    fn a_connection_stays_pending_until_it_is_accepted_whatever_the_flags() {
        let mut record = pending("a");
        record.deactivated.here = true;
        assert_eq!(record.state(), State::Pending);
    }

    #[test]
    fn a_token_of_one_connection_opens_no_other() {
        let (one, other) = (pending("one").id, pending("other").id);
        assert!(Scope::Connection(one).opens(one));
        assert!(!Scope::Connection(one).opens(other));
        assert!(Scope::AllConnections.opens(other));
    }
}
