//! Moves that the relay asks for: agents dial a new WebSocket before they leave the one in use.
//!
//! Because the WebSocket is old, the certificate has changed, or this relay is about to stop and another
//! process takes over. Many agents are asked at once: each draws its own moment within the time it gets.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{LinkEndpoint, chance, control};
use crate::error_chain::chain;
use crate::link::LinkHandle;
use crate::link::http2::LaneClient;
use crate::protocol::control::{CONTROL_VERSION, MOVE_PATH, MoveMessage};
use crate::protocol::handshake::{Introduction, MOVE};
use crate::relay::config::Handover;

/// Within how long all agents move to a new certificate.
const CERTIFICATE_MOVE: Duration = Duration::from_secs(300);
/// Within how long one agent moves whose WebSocket is old; agents are old at different times.
const AGE_MOVE: Duration = Duration::from_secs(10);
/// By how much of itself the age limit differs from agent to agent.
const AGE_SPREAD: u32 = 10;
/// How long it may take to see whether somebody listens on this machine.
const PROBE: Duration = Duration::from_secs(1);

/// What moves all links of a relay.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Ticks when the certificate changes.
    certificate: watch::Sender<()>,
    /// Whether another process listens on this relay's address; unknown until this one has let go of it.
    successor: watch::Sender<Option<bool>>,
}

impl LinkEndpoint {
    /// A new certificate is in use: agents are asked to move to it.
    pub fn certificate_changed(&self) {
        self.moves.certificate.send_replace(());
    }

    /// Once this relay no longer listens, where systemd keeps its socket open: a successor can only come when
    /// this relay has ended.
    pub fn has_no_successor(&self) {
        self.moves.successor.send_replace(Some(false));
    }

    /// Once this relay no longer listens: sees whether another process does, for agents to move to.
    pub async fn look_for_successor(&self, address: SocketAddr) {
        let loopback = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        let probe = TcpStream::connect(SocketAddr::new(loopback, address.port()));
        let answered = tokio::time::timeout(PROBE, probe).await;
        let found = matches!(answered, Ok(Ok(_)));
        self.moves.successor.send_replace(Some(found));
    }

    /// Asks an agent to move whenever there is a reason while the relay goes on. Never returns. Without a
    /// session that goes on, the agent would be refused beside its own link.
    pub(super) async fn ask_to_move(
        &self,
        peer: &Introduction,
        client: &LaneClient,
        handle: &LinkHandle,
    ) -> Infallible {
        if !peer.has(MOVE) || handle.session().is_none() {
            return std::future::pending().await;
        }
        let max_age = self.shared.config.link.max_age;
        let mut certificate = self.moves.certificate.subscribe();
        loop {
            let within = tokio::select! {
                // Both only wait.
                () = aged(max_age) => AGE_MOVE.min(max_age),
                Ok(()) = certificate.changed() => CERTIFICATE_MOVE,
            };
            ask(client, within).await;
        }
    }

    /// When this relay is about to stop: lets the agent move to the process that takes over, if one does.
    pub(super) async fn hand_over(&self, peer: &Introduction, client: &LaneClient) {
        let config = self.shared.config.link;
        let moves = match config.handover {
            Handover::Never => false,
            Handover::Always => true,
            Handover::SamePort => {
                let mut successor = self.moves.successor.subscribe();
                // The sender is this endpoint's own.
                successor
                    .wait_for(Option::is_some)
                    .await
                    .is_ok_and(|found| *found == Some(true))
            }
        };
        if moves && peer.has(MOVE) {
            ask(client, config.handover_time / 2).await;
            // An agent that has moved closes this link by itself, as soon as its last call has ended.
            tokio::time::sleep(config.handover_time).await;
        }
    }
}

/// Completes when a WebSocket that came up now is old; never without a limit.
async fn aged(limit: Duration) {
    if limit.is_zero() {
        return std::future::pending().await;
    }
    let earlier = limit / AGE_SPREAD * u32::from(chance()) / 256;
    tokio::time::sleep(limit.saturating_sub(earlier)).await;
}

async fn ask(client: &LaneClient, within: Duration) {
    let message = MoveMessage {
        version: CONTROL_VERSION,
        within: within.as_secs(),
    };
    if let Err(error) = control::send(client, MOVE_PATH, &message).await {
        tracing::debug!(error = %chain(&error), "an agent could not be asked to move");
    }
}
