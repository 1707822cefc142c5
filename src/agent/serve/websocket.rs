//! A WebSocket between a caller and an upstream: opened there, and carried in both directions.

use std::time::Duration;

use http::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use super::quota::Place;
use super::refusal::Refusal;
use super::{Answer, Gateway};
use crate::agent::audit::Account;
use crate::agent::credentials::Outgoing;
use crate::agent::policy::Limits;
use crate::agent::upstream::Websocket;
use crate::body;
use crate::tunnel::{self, Bounds};

/// A WebSocket in which nothing moves for so long is taken for forgotten: programs that mean to keep
/// one send pings every minute or so.
const IDLE: Duration = Duration::from_secs(3600);

/// An open WebSocket whose bytes do not pass yet.
pub(super) struct Tunnel {
    upstream: String,
    lane: OnUpgrade,
    stream: Upgraded,
    bounds: Bounds,
    place: OwnedSemaphorePermit,
    place_of_rule: Option<Place>,
}

/// Asks the upstream to open one.
pub(super) async fn open(
    gateway: &Gateway,
    outgoing: Outgoing<'_>,
    lane: OnUpgrade,
) -> Result<Answer, Refusal> {
    let upstream = outgoing.permitted().upstream().to_owned();
    let opened = gateway.upstreams.open_websocket(outgoing);
    match opened.await.map_err(Refusal::Upstream)? {
        Websocket::Declined(response) => Ok(Answer::Passed(response)),
        Websocket::Switched {
            headers,
            stream,
            place,
        } => {
            let mut response = Response::new(body::empty());
            *response.headers_mut() = headers;
            let tunnel = Tunnel {
                upstream,
                lane,
                stream,
                bounds: Bounds::NONE,
                place,
                place_of_rule: None,
            };
            Ok(Answer::Switched(response, tunnel))
        }
    }
}

impl Tunnel {
    /// Holds it to the limits of its rule: what a body may have, all that is sent that way may have.
    pub(super) fn limit(&mut self, limits: &Limits, place: Option<Place>) {
        self.bounds = Bounds {
            forth: limits.max_body,
            back: limits.max_response,
        };
        self.place_of_rule = place;
    }

    /// Carries bytes both ways. Ends with the lane, the upstream's connection, after a long silence, or where more is
    /// sent than may be.
    pub(super) async fn carry(self, account: Account) {
        let Ok(lane) = self.lane.await else { return };
        let (lane, stream) = (TokioIo::new(lane), TokioIo::new(self.stream));
        let passed = account.passed();
        let tunnelled = tunnel::copy_within(lane, stream, IDLE, self.bounds, passed).await;
        debug!(upstream = self.upstream, ?tunnelled, "a WebSocket ended");
        account.carried(&tunnelled.end);
        drop((self.place, self.place_of_rule));
    }
}
