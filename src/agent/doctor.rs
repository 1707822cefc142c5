//! Walks the way to each relay and to each upstream, and says at which hop it ends and what to do.
//!
//! Uses the dialer of the link, so that what it finds is what the link meets. Sends no call, and no credential
//! to an upstream; one that has to be fetched is fetched as for a call. A link that is up is left alone.

mod report;

use std::time::Duration;

use tokio::task::JoinSet;

pub use report::{Check, Outcome, Report, Walk};

use crate::agent::addresses::ReachError;
use crate::agent::advice::{self, Whose};
use crate::agent::config::UpstreamConfig;
use crate::agent::credentials::CredentialError;
use crate::agent::live::Live;
use crate::agent::status::{ConnectionState, ConnectionStatus};
use crate::error_chain::chain;
use crate::invitation::{RelayUrl, TlsPin};
use crate::link::dial::{DialError, Dialer};
use crate::link::tls::client::{ClientTls, Purpose};

/// One walk takes no longer: every step of the dialer has a shorter time-out of its own.
const DEADLINE: Duration = Duration::from_secs(60);
/// Clocks that differ by more are worth a word: certificates are mostly made valid some minutes in the
/// past, so that smaller differences do no harm.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5 * 60);
/// The hops to a relay, in order.
const HOPS: [&str; 5] = ["name", "proxy", "tcp", "tls", "link"];
const NAME: usize = 0;
const PROXY: usize = 1;
const TCP: usize = 2;
const TLS: usize = 3;
/// What is looked at last, at an upstream that has any.
const CREDENTIALS: &str = "credentials";

/// A connection, and where its relay is.
#[derive(Debug, Clone)]
pub struct Destination {
    /// How the connection is.
    pub status: ConnectionStatus,
    /// Where the relay is.
    pub relay_url: RelayUrl,
    /// The relay's TLS key, where no authority vouches for it.
    pub tls_pin: Option<TlsPin>,
}

/// Walks to all relays and upstreams side by side.
pub async fn examine(live: &Live, destinations: Vec<Destination>) -> Report {
    let parts = live.parts();
    let mut walks = JoinSet::new();
    for (index, destination) in destinations.into_iter().enumerate() {
        let parts = std::sync::Arc::clone(&parts);
        walks.spawn(async move {
            let walk = to_relay(&parts.dialer, &destination).await;
            ((0, index), walk)
        });
    }
    for (index, upstream) in parts.upstreams.iter().cloned().enumerate() {
        let network_ca = parts.network_ca.clone();
        let gateway = live.calls.gateway();
        walks.spawn(async move {
            let mut walk = to_upstream(&upstream, network_ca.as_deref()).await;
            let checked = gateway.credentials().check(upstream.name.as_str());
            credentials(&mut walk, checked.await);
            ((1, index), walk)
        });
    }
    let mut found = Vec::with_capacity(walks.len());
    while let Some(ended) = walks.join_next().await {
        // A walk that panicked is left out; the report is then shorter, which the log explains.
        found.extend(
            ended.inspect_err(|error| tracing::error!(%error, "a walk of the doctor failed")),
        );
    }
    found.sort_by_key(|(place, _)| *place);
    Report::new(found.into_iter().map(|(_, walk)| walk).collect())
}

async fn to_relay(dialer: &Dialer, destination: &Destination) -> Walk {
    let url = &destination.relay_url;
    let mut walk = Walk::new(
        format!("connection {}", destination.status.name),
        url.to_string(),
    );
    let proxy = dialer.proxy_for(url);
    let dialled = tokio::time::timeout(DEADLINE, dialer.connect(url, destination.tls_pin)).await;
    let failed_at = match &dialled {
        Ok(Ok(_)) => HOPS.len() - 1,
        Ok(Err(error)) => hop_of(error),
        Err(_) => TCP,
    };
    for (index, hop) in HOPS.iter().enumerate().take(failed_at) {
        let detail = match index {
            PROXY => proxy.as_ref().map_or_else(
                || "none on the way".to_owned(),
                |proxy| format!("through {proxy}"),
            ),
            TLS if !url.is_tls() => "none: the relay's URL is http".to_owned(),
            _ => String::new(),
        };
        walk.passed(hop, detail);
    }
    match dialled {
        Ok(Ok(_)) => {
            link(&mut walk, &destination.status);
            clock(&mut walk, destination.status.link.clock_ahead);
        }
        Ok(Err(error)) => {
            let remedy = advice::on_dial(&error);
            walk.failed(HOPS[failed_at], chain(&error).to_string(), remedy);
        }
        Err(_) => walk.failed(
            HOPS[failed_at],
            "it took too long".to_owned(),
            String::new(),
        ),
    }
    walk
}

/// WebSocket and authentication: what the link's own task has met, since a second link beside a live
/// one would be taken for a copy of this agent.
fn link(walk: &mut Walk, status: &ConnectionStatus) {
    let why = status.link.why.clone();
    match status.state {
        ConnectionState::Active | ConnectionState::Deactivated | ConnectionState::Removing
            if status.link.is_online() =>
        {
            let since = status.link.since.as_deref().unwrap_or("a moment ago");
            walk.passed("link", format!("online since {since}"));
        }
        ConnectionState::Active | ConnectionState::Deactivated | ConnectionState::Removing => walk
            .failed(
                "link",
                why.unwrap_or_else(|| "it is just being made".to_owned()),
                "If it stays so: a proxy on the way may not let WebSockets pass.".to_owned(),
            ),
        ConnectionState::Ended | ConnectionState::Damaged => walk.failed(
            "link",
            why.unwrap_or_default(),
            format!("Once it is no longer needed: agent remove {}", status.name),
        ),
    }
}

/// Whose clock is wrong nobody can tell from here; that they differ, the last handshake told.
fn clock(walk: &mut Walk, ahead: Option<i64>) {
    let Some(ahead) = ahead else {
        return;
    };
    let difference = Duration::from_secs(ahead.unsigned_abs());
    let side = if ahead < 0 { "ahead of" } else { "behind" };
    if difference <= CLOCKS_DIFFER {
        let detail = format!("within {} s of the relay's", difference.as_secs().max(1));
        return walk.passed("clock", detail);
    }
    let difference = humantime::format_duration(difference);
    walk.warned(
        "clock",
        format!("this machine's is {difference} {side} the relay's"),
        "Set the one that is wrong: by it certificates, and on the relay invitations, seem to expire too early or too late."
            .to_owned(),
    );
}

async fn to_upstream(upstream: &UpstreamConfig, network_ca: Option<&std::path::Path>) -> Walk {
    let url = &upstream.url;
    let mut walk = Walk::new(format!("upstream {}", upstream.name), url.to_string());
    let is_tls = url.scheme_str() == Some("https");
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let connecting = tokio::time::timeout(
        upstream.connect_timeout,
        upstream.addresses.connect(host, port),
    );
    let tcp = match connecting.await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => {
            let (hop, remedy) = match &error {
                ReachError::Resolve { .. } => (NAME, "Check the host in the upstream's url."),
                ReachError::Prohibited { .. } => (
                    TCP,
                    "Correct the upstream's url, or its addresses, which say where it may lead.",
                ),
                ReachError::Tcp { .. } => {
                    (TCP, "Check the upstream's url, and that the host runs.")
                }
            };
            if hop == TCP {
                walk.passed(HOPS[NAME], String::new());
            }
            walk.failed(HOPS[hop], chain(&error).to_string(), remedy.to_owned());
            return walk;
        }
        Err(_) => {
            let timeout = humantime::format_duration(upstream.connect_timeout);
            let detail = format!("no connection within connect_timeout ({timeout})");
            walk.failed(HOPS[TCP], detail, "Check the way to the host.".to_owned());
            return walk;
        }
    };
    walk.passed(HOPS[NAME], String::new());
    walk.passed(HOPS[TCP], String::new());
    if is_tls {
        let files = network_ca.into_iter().chain(upstream.ca_file.as_deref());
        let made = match ClientTls::new(files, Purpose::Upstream) {
            Ok(tls) => tokio::time::timeout(upstream.connect_timeout, tls.connect(host, None, tcp))
                .await
                .ok(),
            Err(error) => Some(Err(error)),
        };
        match made {
            Some(Ok(_)) => walk.passed(HOPS[TLS], String::new()),
            Some(Err(error)) => {
                let remedy = advice::on_tls(&error, Whose::Upstream).to_owned();
                walk.failed(HOPS[TLS], chain(&error).to_string(), remedy);
            }
            None => walk.failed(HOPS[TLS], "it took too long".to_owned(), String::new()),
        }
    }
    walk
}

/// Whether what the agent adds to calls is to be had.
fn credentials(walk: &mut Walk, checked: Option<Result<(), CredentialError>>) {
    match checked {
        None => {}
        Some(Ok(())) => walk.passed(CREDENTIALS, String::new()),
        Some(Err(error)) => {
            let remedy = advice::on_credential(&error).to_owned();
            walk.failed(CREDENTIALS, chain(&error).to_string(), remedy);
        }
    }
}

/// At which hop a dial ended.
const fn hop_of(error: &DialError) -> usize {
    match error {
        DialError::Resolve { .. } => NAME,
        DialError::ProxyUnreachable { .. } | DialError::Proxy { .. } => PROXY,
        DialError::Connect { .. } | DialError::TimedOut { .. } => TCP,
        DialError::Tls { .. } => TLS,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::agent::audit::Audit;
    use crate::agent::config::tests::read;
    use crate::agent::lifecycle::Phase;
    use crate::agent::state::tests::example;
    use crate::agent::status::LinkFacts;

    /// Nobody listens there, and nobody is given that port.
    const NOBODY: &str = "127.0.0.1:1";

    fn destination(url: &str) -> Destination {
        let record = example("acme_to_widgets");
        Destination {
            status: ConnectionStatus::of(&record, &Phase::begin(), &LinkFacts::default()),
            relay_url: url.parse().unwrap(),
            tls_pin: None,
        }
    }

    fn failure(walk: &Walk) -> Option<(&str, &str)> {
        walk.checks
            .iter()
            .find(|check| check.outcome == Outcome::Failed)
            .map(|check| (check.hop.as_str(), check.remedy.as_str()))
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_found_at_the_tcp_hop() {
        let text = format!(
            "[network]\nproxy = 'none'\n[[upstream]]\nname = 'jira'\nurl = 'http://{NOBODY}'\n"
        );
        let live = Live::new(&read(&text).unwrap(), Audit::off()).unwrap();
        let relay = destination(&format!("http://{NOBODY}"));
        let report = examine(&live, vec![relay]).await;
        assert!(!report.healthy);
        for walk in &report.walks {
            let (hop, remedy) = failure(walk).unwrap();
            assert_eq!(hop, "tcp", "{walk:?}");
            assert!(!remedy.is_empty());
        }
        assert_eq!(report.walks.len(), 2);
    }

    #[test]
    fn clocks_that_differ_much_are_worth_a_warning_and_no_failure() {
        let seen = |ahead| {
            let mut walk = Walk::new(String::new(), String::new());
            clock(&mut walk, ahead);
            let report = Report::new(vec![walk]);
            assert!(report.healthy);
            let check = report.walks[0].checks.first().cloned();
            check.map(|check| (check.outcome, check.detail))
        };
        let detail = |ahead, outcome| {
            let (seen, detail) = seen(Some(ahead)).unwrap();
            assert_eq!(seen, outcome, "{detail}");
            detail
        };
        assert_eq!(seen(None), None);
        assert_eq!(detail(300, Outcome::Ok), "within 300 s of the relay's");
        let behind = detail(301, Outcome::Warning);
        assert_eq!(behind, "this machine's is 5m 1s behind the relay's");
        let ahead = detail(-7_200, Outcome::Warning);
        assert_eq!(ahead, "this machine's is 2h ahead of the relay's");
        detail(i64::MIN, Outcome::Warning);
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_is_found_at_the_proxy_hop_and_named() {
        let text = format!("[network]\nproxy = 'http://{NOBODY}'\n");
        let live = Live::new(&read(&text).unwrap(), Audit::off()).unwrap();
        let report = examine(&live, vec![destination("https://relay.example")]).await;
        let (hop, remedy) = failure(&report.walks[0]).unwrap();
        assert_eq!(hop, "proxy", "{report:?}");
        assert!(remedy.contains(NOBODY), "{remedy}");
        assert!(!remedy.contains("relay.example"), "{remedy}");
    }

    #[tokio::test]
    async fn a_relay_that_speaks_no_tls_is_found_at_the_tls_hop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            drop(stream);
        });
        let live = Live::new(&read("[network]\nproxy = 'none'\n").unwrap(), Audit::off()).unwrap();
        let relay = destination(&format!("https://127.0.0.1:{port}"));
        let report = examine(&live, vec![relay]).await;
        assert_eq!(failure(&report.walks[0]).unwrap().0, "tls", "{report:?}");
    }
}
