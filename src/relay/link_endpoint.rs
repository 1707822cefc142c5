//! `GET /v1/link`: an agent arrives, proves itself, and its link is held until it ends.
//!
//! Decides who may link, and tells the far side of every change; what travels on the link is decided
//! elsewhere. Handshakes of agents that have proven nothing are bounded, in all and for one address, so
//! that a crowd of strangers costs little and one stranger keeps nobody out.

mod control;
mod places;
mod refusal;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;

use self::places::{Place, Places};
use super::clock;
use super::record::Side;
use super::registry::{Connection, GoAheads, LinkSlot, Live};
use super::shared::Shared;
use crate::body::Body;
use crate::error_chain::chain;
use crate::identity::random_bytes;
use crate::link::http2::{self, LaneClient};
use crate::link::server::{self, AcceptError, Arrival};
use crate::link::{Link, LinkEnd, LinkHandle};
use crate::problem::Problem;
use crate::protocol::control::{
    CONTROL_VERSION, REMOVED_PATH, RemovedMessage, STATE_PATH, StateMessage,
};
use crate::protocol::handshake::{Binding, Introduction};
use crate::protocol::{CloseCode, SOFTWARE};
use crate::session::WINDOW;

/// The least that an agent is told to wait when there is no place for its handshake: places become free
/// within moments, unless strangers stall.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Up to so much is added by chance, so that a herd comes back spread: with 512 places and a handshake of
/// a few hundred milliseconds, several thousand agents find room in that time.
const BUSY_SPREAD_SECONDS: u8 = 8;
/// What an agent is told to wait when the relay is about to stop: about a restart.
const DRAIN_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Answers agents. One for the whole relay.
#[derive(Debug, Clone)]
pub struct LinkEndpoint {
    shared: Arc<Shared>,
    places: Arc<Places>,
}

/// The connection that an agent came on.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// The other end of the socket.
    pub address: SocketAddr,
    /// The TLS exporter, when TLS ends here.
    pub binding: Binding,
}

impl LinkEndpoint {
    /// An endpoint of this relay.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let limits = shared.config.limits;
        Self {
            places: Places::new(limits.handshakes, limits.handshakes_per_address),
            shared,
        }
    }

    /// Answers the upgrade; the link itself goes on in a task of its own.
    #[must_use]
    pub fn answer(&self, mut request: Request<Incoming>, origin: Origin) -> Response<Body> {
        if self.shared.shutdown.is_draining() {
            return turned_away("the relay is about to stop", DRAIN_RETRY_AFTER);
        }
        let place = match self.places.take(origin.address.ip()) {
            Ok(place) => place,
            Err(why) => {
                if let Some(number) = self.places.turned_away(Instant::now()) {
                    tracing::warn!(from = %origin.address, %why, number, "links turned away");
                }
                return turned_away(&why.to_string(), busy_retry_after());
            }
        };
        match server::upgrade(&mut request) {
            Ok((response, upgrade)) => {
                let endpoint = self.clone();
                let task = async move { endpoint.welcome(upgrade, origin, place).await };
                self.shared.shutdown.spawn(task);
                response
            }
            Err(error) => Problem::new(StatusCode::UPGRADE_REQUIRED, "not-a-link", "Not a link")
                .detail(format!("Only agents link here, over a WebSocket: {error}."))
                .into_response(),
        }
    }

    /// From the upgrade to the end of the link, logged either way.
    async fn welcome(self, upgrade: OnUpgrade, origin: Origin, place: Place) {
        match self.admit(upgrade, origin, place).await {
            Ok(Some((link, slot, told))) => self.hold(link, slot, told, origin).await,
            Ok(None) => {}
            Err(error) => {
                tracing::info!(from = %origin.address, error = %chain(&error), "no link came about");
            }
        }
    }

    /// The handshake: the link, and whether it told that this side is deactivated. Nothing when the agent was refused, which is then said and logged.
    async fn admit(
        &self,
        upgrade: OnUpgrade,
        origin: Origin,
        place: Place,
    ) -> Result<Option<(Link, LinkSlot, bool)>, AcceptError> {
        let key = &self.shared.identity;
        let registry = &self.shared.registry;
        let arrival = Arrival::receive(upgrade).await?;
        let id = arrival.connection();
        let admitted = match arrival.check_version() {
            Ok(()) => registry.admit(id).map_err(refusal::of_link),
            Err(error) => Err(refusal::of_version(&error)),
        };
        let (connection, agent_key) = match admitted.and_then(refusal::with_agent_key) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                tracing::info!(%id, from = %origin.address, reason = %refusal.text, "link refused");
                arrival.refuse(key, &refusal).await?;
                return Ok(None);
            }
        };
        let introduction = Introduction {
            software: SOFTWARE.to_owned(),
            features: Vec::new(),
            window: WINDOW,
            deactivated: connection.record().deactivated.here,
        };
        let proven = arrival
            .challenge(
                key,
                &introduction,
                origin.binding,
                clock::now(),
                &agent_key,
                &refusal::of_bad_proof(),
            )
            .await?;
        // Only those who have proven nothing are bounded.
        drop(place);
        // The connection's one link is for one who proved its identity: a stranger cannot take it.
        match registry.reserve_link(&connection) {
            Ok(slot) => {
                let told = introduction.deactivated;
                let link = proven.accept(told).await?;
                Ok(Some((link, slot, told)))
            }
            Err(error) => {
                let refusal = refusal::of_link(error);
                tracing::warn!(
                    connection = %connection.name(), from = %origin.address, reason = %refusal.text,
                    "link refused to an agent that proved this connection's identity"
                );
                proven.refuse(key, &refusal).await?;
                Ok(None)
            }
        }
    }

    /// Holds a link until it ends: serves the agent's requests, tells of changes, drains.
    async fn hold(&self, link: Link, slot: LinkSlot, told: bool, origin: Origin) {
        let connection = Arc::clone(slot.connection());
        let Link {
            peer,
            inward,
            outward,
            handle,
            driver,
            ..
        } = link;
        let client = LaneClient::new(inward);
        let go_aheads = GoAheads::default();
        let live = Live {
            since: clock::now(),
            address: origin.address,
            software: peer.software.clone(),
            client: client.clone(),
            handle: handle.clone(),
            go_aheads: go_aheads.clone(),
        };
        if slot.establish(live).is_err() {
            handle.close(CloseCode::Removed, refusal::REMOVED_HERE);
        }
        let name = connection.name();
        tracing::info!(connection = %name, from = %origin.address, software = %peer.software, "link online");
        if let Err(error) = self
            .shared
            .connections
            .far_side_state(&connection, peer.deactivated)
            .await
        {
            tracing::error!(connection = %name, error = %chain(&error), "the far side's state was not stored");
        }
        let control = control::Control::new(&self.shared, &connection, go_aheads);
        let serving = http2::serve(outward, control, self.shared.shutdown.stopping());
        let telling = self.tell_of_changes(&connection, told, &client, &handle);
        // In a task of its own: frames come often, what the other two wait for hardly ever.
        let mut driver = AbortOnDropHandle::new(tokio::spawn(driver.run()));
        let end = tokio::select! {
            // The driver goes on in its task until the link is over; the other two never finish
            // before it but by failure, and hold nothing that a cut would lose.
            end = &mut driver => end.unwrap_or_else(|_| LinkEnd::Lost("the driver failed".to_owned())),
            end = served(serving) => end,
            never = telling => match never {},
        };
        tracing::info!(connection = %name, reason = %end, "link ended");
    }

    /// Tells the far side what changes here, and ends the link when it is time. Never returns.
    async fn tell_of_changes(
        &self,
        connection: &Connection,
        mut told: bool,
        client: &LaneClient,
        handle: &LinkHandle,
    ) -> Infallible {
        let mut changes = connection.changes();
        // `told` begins as what the handshake said; a change since then is found by looking before waiting.
        let mut draining = std::pin::pin!(self.drained(connection));
        loop {
            let record = connection.record();
            if let Some(removed) = record.removed {
                if removed.by == Side::Public {
                    tell(
                        client,
                        REMOVED_PATH,
                        &RemovedMessage {
                            version: CONTROL_VERSION,
                        },
                    )
                    .await;
                }
                handle.close(CloseCode::Removed, refusal::REMOVED_HERE);
                return std::future::pending().await;
            }
            let deactivated = record.deactivated.here;
            if told != deactivated {
                let message = StateMessage {
                    version: CONTROL_VERSION,
                    deactivated,
                };
                if !tell(client, STATE_PATH, &message).await {
                    // The next link's handshake tells it.
                    handle.close(CloseCode::Internal, "a change of state could not be told");
                    return std::future::pending().await;
                }
            }
            told = deactivated;
            tokio::select! {
                // Both only wait; a change is kept by the channel until it is looked at.
                changed = changes.changed() => if changed.is_err() { return std::future::pending().await },
                () = &mut draining => {
                    handle.close(CloseCode::Draining, "the relay is about to stop");
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Completes when the relay drains and nothing is under way, or when it stops at once.
    async fn drained(&self, connection: &Connection) {
        self.shared.shutdown.draining().await;
        tokio::select! {
            // Both only wait.
            () = connection.calls_finished() => {}
            () = self.shared.shutdown.stopping() => {}
        }
    }
}

/// The serving end of the outward lane ends early only when the agent breaks HTTP/2; then the link
/// is of no more use.
async fn served(serving: impl Future<Output = Result<(), hyper::Error>>) -> LinkEnd {
    match serving.await {
        Ok(()) => std::future::pending().await,
        Err(error) => LinkEnd::Lost(format!("the agent broke HTTP/2: {}", chain(&error))),
    }
}

/// Sends one control message; returns whether the far side took it. A link that breaks meanwhile
/// tells it by its next handshake.
async fn tell<T: Serialize>(client: &LaneClient, path: &str, message: &T) -> bool {
    let sent = control::send(client, path, message).await;
    if let Err(error) = &sent {
        tracing::debug!(path, error = %chain(error), "a control message was not answered");
    }
    sent.is_ok()
}

/// Another time for each agent.
fn busy_retry_after() -> Duration {
    // A machine without random bytes makes no handshakes either.
    let [chance] = random_bytes::<1>().unwrap_or_default();
    BUSY_RETRY_AFTER + Duration::from_secs(u64::from(chance % BUSY_SPREAD_SECONDS))
}

fn turned_away(why: &str, retry_after: Duration) -> Response<Body> {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Try again later")
        .detail(format!(
            "No link now: {why}. Agents try again by themselves."
        ))
        .retry_after(retry_after)
        .into_response()
}

#[cfg(test)]
mod tests;
