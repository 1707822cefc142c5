//! The parts of the agent that a reload replaces while links and calls go on: the way out and the upstreams.
//!
//! A configuration is taken whole or not at all. Calls and dials under way keep the parts that they
//! began with.

mod withdrawal;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use self::withdrawal::Withdrawal;
use crate::agent::audit::Audit;
use crate::agent::config::{AgentConfig, TlsInspection, UpstreamConfig};
use crate::agent::metrics::Metrics;
use crate::agent::serve::{Calls, Gateway, GatewayError};
use crate::config_file::Mistakes;
use crate::identity;
use crate::link::dial::Dialer;
use crate::link::tls::TlsError;
use crate::link::tls::client::{ClientTls, Purpose};

/// What begins this agent's name in `Via`; random digits follow, so that two agents in one chain are
/// not taken for a loop. A name of the private network has no place there.
const PSEUDONYM: &str = "relay-agent";

/// How long calls wait for a former process to let go of the audit log: as long as a relay makes them wait
/// for an agent, unless it is told otherwise.
const AUDIT_WAIT: Duration = Duration::from_secs(15);
/// The pause between two looks at that.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What is in force, and what is counted over the daemon's life.
pub struct Live {
    parts: ArcSwap<Parts>,
    /// Answers calls.
    pub calls: Calls,
    /// Counts that outlive a reload.
    pub metrics: Metrics,
    /// Whether a former process of this agent may still write the audit log. It lets go of it once a second.
    has_former: AtomicBool,
}

/// What was made from one configuration, beside the calls' own.
pub struct Parts {
    /// The way to the relays.
    pub dialer: Dialer,
    /// Whether a link may pass a middlebox that opens the TLS.
    pub tls_inspection: TlsInspection,
    /// How old an identity key becomes; nothing where it is replaced by hand only.
    pub rotate_after: Option<Duration>,
    /// Certificates to trust beside the system's.
    pub network_ca: Option<PathBuf>,
    /// The upstreams as configured.
    pub upstreams: Vec<UpstreamConfig>,
}

/// Why a configuration without mistakes cannot be put into force.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Rules, credentials or addresses of upstreams.
    #[error("the upstreams cannot be set up")]
    Gateway(#[source] GatewayError),
    /// The roots of trust for the relay.
    #[error("TLS to the relay cannot be set up")]
    Tls(#[source] TlsError),
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// All the mistakes of the configuration.
    #[error("the configuration has mistakes:\n{0}")]
    Mistakes(Mistakes),
    /// It has none, and cannot be put into force.
    #[error(transparent)]
    Live(LiveError),
    /// Its file is empty, or gone, though nobody asked for a reload: most likely it is being written.
    #[error(
        "{} is empty or gone, and without it {}; if that is meant, run: agent reload",
        .0.display(), .1
    )]
    Blank(PathBuf, Withdrawal),
    /// The thread that read the files did not finish.
    #[error("reading the configuration was broken off")]
    BrokenOff,
}

impl Live {
    /// Puts a configuration into force, with calls written down in `audit`. Reads certificates and
    /// credentials; contacts nothing.
    ///
    /// # Errors
    /// [`LiveError`].
    pub fn new(config: &AgentConfig, audit: Audit) -> Result<Self, LiveError> {
        let (parts, gateway) = prepare(config, &Gateway::default())?;
        Ok(Self {
            parts: ArcSwap::from_pointee(parts),
            calls: Calls::new(gateway, &pseudonym(), audit),
            metrics: Metrics::new(names_of(config)),
            has_former: AtomicBool::new(false),
        })
    }

    /// Notes whether a former process of this agent finishes its calls beside this one.
    pub fn set_former(&self, has_former: bool) {
        self.has_former.store(has_former, Ordering::Relaxed);
    }

    /// Whether a former process of this agent finishes its calls beside this one.
    #[must_use]
    pub fn has_former(&self) -> bool {
        self.has_former.load(Ordering::Relaxed)
    }

    /// Calls under way, of all upstreams.
    #[must_use]
    pub fn calls_under_way(&self) -> usize {
        let gateway = self.calls.gateway();
        let all = gateway.upstreams().in_flight();
        all.map(|(_, calls, _)| calls).sum()
    }

    /// Whether a former process writes the audit log, and this one cannot yet.
    #[must_use]
    pub fn awaits_audit(&self) -> bool {
        self.has_former()
            && self
                .calls
                .audit()
                .health()
                .is_some_and(|health| health.trouble.is_some())
    }

    /// Waits, for as long as a call may wait for an agent that is restarted, until this process can write the
    /// audit log. Cancel-safe.
    pub async fn audit_is_free(&self) {
        let waiting = async {
            while self.awaits_audit() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        // Afterwards the call is refused by the log itself.
        let _ = tokio::time::timeout(AUDIT_WAIT, waiting).await;
    }

    /// What is in force now.
    pub fn parts(&self) -> Arc<Parts> {
        self.parts.load_full()
    }

    /// Puts another configuration into force, if all of it can be used.
    ///
    /// # Errors
    /// [`ReloadError`]; the former configuration then stays in force.
    pub async fn replace(&self, config: AgentConfig) -> Result<AgentConfig, ReloadError> {
        let former = self.calls.gateway();
        let (config, parts, gateway) = tokio::task::spawn_blocking(move || {
            let (parts, gateway) = prepare(&config, &former).map_err(ReloadError::Live)?;
            Ok((config, parts, gateway))
        })
        .await
        .map_err(|_| ReloadError::BrokenOff)??;
        self.metrics.know(names_of(&config));
        self.calls.replace(gateway);
        self.parts.store(Arc::new(parts));
        Ok(config)
    }
}

fn names_of(config: &AgentConfig) -> impl Iterator<Item = &str> {
    config
        .upstreams
        .iter()
        .map(|upstream| upstream.name.as_str())
}

fn pseudonym() -> String {
    // Without random numbers no link comes up either; the name alone still serves.
    let number = identity::random_bytes().map_or(0, u32::from_be_bytes);
    format!("{PSEUDONYM}-{number:08x}")
}

/// What is to be in force; `former` is what is now.
fn prepare(config: &AgentConfig, former: &Gateway) -> Result<(Parts, Gateway), LiveError> {
    let ca_file = config.network.ca_file.as_deref();
    let gateway = Gateway::open(&config.upstreams, ca_file, former);
    let gateway = gateway.map_err(LiveError::Gateway)?;
    let parts = Parts {
        dialer: dialer(config)?,
        tls_inspection: config.network.tls_inspection,
        rotate_after: config.identity.rotate_after,
        network_ca: config.network.ca_file.clone(),
        upstreams: config.upstreams.clone(),
    };
    Ok((parts, gateway))
}

/// The way out that a configuration describes.
///
/// # Errors
/// [`LiveError::Tls`].
pub fn dialer(config: &AgentConfig) -> Result<Dialer, LiveError> {
    let network = &config.network;
    let tls = ClientTls::new(network.ca_file.as_deref(), Purpose::Link).map_err(LiveError::Tls)?;
    Ok(Dialer::new(&network.proxy, tls))
}
