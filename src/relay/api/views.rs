//! The JSON of the management API, both ways. The relay's own command reads what is written here.
//!
//! Times are RFC 3339, in UTC. Members may be added; those that are here stay. Never holds a secret,
//! but for the two answers that show one once.

use serde::{Deserialize, Serialize};

use crate::condition::{Condition, verdict};
use crate::name::Name;
use crate::relay::clock::rfc3339;
use crate::relay::connections::Issued;
use crate::relay::record::{Scope, State, TokenRecord};
use crate::relay::registry::{Connection, LinkStatus, Registry};
use crate::relay::shared::Shared;
use crate::secret::Secret;
use crate::shutdown::Draining;

/// The version of every document here.
pub const VERSION: u32 = 1;

/// `GET /v1/connections`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionsView {
    /// [`VERSION`].
    pub version: u32,
    /// By name.
    pub connections: Vec<ConnectionView>,
}

/// One connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConnectionView {
    /// For machines.
    pub id: String,
    /// For people.
    pub name: Name,
    /// The public side's short name.
    pub local: Name,
    /// The private side's short name.
    pub remote: Name,
    /// How they synchronise: `script`.
    pub mode: String,
    /// What the admin wrote about it.
    pub description: String,
    /// The public side's project.
    pub project: Option<String>,
    /// `pending`, `active`, `deactivated` or `removed`.
    pub state: String,
    /// The state in words, with the side that is to be asked.
    pub state_text: String,
    /// Each side's own flag.
    pub deactivated: DeactivatedView,
    /// The link.
    pub link: LinkView,
    /// When the agent was last linked.
    pub last_seen_at: Option<String>,
    /// The far side; `null` is "unknown": nobody has accepted yet.
    pub far_side: Option<FarSideView>,
    /// The newest invitation.
    pub invitation: Option<InvitationView>,
    /// When it was initiated.
    pub created_at: String,
    /// Calls under way.
    pub calls_in_flight: usize,
}

/// Which sides hold a connection deactivated.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct DeactivatedView {
    /// The public side, with the relay.
    pub here: bool,
    /// The private side, with the agent.
    pub there: bool,
}

/// A connection's link.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkView {
    /// `online`, `reconnecting` or `offline`.
    pub status: String,
    /// Since when it is online.
    pub since: Option<String>,
    /// Where the agent comes from.
    pub address: Option<String>,
    /// The agent's program and version.
    pub software: Option<String>,
    /// How often the link has gone on over another WebSocket.
    #[serde(default)]
    pub resumed: u64,
    /// Why it has no WebSocket at the moment.
    #[serde(default)]
    pub why: Option<String>,
    /// Another machine that came with the agent's identity while its link was live.
    #[serde(default)]
    pub duplicate: Option<DuplicateView>,
}

/// Another machine with an agent's identity: most likely a clone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DuplicateView {
    /// When it last came, and was refused.
    pub at: String,
    /// From where.
    pub address: String,
}

/// Who accepted an invitation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FarSideView {
    /// Its short name.
    pub name: Name,
    /// The fingerprint of the agent's key.
    pub agent: String,
    /// Since when that is its key.
    #[serde(default)]
    pub agent_key_since: Option<String>,
    /// The fingerprint of the key that is to follow it, until that has proved itself.
    #[serde(default)]
    pub next_agent_key: Option<String>,
    /// The agent's program and version when it accepted.
    pub software: String,
    /// The private side's project.
    pub project: Option<String>,
    /// When it accepted.
    pub accepted_at: String,
}

/// An invitation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InvitationView {
    /// `open`, `expired`, `used` or `revoked`.
    pub state: String,
    /// When it was issued.
    pub issued_at: String,
    /// When it expires or expired.
    pub expires_at: String,
}

/// `POST /v1/connections`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitiateRequest {
    /// The public side's short name.
    pub local: Name,
    /// The private side's short name.
    pub remote: Name,
    /// The connection's name; without one, `<local>_to_<remote>`.
    #[serde(default)]
    pub name: Option<Name>,
    /// A sentence about it.
    #[serde(default)]
    pub description: Option<String>,
    /// The public side's project.
    #[serde(default)]
    pub project: Option<String>,
}

/// The answer that shows an invitation code, once.
#[derive(Serialize, Deserialize)]
pub struct IssuedView {
    /// [`VERSION`].
    pub version: u32,
    /// The connection that it is for.
    pub connection: ConnectionView,
    /// The code. Whoever has it can accept.
    pub invitation_code: String,
}

/// `GET /v1/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokensView {
    /// [`VERSION`].
    pub version: u32,
    /// Oldest first.
    pub tokens: Vec<TokenView>,
}

/// One token, without its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenView {
    /// For revoking.
    pub id: String,
    /// What it is called.
    pub name: Name,
    /// `connection`, `all` or `admin`.
    pub scope: String,
    /// The connection, when it is for one.
    pub connection: Option<Name>,
    /// When it was made.
    pub created_at: String,
}

/// `POST /v1/tokens`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTokenRequest {
    /// For calls to this connection; without one, to all.
    #[serde(default)]
    pub connection: Option<String>,
    /// For management.
    #[serde(default)]
    pub admin: bool,
    /// What it is called.
    #[serde(default)]
    pub name: Option<Name>,
}

/// The answer that shows a token, once.
#[derive(Serialize, Deserialize)]
pub struct CreatedTokenView {
    /// [`VERSION`].
    pub version: u32,
    /// All but its text.
    #[serde(flatten)]
    pub record: TokenView,
    /// Its text.
    pub token: String,
}

/// `GET /healthz` on the admin socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HealthView {
    /// `ok`: the relay answers.
    pub status: String,
    /// `ok`, `warning` or `critical`: the worst of `conditions`.
    pub health: String,
    /// What is the matter, the worst first.
    pub conditions: Vec<Condition>,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusView {
    /// [`VERSION`].
    pub version: u32,
    /// The relay's program and version.
    pub software: String,
    /// `serving` or `draining`.
    pub status: String,
    /// What it waits for until it stops; nothing while it goes on.
    #[serde(default)]
    pub stopping: Option<Draining>,
    /// Once it drains: whether another process has taken over its address. Unknown before, and where none can.
    #[serde(default)]
    pub successor: Option<bool>,
    /// When the relay was started.
    pub started_at: String,
    /// Where it listens.
    pub listen: String,
    /// What invitations say.
    pub public_url: String,
    /// The relay's identity key.
    pub identity: String,
    /// The log's level.
    pub log_level: String,
    /// How many connections are in which state.
    pub connections: CountsView,
    /// Agents that are linked.
    pub links_online: usize,
    /// Calls under way.
    pub calls_in_flight: usize,
    /// `ok`, `warning` or `critical`: the worst of `conditions`.
    #[serde(default)]
    pub health: String,
    /// What is the matter, the worst first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// Connections by state.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct CountsView {
    /// Not accepted yet.
    pub pending: usize,
    /// In use.
    pub active: usize,
    /// Deactivated by one side or both.
    pub deactivated: usize,
    /// Removed by the far side.
    pub removed: usize,
}

/// The answer to a change that leaves nothing to show.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct DoneView {
    /// [`VERSION`].
    pub version: u32,
}

impl DoneView {
    pub(super) const fn new() -> Self {
        Self { version: VERSION }
    }
}

impl ConnectionsView {
    pub(super) const fn new(connections: Vec<ConnectionView>) -> Self {
        Self {
            version: VERSION,
            connections,
        }
    }
}

impl ConnectionView {
    pub(in crate::relay) fn new(connection: &Connection, now: u64) -> Self {
        let record = connection.record();
        let state = record.state();
        Self {
            id: record.id.to_string(),
            name: record.name.clone(),
            local: record.local.clone(),
            remote: record.remote.clone(),
            mode: crate::invitation::Mode::Script.to_string(),
            description: record.description.clone(),
            project: record.project.clone(),
            state: state.word().to_owned(),
            state_text: state.to_string(),
            deactivated: DeactivatedView {
                here: record.deactivated.here,
                there: record.deactivated.there,
            },
            link: LinkView::new(connection),
            last_seen_at: connection.last_seen_at(now).map(rfc3339),
            far_side: record.accepted.as_ref().map(|accepted| FarSideView {
                name: record.remote.clone(),
                agent: accepted.agent_key.fingerprint(),
                agent_key_since: Some(rfc3339(accepted.key_since)),
                next_agent_key: accepted.next_key.map(|key| key.fingerprint()),
                software: accepted.software.clone(),
                project: accepted.project.clone(),
                accepted_at: rfc3339(accepted.at),
            }),
            invitation: record.invitation.map(|invitation| InvitationView {
                state: invitation.word(now).to_owned(),
                issued_at: rfc3339(invitation.issued_at),
                expires_at: rfc3339(invitation.expires_at),
            }),
            created_at: rfc3339(record.created_at),
            calls_in_flight: connection.calls_in_flight(),
        }
    }
}

impl LinkView {
    fn new(connection: &Connection) -> Self {
        let live = connection.live();
        let status = match connection.link_status() {
            LinkStatus::Online(_) => "online",
            LinkStatus::Reconnecting => "reconnecting",
            LinkStatus::Offline => "offline",
        };
        Self {
            status: status.to_owned(),
            since: live.as_ref().map(|live| rfc3339(live.since)),
            address: live.as_ref().map(|live| live.address().to_string()),
            software: live.as_ref().map(|live| live.software.clone()),
            resumed: live.as_ref().map_or(0, |live| live.resumed()),
            why: live.as_ref().and_then(|live| live.handle.away()),
            duplicate: connection.duplicate().map(|duplicate| DuplicateView {
                at: rfc3339(duplicate.at),
                address: duplicate.address.to_string(),
            }),
        }
    }
}

impl IssuedView {
    pub(super) fn new(issued: &Issued, now: u64) -> Self {
        Self {
            version: VERSION,
            connection: ConnectionView::new(&issued.connection, now),
            invitation_code: issued.code.expose().clone(),
        }
    }
}

impl TokensView {
    pub(super) const fn new(tokens: Vec<TokenView>) -> Self {
        Self {
            version: VERSION,
            tokens,
        }
    }
}

impl TokenView {
    pub(super) fn new(token: &TokenRecord, registry: &Registry) -> Self {
        let connection = match token.scope {
            Scope::Connection(id) => registry.find_by_id(id),
            Scope::AllConnections | Scope::Admin => None,
        };
        Self {
            id: token.id.clone(),
            name: token.label.clone(),
            scope: token.scope.word().to_owned(),
            connection: connection.map(|connection| connection.name().clone()),
            created_at: rfc3339(token.created_at),
        }
    }
}

impl CreatedTokenView {
    pub(super) fn new(record: TokenView, text: &Secret<String>) -> Self {
        Self {
            version: VERSION,
            record,
            token: text.expose().clone(),
        }
    }
}

impl HealthView {
    pub(super) fn new(conditions: Vec<Condition>) -> Self {
        Self {
            status: "ok".to_owned(),
            health: verdict(&conditions).to_owned(),
            conditions,
        }
    }
}

impl StatusView {
    pub(super) fn new(shared: &Shared, conditions: Vec<Condition>) -> Self {
        let all = shared.registry.list();
        let mut connections = CountsView::default();
        for connection in &all {
            let count = match connection.state() {
                State::Pending => &mut connections.pending,
                State::Active => &mut connections.active,
                State::Deactivated(_) => &mut connections.deactivated,
                State::Removed => &mut connections.removed,
            };
            *count += 1;
        }
        let status = if shared.shutdown.is_draining() {
            "draining"
        } else {
            "serving"
        };
        Self {
            version: VERSION,
            software: crate::protocol::SOFTWARE.to_owned(),
            status: status.to_owned(),
            stopping: shared.draining(),
            successor: shared.successor.get().copied(),
            started_at: rfc3339(shared.started_at),
            listen: shared.address.to_string(),
            public_url: shared.config.public_url.to_string(),
            identity: shared.identity.public_key().to_string(),
            log_level: shared.log.level().to_string(),
            connections,
            links_online: all.iter().filter(|one| one.is_online()).count(),
            calls_in_flight: all.iter().map(|one| one.calls_in_flight()).sum(),
            health: verdict(&conditions).to_owned(),
            conditions,
        }
    }
}
