//! What every listener, link and call of a running relay shares.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use super::config::RelayConfig;
use super::connections::Connections;
use super::metrics::Metrics;
use super::registry::Registry;
use super::store::Store;
use super::tokens::Tokens;
use crate::condition::Ledger;
use crate::disk::Disks;
use crate::identity::SigningKey;
use crate::link::tls::server::ServerTls;
use crate::logging::LogHandle;
use crate::shutdown::{Draining, Shutdown};

/// The running relay's parts. Handed around as one `Arc`; holds no listener and no task.
#[derive(Debug)]
pub struct Shared {
    /// As read at start.
    pub config: RelayConfig,
    /// The key with which the relay signs what it says to agents.
    pub identity: Arc<SigningKey>,
    /// Connections and their live links, for every call.
    pub registry: Arc<Registry>,
    /// Who presented a token.
    pub tokens: Arc<Tokens>,
    /// Changes to connections and tokens.
    pub connections: Connections,
    /// The database; only to ask whether it answers.
    pub store: Store,
    /// The log's level.
    pub log: LogHandle,
    /// What was counted since the start.
    pub metrics: Metrics,
    /// The disk of its state.
    pub disks: Disks,
    /// What was the matter at the last look.
    pub ledger: Mutex<Ledger>,
    /// The certificate, where TLS ends here.
    pub tls: Option<Arc<ServerTls>>,
    /// How far the end has come.
    pub shutdown: Shutdown,
    /// Once it drains: whether another process listens where this one did.
    pub successor: OnceLock<bool>,
    /// When the relay was started, in seconds since 1970.
    pub started_at: u64,
    /// Where agents and callers connect, as bound.
    pub address: SocketAddr,
    /// Where callers on this machine may connect without TLS, as bound.
    pub plain_address: Option<SocketAddr>,
}

impl Shared {
    /// What the relay waits for, once it drains.
    #[must_use]
    pub fn draining(&self) -> Option<Draining> {
        let calls = self
            .registry
            .list()
            .iter()
            .map(|one| one.calls_in_flight())
            .sum();
        self.shutdown.draining_for(self.config.drain_timeout, calls)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::logging::LogLevel;
    use crate::relay::clock;
    use crate::relay::connections::PublicFace;
    use crate::relay::registry::Limits;

    /// A relay without listeners, on a directory of its own.
    pub(crate) async fn relay_in(directory: &std::path::Path) -> Arc<Shared> {
        let file = directory.join("relay.toml");
        let text = format!(
            "public_url = 'https://relay.example'\nstate_dir = '{}'\n[tls]\nmode = 'self-signed'\n",
            directory.display()
        );
        std::fs::write(&file, text).unwrap();
        let config = RelayConfig::load(Some(&file), []).unwrap();
        let store = Store::open(directory).unwrap();
        let limits = Limits {
            calls_in_flight: config.limits.calls_per_connection,
            calls_waiting: config.limits.waiting_calls_per_connection,
            redial_grace: config.limits.redial_grace,
        };
        let records = store.connections().await.unwrap();
        let registry = Arc::new(Registry::new(records, limits));
        let tokens = Arc::new(Tokens::new(store.tokens().await.unwrap()));
        let identity = Arc::new(SigningKey::generate().unwrap());
        let face = PublicFace {
            url: config.public_url.clone(),
            tls_pin: None,
        };
        let connections = Connections::new(
            store.clone(),
            Arc::clone(&registry),
            Arc::clone(&tokens),
            Arc::clone(&identity),
            face,
            config.invitation_life,
        );
        Arc::new(Shared {
            config,
            identity,
            registry,
            tokens,
            connections,
            store,
            log: LogHandle::detached(LogLevel::Info),
            metrics: Metrics::default(),
            disks: Disks::of([directory.to_owned()]),
            ledger: Mutex::default(),
            tls: None,
            shutdown: Shutdown::new(),
            successor: OnceLock::new(),
            started_at: clock::now(),
            address: SocketAddr::from(([127, 0, 0, 1], 8443)),
            plain_address: None,
        })
    }
}
