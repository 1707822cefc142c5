//! Moves that the relay asks for: agents dial a new WebSocket before they leave the one in use.
//!
//! Because the WebSocket is old, the certificate has changed, or this relay is about to stop and another
//! process takes over. Where there is time, many agents are asked at once and each draws its own moment; when the relay
//! is about to stop, each is asked when it is its turn ([`Turns`]).

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::turns::Turns;
use super::{LinkEndpoint, chance, control};
use crate::error_chain::chain;
use crate::link::LinkHandle;
use crate::link::http2::LaneClient;
use crate::protocol::control::{CONTROL_VERSION, MOVE_PATH, MoveMessage};
use crate::protocol::handshake::{Introduction, MOVE};
use crate::relay::config::Handover;

/// A handshake over a bad path takes about so long. Agents move no faster than that all their handshakes together
/// find places (`limits.handshakes`), since who is turned away comes later than it was meant to.
const SLOW_HANDSHAKE: Duration = Duration::from_secs(2);
/// Within how long all agents move to a new certificate, unless there are too many for it.
const CERTIFICATE_MOVE: Duration = Duration::from_secs(300);
/// Within how long one agent moves whose WebSocket is old; agents are old at different times.
const AGE_MOVE: Duration = Duration::from_secs(10);
/// By how much of itself the age limit differs from agent to agent.
const AGE_SPREAD: u32 = 10;
/// How often a link whose agent was asked is looked at: whether the agent takes its calls elsewhere now.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it may take to see whether somebody listens on this machine.
const PROBE: Duration = Duration::from_secs(1);

/// What moves all links of a relay.
#[derive(Debug)]
pub(super) struct Moves {
    /// Ticks when the certificate changes.
    certificate: watch::Sender<()>,
    /// Whether another process listens on this relay's address; unknown until this one has let go of it.
    successor: watch::Sender<Option<bool>>,
    /// How many links there are to move.
    links: AtomicUsize,
    /// Whose turn it is when this relay is about to stop.
    turns: Turns,
}

/// A link that counts among those to move.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl Moves {
    /// Of a relay that takes so many handshakes at once.
    pub(super) fn new(handshakes: usize) -> Self {
        Self {
            certificate: watch::Sender::default(),
            successor: watch::Sender::default(),
            links: AtomicUsize::new(0),
            turns: Turns::new(handshakes),
        }
    }

    /// Counts a link while it is held.
    pub(super) fn count(&self) -> Counted<'_> {
        self.links.fetch_add(1, Ordering::Relaxed);
        Counted(&self.links)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
        let answered = timeout(PROBE, probe).await;
        let found = matches!(answered, Ok(Ok(_)));
        self.moves.successor.send_replace(Some(found));
    }

    /// Whether another process listens on this relay's address; unknown until this one has let go of it.
    pub fn successor(&self) -> Option<bool> {
        *self.moves.successor.borrow()
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
                Ok(()) = certificate.changed() => CERTIFICATE_MOVE.max(self.time_for_all()),
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
            self.move_in_turn(client).await;
        }
    }

    /// Asks the agent to move when it is this link's turn; completes when it has moved, or had its time.
    async fn move_in_turn(&self, client: &LaneClient) {
        let config = &self.shared.config;
        let (began, all) = (Instant::now(), config.link.handover_time);
        // Half of the time for the turns, where the next relay keeps up, and half for the last to move.
        let half = all / 2;
        // As late as a turn may come: then nothing is left of the drain but that half.
        let most = config.drain_timeout.saturating_sub(half).max(half);
        let links = self.moves.links.load(Ordering::Relaxed);
        let Some(turn) = self.moves.turns.next(links, half, most).await else {
            return;
        };
        let deadline = (began + all).max(Instant::now() + half);
        let mut moving = pin!(async {
            ask(client, Duration::ZERO).await;
            taken_elsewhere(client).await;
        });
        // The next one's turn comes when this one has moved: where the next relay is slow, no more are at once. An agent
        // that is not heard keeps it up no longer than it would have had.
        if timeout(half, &mut moving).await.is_err() {
            drop(turn);
            let _ = timeout_at(deadline, moving).await;
        }
    }

    /// Within how long all agents can move without any of them being turned away.
    fn time_for_all(&self) -> Duration {
        let links = self.moves.links.load(Ordering::Relaxed);
        time_for(links, self.shared.config.limits.handshakes)
    }
}

/// Completes when the agent takes no more calls on this link, because it has another: its calls under way end here.
async fn taken_elsewhere(client: &LaneClient) {
    while client.takes_calls() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How long so many agents need for their handshakes, when so many may be under way at once.
fn time_for(links: usize, places: usize) -> Duration {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    SLOW_HANDSHAKE.saturating_mul(count(links)) / count(places.max(1))
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
        // Not sooner than within the time that was meant.
        within: within.as_secs() + u64::from(within.subsec_nanos() > 0),
    };
    if let Err(error) = control::send(client, MOVE_PATH, &message).await {
        tracing::debug!(error = %chain(&error), "an agent could not be asked to move");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_agents_get_longer_to_move_than_few() {
        assert_eq!(time_for(0, 512), Duration::ZERO);
        assert_eq!(time_for(512, 512), SLOW_HANDSHAKE);
        assert_eq!(time_for(10_240, 512), SLOW_HANDSHAKE * 20);
        assert!(time_for(usize::MAX, 0) > Duration::from_secs(1_000_000));
    }

    #[tokio::test(start_paused = true)]
    async fn links_that_came_up_together_grow_old_at_different_times() {
        let limit = Duration::from_secs(1_000);
        let mut ages = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let came_up = Instant::now();
            aged(limit).await;
            ages.insert(came_up.elapsed().as_secs());
        }
        assert!(
            ages.first() >= Some(&900) && ages.last() <= Some(&1_000),
            "{ages:?}"
        );
        assert!(ages.len() > 10, "{ages:?}");
    }

    #[test]
    fn links_count_while_they_are_held() {
        let moves = Moves::new(512);
        let one = moves.count();
        let two = moves.count();
        assert_eq!(moves.links.load(Ordering::Relaxed), 2);
        drop((one, two));
        assert_eq!(moves.links.load(Ordering::Relaxed), 0);
    }
}
