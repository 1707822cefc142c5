//! The handshake of an agent: a new link, the link that it has over a new WebSocket, or a refusal.
//!
//! A connection has one link. Who comes while it is live, and does not go on with it, is a second
//! machine with the same identity, and is refused; whether it is live the first agent is asked.

use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;

use super::{LinkEndpoint, Origin, control, refusal};
use crate::error_chain::chain;
use crate::link::Link;
use crate::link::server::{AcceptError, Arrival, Claimed, Proven};
use crate::protocol::SOFTWARE;
use crate::protocol::control::{CONTROL_VERSION, DUPLICATE_PATH, DuplicateMessage};
use crate::protocol::handshake::{EARLY_ACK, Introduction, LEAVE, RESUME, SUCCESSION, Ticket};
use crate::protocol::rotation::ROTATE;
use crate::relay::clock;
use crate::relay::places::Place;
use crate::relay::registry::{Connection, LinkRefusal, LinkSlot, Live};
use crate::relay::strict::Strict;
use crate::session::WINDOW;

/// How long an agent that is linked may take to show that it lives, when another comes with its identity;
/// three round trips, where those are longer.
const PROBE: Duration = Duration::from_secs(3);
/// However slow its path: the newcomer waits no longer, since it hangs up after ten seconds.
const LONGEST_PROBE: Duration = Duration::from_secs(8);

/// An agent with a new link, and what the handshake told it of this side's state.
pub(super) struct Admitted {
    pub(super) link: Link,
    pub(super) slot: LinkSlot,
    pub(super) told_deactivated: bool,
    /// When an agent of the connection had been revoked before this one was looked at.
    pub(super) revoked_before: Option<u64>,
}

impl LinkEndpoint {
    /// The handshake, which keeps its place to the end. Nothing when the agent goes on with its link, or was
    /// refused, which is then said and logged.
    pub(super) async fn admit(
        &self,
        upgrade: OnUpgrade,
        origin: Origin,
        _place: Place,
    ) -> Result<Option<Admitted>, AcceptError> {
        let key = &self.shared.identity;
        let registry = &self.shared.registry;
        let arrival = Arrival::receive::<Strict>(upgrade).await?;
        let id = arrival.connection();
        let admitted = match arrival.check_version() {
            Ok(()) => {
                if self.shared.config.reuse_port {
                    // Another relay may have removed it, or revoked its agent, a moment ago.
                    self.shared.connections.look_again(id).await;
                }
                registry.admit(id).map_err(refusal::of_link)
            }
            Err(error) => Err(refusal::of_version(&error)),
        };
        let connection = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                tracing::info!(%id, from = %origin.address, reason = %refusal.text, "link refused");
                arrival.refuse(key, &refusal).await?;
                return Ok(None);
            }
        };
        let revoked_before = connection.record().agent_revoked_at;
        let introduction = Introduction {
            software: SOFTWARE.to_owned(),
            features: [RESUME, EARLY_ACK, ROTATE, LEAVE, SUCCESSION]
                .map(str::to_owned)
                .to_vec(),
            window: WINDOW,
            deactivated: connection.record().deactivated.here,
        };
        let claimed = arrival
            .challenge(key, &introduction, origin.binding, clock::now())
            .await?;
        let Some(proven) = self.recognise(claimed, &connection, origin).await? else {
            return Ok(None);
        };
        let told_deactivated = introduction.deactivated;
        let Some(proven) = self.resume(proven, &connection, origin).await? else {
            return Ok(None);
        };
        // The connection's one link is for one who proved its identity: a stranger cannot take it.
        match self.reserve(&connection, proven.succeeds()).await {
            Ok(slot) => {
                let window = self.shared.config.link.resume_window;
                let link = proven.accept(told_deactivated, window).await?;
                Ok(Some(Admitted {
                    link,
                    slot,
                    told_deactivated,
                    revoked_before,
                }))
            }
            Err(error) => {
                let refusal = refusal::of_link(error);
                tracing::warn!(
                    connection = %connection.name(), from = %origin.address, reason = %refusal.text,
                    "link refused to an agent that proved this connection's identity"
                );
                if error == LinkRefusal::AlreadyLinked {
                    tell_of_duplicate(&connection, origin);
                }
                proven.refuse(key, &refusal).await?;
                Ok(None)
            }
        }
    }

    /// The agent, if it proved one of the connection's keys. Who proved another is refused, and told which.
    async fn recognise(
        &self,
        mut claimed: Claimed,
        connection: &Arc<Connection>,
        origin: Origin,
    ) -> Result<Option<Proven>, AcceptError> {
        let connections = &self.shared.connections;
        for key in connection.record().agent_keys() {
            match claimed.by(&key) {
                Ok(proven) => {
                    connections.key_proved(connection, key).await;
                    return Ok(Some(proven));
                }
                Err(other) => claimed = other,
            }
        }
        let former = connections.former_keys(connection).await;
        let former = former.iter().find(|former| claimed.is_by(&former.key));
        let refusal = former.map_or_else(refusal::of_bad_proof, |former| {
            refusal::of_former_key(*former, claimed.has(ROTATE))
        });
        tracing::warn!(connection = %connection.name(), from = %origin.address, reason = %refusal.text, "link refused to an agent with another key");
        claimed.refuse(&self.shared.identity, &refusal).await?;
        Ok(None)
    }

    /// Goes on with the link that the agent offers, over its new WebSocket. The agent comes back when
    /// there is none to go on with.
    async fn resume(
        &self,
        proven: Proven,
        connection: &Arc<Connection>,
        origin: Origin,
    ) -> Result<Option<Proven>, AcceptError> {
        let live = match proven.offer() {
            Some(offer) => connection.link_with(offer.session),
            None => None,
        };
        let Some(live) = live else {
            return Ok(Some(proven));
        };
        // What was true at the hello may have changed since, and the lanes have told it.
        let deactivated = || connection.record().deactivated.here;
        match proven.resume(&live.handle, deactivated).await? {
            None => {
                live.moved_to(origin.address);
                connection.link_changed();
                tracing::info!(connection = %connection.name(), from = %origin.address, "the link goes on over a new WebSocket");
                Ok(None)
            }
            Some(proven) => Ok(Some(proven)),
        }
    }

    /// The connection's place for a link: beside the former link for a process that was announced on it. A former
    /// link whose agent shows no sign of life gives way.
    async fn reserve(
        &self,
        connection: &Arc<Connection>,
        succeeds: Option<Ticket>,
    ) -> Result<LinkSlot, LinkRefusal> {
        let registry = &self.shared.registry;
        if let Some(Ok(slot)) = succeeds.map(|ticket| registry.succeed_link(connection, ticket)) {
            return Ok(slot);
        }
        let refused = match registry.reserve_link(connection) {
            Err(LinkRefusal::AlreadyLinked) => LinkRefusal::AlreadyLinked,
            other => return other,
        };
        let Some(former) = connection.live() else {
            return Err(refused);
        };
        let _probe = connection.begin_probe().ok_or(refused)?;
        let deadline = PROBE
            .max(former.handle.stats().round_trip * 3)
            .min(LONGEST_PROBE);
        if former.handle.answers_within(deadline).await {
            return Err(refused);
        }
        registry.replace_link(connection, &former)
    }
}

/// Lets both sides know that another machine has the agent's identity.
fn tell_of_duplicate(connection: &Arc<Connection>, origin: Origin) {
    let is_news = connection.note_duplicate(clock::now(), origin.address);
    let Some(live) = connection.live().filter(|_| is_news) else {
        return;
    };
    let message = DuplicateMessage {
        version: CONTROL_VERSION,
        address: origin.address.to_string(),
    };
    let name = connection.name().clone();
    // Ends within the deadline of every control message.
    tokio::spawn(async move {
        let Live { client, .. } = &*live;
        if let Err(error) = control::send(client, DUPLICATE_PATH, &message).await {
            tracing::debug!(connection = %name, error = %chain(&error), "the agent could not be told of its double");
        }
    });
}
