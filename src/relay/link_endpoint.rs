//! `GET /v1/link`: an agent arrives, proves itself, and its link is held until it ends; or it goes on with
//! the link that it has.
//!
//! Decides who may link, and tells the far side of every change; what travels on the link is decided
//! elsewhere. Handshakes are bounded in time, and in number in all and for one address, so that a crowd of
//! strangers costs little and one stranger keeps nobody out.

mod admission;
mod control;
mod holding;
mod moving;
mod refusal;
mod turns;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use self::moving::Moves;
use super::places::{Place, Places};
use super::shared::Shared;
use crate::body::Body;
use crate::error_chain::chain;
use crate::identity::random_bytes;
use crate::link::server;
use crate::problem::Problem;
use crate::protocol::handshake::Binding;
use crate::seldom::Seldom;

/// The least that an agent is told to wait when there is no place for its handshake: places become free
/// within moments, unless strangers stall.
const BUSY_RETRY_AFTER: Duration = Duration::from_secs(1);
/// Up to so much is added by chance, so that a herd comes back spread: with 512 places and a handshake of
/// a few hundred milliseconds, several thousand agents find room in that time.
const BUSY_SPREAD_SECONDS: u8 = 8;
/// How long a handshake may take in all, from the answer to the upgrade to the last word: three messages over a path
/// with a round trip of two seconds that loses some, and [`admission`]'s longest wait for another agent's sign of life.
/// Each message has a deadline of its own, which is shorter.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// What an agent is told to wait when the relay is about to stop: about a restart.
const DRAIN_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Answers agents. One for the whole relay.
#[derive(Debug, Clone)]
pub struct LinkEndpoint {
    shared: Arc<Shared>,
    places: Arc<Places>,
    turned_away: Arc<Seldom>,
    moves: Arc<Moves>,
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
            turned_away: Arc::default(),
            moves: Arc::new(Moves::new(limits.handshakes)),
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
                self.shared.metrics.agents_turned_away.hit();
                let why = format!("too many agents are linking {why}");
                if let Some(number) = self.turned_away.happened(Instant::now()) {
                    tracing::warn!(from = %origin.address, %why, number, "links turned away");
                }
                return turned_away(&why, busy_retry_after());
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
        // Dropping it lets go of all it holds: the socket, its place, and the connection's place for a link. A link
        // that was left for this WebSocket waits for another try, as it does when the last word cannot be sent.
        match tokio::time::timeout(HANDSHAKE, self.admit(upgrade, origin, place)).await {
            Ok(Ok(Some(admitted))) => self.hold(admitted, origin).await,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::info!(from = %origin.address, error = %chain(&error), "no link came about");
            }
            Err(_) => {
                tracing::info!(from = %origin.address, limit = ?HANDSHAKE, "no link came about: the handshake took too long");
            }
        }
    }
}

/// Another time for each agent.
fn busy_retry_after() -> Duration {
    BUSY_RETRY_AFTER + Duration::from_secs(u64::from(chance() % BUSY_SPREAD_SECONDS))
}

/// Something else for each agent. A machine without random bytes makes no links either.
fn chance() -> u8 {
    let [chance] = random_bytes().unwrap_or_default();
    chance
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
