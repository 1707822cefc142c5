//! The relay's configuration: read from files and the environment, checked whole, with all mistakes at once.
//!
//! `config/relay.toml` is the reference for people; a test keeps it in step with what is asked for
//! here. Opens no socket and reads no certificate: a configuration can be checked on any machine.

mod link;
mod tls;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::link::{Handover, LinkConfig};
pub use self::tls::TlsMode;

use crate::config_file::{Mistakes, Section};
use crate::daemon_config::{AdminConfig, DaemonConfig, LogConfig, MetricsConfig};
use crate::invitation::RelayUrl;

/// Where the configuration is looked for when the command line names none.
pub const DEFAULT_PATH: &str = "/etc/relay-agent/relay.toml";
/// Where the admin socket is when the configuration names none.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/relay/admin.sock";
/// Where the relay's configuration comes from.
pub const DAEMON: DaemonConfig = DaemonConfig {
    default_file: DEFAULT_PATH,
    environment_prefix: "RELAY",
    default_socket: DEFAULT_ADMIN_SOCKET,
};
/// Where the state is when the configuration names none; systemd's `StateDirectory=relay`.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/relay";
/// The port that needs no privilege and that firewalls let out most often after 443.
const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443);
/// Long enough for the partner's next working day, short enough for a forgotten mail.
const DEFAULT_INVITATION_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Under systemd's 90 s, so that the relay ends by itself.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A configuration without mistakes.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Where agents and callers connect.
    pub listen: SocketAddr,
    /// Whether another relay process may listen on the same address, to take over.
    pub reuse_port: bool,
    /// A second listener without TLS for callers on this machine; always a loopback address.
    pub plain_listen: Option<SocketAddr>,
    /// What invitations say: where agents find this relay.
    pub public_url: RelayUrl,
    /// Database, identity and, in a trial, the certificate. Mode 0700.
    pub state_dir: PathBuf,
    /// How long a new invitation can be redeemed.
    pub invitation_life: Duration,
    /// How long calls under way may take to finish after SIGTERM.
    pub drain_timeout: Duration,
    /// Who ends TLS, and with which certificate.
    pub tls: TlsMode,
    /// The admin socket.
    pub admin: AdminConfig,
    /// The log.
    pub log: LogConfig,
    /// Where the metrics can be read beside the admin socket.
    pub metrics: MetricsConfig,
    /// What bounds callers and agents.
    pub limits: LimitsConfig,
    /// How links are kept.
    pub link: LinkConfig,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy)]
pub struct LimitsConfig {
    /// Sockets of callers and agents that may be open at once.
    pub sockets: usize,
    /// Calls of one connection that may be under way at once.
    pub calls_per_connection: usize,
    /// Calls of one connection that may wait for its link at once.
    pub waiting_calls_per_connection: usize,
    /// The same from one address, an IPv6 /64 counting as one.
    pub sockets_per_address: usize,
    /// Handshakes of agents that have not proven who they are, under way at once.
    pub handshakes: usize,
    /// The same for one address, an IPv6 /64 counting as one.
    pub handshakes_per_address: usize,
    /// How long TLS and the head of a request may take to arrive.
    pub head_timeout: Duration,
    /// How long a caller's connection may stay open without a call.
    pub idle_timeout: Duration,
    /// How long after a link was lost the agent counts as reconnecting rather than offline.
    pub redial_grace: Duration,
}

impl RelayConfig {
    /// Reads the file at `path`, the drop-ins beside it (`relay.toml` → `relay.d/*.toml`) and the
    /// environment (`RELAY__…`). Without a path: the default one, which may be absent.
    ///
    /// # Errors
    /// All the mistakes at once.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Mistakes> {
        DAEMON.read(path, environment, Self::check)
    }

    fn check(mut root: Section<'_>) -> Option<Self> {
        let listen = root.optional_parsed("listen").unwrap_or(DEFAULT_LISTEN);
        let reuse_port = root.boolean("reuse_port", false);
        let plain_listen = root.optional_parsed::<SocketAddr>("plain_listen");
        if plain_listen.is_some_and(|address| !address.ip().is_loopback()) {
            root.mistake(
                "plain_listen",
                "is not a loopback address, and tokens would cross the network in the clear",
                "use 127.0.0.1 or [::1], or remove it and call through listen",
            );
        }
        let public_url = root.parsed::<RelayUrl>("public_url");
        let tls = TlsMode::check(root.section("tls"));
        if let (Some(url), Some(TlsMode::Files { .. } | TlsMode::SelfSigned)) = (&public_url, &tls)
            && !url.is_tls()
        {
            root.mistake(
                "public_url",
                "begins with http:// although the relay serves TLS",
                "begin it with https://, or set [tls] mode = \"off\" behind a load balancer",
            );
        }
        let state_dir = root.path_or("state_dir", DEFAULT_STATE_DIR);
        let invitation_life = root.duration(
            "invitation_life",
            DEFAULT_INVITATION_LIFE,
            Duration::from_secs(60)..=30 * DAY,
        );
        let drain_timeout = root.duration(
            "drain_timeout",
            DEFAULT_DRAIN_TIMEOUT,
            Duration::ZERO..=HOUR,
        );
        let admin = AdminConfig::check(root.section("admin"), DEFAULT_ADMIN_SOCKET);
        let log = LogConfig::check(root.section("log"));
        let metrics = MetricsConfig::check(root.section("metrics"));
        let agents_share_an_address = matches!(tls, Some(TlsMode::Off));
        let limits = LimitsConfig::check(root.section("limits"), agents_share_an_address);
        let link = LinkConfig::check(root.section("link"));
        Some(Self {
            listen,
            reuse_port,
            plain_listen,
            public_url: public_url?,
            state_dir,
            invitation_life,
            drain_timeout,
            tls: tls?,
            admin,
            log,
            metrics,
            limits,
            link,
        })
    }
}

impl LimitsConfig {
    /// Behind a load balancer all agents come from its address.
    fn check(mut section: Section<'_>, agents_share_an_address: bool) -> Self {
        let default = Self::default();
        let sockets = section.number("sockets", default.sockets, 16..=1_000_000);
        let sockets_of_one = if agents_share_an_address {
            sockets
        } else {
            sockets / 4 * 3
        };
        let calls_per_connection = section.number(
            "calls_per_connection",
            default.calls_per_connection,
            1..=100_000,
        );
        let handshakes = section.number("handshakes", default.handshakes, 16..=100_000);
        let for_one_address = if agents_share_an_address {
            handshakes
        } else {
            default.handshakes_per_address.min(handshakes)
        };
        Self {
            handshakes,
            handshakes_per_address: section.number(
                "handshakes_per_address",
                for_one_address,
                1..=100_000,
            ),
            sockets,
            sockets_per_address: section.number(
                "sockets_per_address",
                sockets_of_one,
                1..=1_000_000,
            ),
            calls_per_connection,
            waiting_calls_per_connection: section.number(
                "waiting_calls_per_connection",
                calls_per_connection,
                1..=100_000,
            ),
            head_timeout: section.duration(
                "head_timeout",
                default.head_timeout,
                SECOND..=10 * 60 * SECOND,
            ),
            idle_timeout: section.duration("idle_timeout", default.idle_timeout, SECOND..=DAY),
            redial_grace: section.duration(
                "redial_grace",
                default.redial_grace,
                Duration::ZERO..=HOUR,
            ),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            // Room for 10,000 agents and as many callers' sockets, at some tens of KiB each.
            sockets: 20_000,
            // A stranger would need two addresses to take every place, and a company's agents and callers
            // may all come from one.
            sockets_per_address: 15_000,
            // Ten busy callers with a hundred requests each; an agent's own limits are lower.
            calls_per_connection: 1_000,
            // As many as may be under way when the agent is back.
            waiting_calls_per_connection: 1_000,
            // Each is over in some round trips, so two thousand agents pass in a few seconds; one that
            // stalls costs some tens of KiB.
            handshakes: 512,
            // A hundred agents a second behind one address on a slow path; a stranger would need
            // sixteen addresses to take every place.
            handshakes_per_address: 32,
            // A slow mobile network needs less than half of it; a slowloris gets no more.
            head_timeout: Duration::from_secs(10),
            // Longer than most callers' pools keep a connection, so that they close first.
            idle_timeout: Duration::from_secs(120),
            // An agent redials within this time after an ordinary cut.
            redial_grace: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests;
