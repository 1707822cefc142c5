//! A link that is up, held until it ends: the agent's requests are served, changes told, the path watched.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;

use super::admission::Admitted;
use super::{LinkEndpoint, Origin, control, refusal};
use crate::error_chain::chain;
use crate::link::http2::{self, LaneClient};
use crate::link::path::Path;
use crate::link::{Link, LinkEnd, LinkHandle};
use crate::protocol::CloseCode;
use crate::protocol::control::{
    CONTROL_VERSION, REMOVED_PATH, RemovedMessage, STATE_PATH, StateMessage,
};
use crate::protocol::handshake::Introduction;
use crate::relay::clock;
use crate::relay::metrics::{Metrics, WEBSOCKET_LOST};
use crate::relay::record::Side;
use crate::relay::registry::{Connection, GoAheads, Live};

/// How long an agent may take to confirm that it was told of the removal, before the link is closed: a round
/// trip, and no longer, for a link that is to be cut is cut within a second.
const TOLD_WITHIN: Duration = Duration::from_millis(300);
/// How long the close frame of such a link may take to get out, and the agent to hang up.
const CUT_WITHIN: Duration = Duration::from_millis(400);

impl LinkEndpoint {
    /// Holds a link until it ends: serves the agent's requests, tells of changes, drains.
    pub(super) async fn hold(&self, admitted: Admitted, origin: Origin) {
        let Admitted {
            link,
            slot,
            told_deactivated,
            revoked_before,
        } = admitted;
        let connection = Arc::clone(slot.connection());
        let _counted = self.moves.count();
        let Link {
            peer,
            inward,
            outward,
            handle,
            driver,
            transcript,
            ..
        } = link;
        let client = LaneClient::new(inward);
        let live = Arc::new(Live::new(
            clock::now(),
            origin.address,
            peer.software.clone(),
            client.clone(),
            handle.clone(),
            GoAheads::default(),
        ));
        if slot.establish(&live).is_err() {
            handle.close(CloseCode::Removed, refusal::REMOVED_HERE);
        }
        let metrics = &self.shared.metrics;
        metrics.links_made.fetch_add(1, Ordering::Relaxed);
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
        let control = control::Control::new(&self.shared, &connection, &live, transcript);
        let serving = http2::serve(outward, control, self.shared.shutdown.stopping());
        let drained = self.drained(&connection, &peer, &client, &handle);
        let told = Told {
            deactivated: told_deactivated,
            revoked_before,
        };
        let telling = tell_until_drained(&connection, told, &client, &handle, drained);
        // In a task of its own: frames come often, what the others wait for hardly ever.
        let mut driver = AbortOnDropHandle::new(tokio::spawn(driver.run()));
        let end = tokio::select! {
            // The driver goes on in its task until the link is over; the others never finish
            // before it but by failure, and hold nothing that a cut would lose.
            end = &mut driver => end.unwrap_or_else(|_| LinkEnd::Lost("the driver failed".to_owned())),
            why = served(serving) => {
                handle.close(CloseCode::Protocol, &why);
                // Soon over, whatever the agent does: the driver waits for no one who is told to go.
                driver.await.unwrap_or(LinkEnd::ClosedHere(CloseCode::Protocol))
            }
            never = telling => match never {},
            never = watch_the_path(&connection, &handle, metrics) => match never {},
            never = self.ask_to_move(&peer, &client, &handle) => match never {},
        };
        metrics.reconnects.record(end.word());
        tracing::info!(connection = %name, reason = %end, "link ended");
    }

    /// Completes when the relay drains, the agent had time to move and nothing is under way; or when the
    /// link has no WebSocket, for a relay that drains takes no other; or when the relay stops at once.
    async fn drained(
        &self,
        connection: &Connection,
        peer: &Introduction,
        client: &LaneClient,
        handle: &LinkHandle,
    ) {
        self.shared.shutdown.draining().await;
        let finished = async {
            self.hand_over(peer, client).await;
            connection.calls_finished().await;
        };
        let mut path = handle.path();
        tokio::select! {
            // All only wait.
            () = finished => {}
            _ = path.wait_for(Path::is_away) => {}
            () = self.shared.shutdown.stopping() => {}
        }
    }
}

/// What an agent knew of this side when it was admitted.
struct Told {
    deactivated: bool,
    /// When an agent of this connection had been revoked before.
    revoked_before: Option<u64>,
}

/// Tells the far side what changes here, and ends the link when it is time: what is being told then is told by the
/// next link's handshake. Never returns.
async fn tell_until_drained(
    connection: &Connection,
    told: Told,
    client: &LaneClient,
    handle: &LinkHandle,
    drained: impl Future<Output = ()>,
) -> Infallible {
    tokio::select! {
        never = tell_of_changes(connection, told, client, handle) => match never {},
        // Whatever is dropped, the link ends.
        () = drained => handle.close(CloseCode::Draining, "the relay is about to stop"),
    }
    std::future::pending().await
}

/// Tells the far side what changes here, one message at a time. Never returns.
async fn tell_of_changes(
    connection: &Connection,
    mut told: Told,
    client: &LaneClient,
    handle: &LinkHandle,
) -> Infallible {
    let mut changes = connection.changes();
    // `told` begins with what the handshake said; a change since then is found by looking before waiting.
    loop {
        let record = connection.record();
        if let Some(removed) = record.removed {
            if removed.by == Side::Public {
                let version = CONTROL_VERSION;
                let message = RemovedMessage { version };
                let telling = tell(client, REMOVED_PATH, &message);
                // The close frame tells as well.
                let _ = tokio::time::timeout(TOLD_WITHIN, telling).await;
            }
            return cut(handle, CloseCode::Removed, refusal::REMOVED_HERE).await;
        }
        if record.agent_revoked_at != told.revoked_before {
            return cut(handle, CloseCode::Revoked, refusal::REVOKED_HERE).await;
        }
        let deactivated = record.deactivated.here;
        if told.deactivated != deactivated {
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
        told.deactivated = deactivated;
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Ends the link within [`CUT_WITHIN`], whether or not the agent takes what it is told. Never returns.
async fn cut(handle: &LinkHandle, code: CloseCode, why: &str) -> Infallible {
    handle.close(code, why);
    tokio::time::sleep(CUT_WITHIN).await;
    handle.abandon(why);
    std::future::pending().await
}

/// Logs what becomes of the link's WebSockets, and lets calls that wait for one know. Never returns.
async fn watch_the_path(
    connection: &Connection,
    handle: &LinkHandle,
    metrics: &Metrics,
) -> Infallible {
    let mut path = handle.path();
    loop {
        if path.changed().await.is_err() {
            return std::future::pending().await;
        }
        match &*path.borrow_and_update() {
            Path::Up | Path::Doubtful | Path::Moving => {}
            Path::Away { why } => {
                metrics.reconnects.record(WEBSOCKET_LOST);
                tracing::info!(connection = %connection.name(), %why, "the link has no WebSocket; it is kept for the agent to come back");
            }
        }
        connection.link_changed();
    }
}

/// The serving end of the outward lane ends with its link, which then says why, and before it only when HTTP/2 on
/// it has come to an end; then the link is of no more use.
async fn served(serving: impl Future<Output = Result<(), hyper::Error>>) -> String {
    match serving.await {
        Err(error) if !http2::ended_with_its_lane(&error) => {
            format!(
                "HTTP/2 on the agent's lane came to an end: {}",
                chain(&error)
            )
        }
        Ok(()) | Err(_) => std::future::pending().await,
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
