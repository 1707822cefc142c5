//! The agent's configuration: read from files and the environment, checked whole, with all mistakes at once.
//!
//! Composed of the parts' own configurations. Never contacts anything and never opens a credential:
//! a configuration can be checked on a machine that cannot reach the upstreams.

mod audit;
mod credential;
mod identity;
mod limits;
mod network;
mod oauth2;
mod rule;
mod source;
mod upstream;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use audit::{Also, AuditConfig, Sync};
pub use credential::{AuthConfig, CredentialsConfig};
pub use identity::{BindToMachine, IdentityConfig};
pub use network::{NetworkConfig, TlsInspection};
pub use oauth2::{ClientStyle, OAuth2Config};
pub use source::{CommandConfig, CredentialSource};
pub use upstream::{UpstreamConfig, policy_of};

use crate::config_file::{Look, Looks, Mistakes, Section};
use crate::daemon_config::{AdminConfig, DaemonConfig, LogConfig, MetricsConfig};

/// Where the configuration is looked for when nobody names another place.
pub const DEFAULT_FILE: &str = "/etc/relay-agent/agent.toml";
/// Where the admin socket is, unless configured otherwise.
pub const DEFAULT_SOCKET: &str = "/run/relay-agent/admin.sock";
const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/relay-agent";
/// Where the agent's configuration comes from.
const DAEMON: DaemonConfig = DaemonConfig {
    default_file: DEFAULT_FILE,
    environment_prefix: "AGENT",
    default_socket: DEFAULT_SOCKET,
};
/// Calls in flight have this long to finish after a stop was asked for: shorter than the 90 s after
/// which systemd kills, longer than nearly every call.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// Nobody waits longer for a stop.
const MAX_DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

/// The whole configuration, checked.
#[derive(Debug)]
pub struct AgentConfig {
    /// Where records and keys are kept.
    pub state_dir: PathBuf,
    /// How long calls in flight may take to finish when the daemon stops.
    pub drain_timeout: Duration,
    /// The admin socket.
    pub admin: AdminConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Where the metrics can be read beside the admin socket.
    pub metrics: MetricsConfig,
    /// The way out.
    pub network: NetworkConfig,
    /// How long identity keys are used.
    pub identity: IdentityConfig,
    /// Where calls are written down.
    pub audit: AuditConfig,
    /// What may be reached in the private network.
    pub upstreams: Vec<UpstreamConfig>,
    /// The files that all this stands in, as they were before they were read.
    pub read_from: Looks,
}

impl AgentConfig {
    /// Reads the configuration from `file`, or from [`DEFAULT_FILE`], which may be missing; then from
    /// `agent.d/*.toml` beside it, and from variables that begin with `AGENT__`.
    ///
    /// # Errors
    /// Every mistake, each with file, key and remedy.
    pub fn read(file: Option<&Path>) -> Result<Self, Mistakes> {
        let read_from = Look::at_each(Self::sources(file));
        let config = DAEMON.read(file, env::vars_os(), Self::check)?;
        Ok(Self {
            read_from,
            ..config
        })
    }

    /// The files that [`read`](Self::read) reads, and the directory of drop-ins, there or not.
    #[must_use]
    pub fn sources(file: Option<&Path>) -> Vec<PathBuf> {
        DAEMON.sources(file)
    }

    /// Where the admin socket is, for a command that talks to the daemon: read leniently, since neither
    /// a mistake elsewhere in the configuration nor a file that only the daemon may read must keep
    /// anyone from asking for the status.
    #[must_use]
    pub fn socket_path(file: Option<&Path>) -> PathBuf {
        let named = DAEMON.admin_socket(file, env::vars_os());
        named.unwrap_or_else(|_unreadable| PathBuf::from(DEFAULT_SOCKET))
    }

    fn check(mut root: Section<'_>) -> Option<Self> {
        let state_dir = root.path_or("state_dir", DEFAULT_STATE_DIRECTORY);
        let drain_timeout = root.duration(
            "drain_timeout",
            DEFAULT_DRAIN_TIMEOUT,
            Duration::ZERO..=MAX_DRAIN_TIMEOUT,
        );
        let admin = AdminConfig::check(root.section("admin"), DEFAULT_SOCKET);
        let log = LogConfig::check(root.section("log"));
        let metrics = MetricsConfig::check(root.section("metrics"));
        let network = NetworkConfig::check(root.section("network"));
        let identity = IdentityConfig::check(root.section("identity"));
        let audit = AuditConfig::check(root.section("audit"), &state_dir);
        let upstreams = upstream::check_all(root.sections("upstream"));
        Some(Self {
            state_dir,
            drain_timeout,
            admin,
            log,
            metrics,
            network: network?,
            identity,
            audit,
            upstreams: upstreams?,
            read_from: Looks::new(),
        })
    }
}

#[cfg(test)]
pub(in crate::agent) mod tests {
    use std::fs;

    use http::HeaderName;

    use super::*;
    use crate::link::dial::ProxySetting;

    const REFERENCE: &str = include_str!("../../config/agent.toml");

    /// The shipped file with every key in force.
    pub(in crate::agent) fn reference() -> String {
        let uncommented = REFERENCE
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line));
        uncommented.map(|line| format!("{line}\n")).collect()
    }

    pub(in crate::agent) fn read(text: &str) -> Result<AgentConfig, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        AgentConfig::read(Some(&path)).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn an_empty_file_gives_the_defaults_and_reaches_nothing() {
        let config = read("").unwrap();
        assert_eq!(config.state_dir, Path::new(DEFAULT_STATE_DIRECTORY));
        assert_eq!(config.admin.socket, Path::new(DEFAULT_SOCKET));
        assert_eq!(config.admin.group, None);
        assert_eq!(config.drain_timeout, DEFAULT_DRAIN_TIMEOUT);
        assert!(matches!(config.network.proxy, ProxySetting::Environment));
        assert_eq!(config.network.tls_inspection, TlsInspection::Refuse);
        assert!(config.upstreams.is_empty());
    }

    #[test]
    fn an_upstream_is_read_with_its_rules_and_credentials() {
        let config = read(
            r#"
            [[upstream]]
            name = "jira"
            url = "https://jira.corp.local:8443/jira"
            set_headers = { Authorization = { credential = "jira-token" }, X-Key = { env = "KEY" } }
            response_timeout = "5s"
            [[upstream.allow]]
            methods = ["GET", "PUT"]
            path = "/rest/api/2/issue/{key}"
            encoded_slash = true
            max_body = "64 KiB"
            max_response = "4 MiB"
            response_timeout = "2m"
            rate = "10/s"
            max_in_flight = 4
            query = { fields = "*", "maxResults?" = ["50", "100"] }
            headers = { "X-Trace?" = "*" }
            content_type = ["application/json"]
            [[upstream.allow.body]]
            pointer = "/fields/project/key"
            matches = "OPS*"
            [[upstream.allow.body]]
            pointer = "/fields/priority"
            one_of = ["low", 3, true]
            [[upstream.deny]]
            path = "/admin/{*rest}"
            callers = ["reports"]
            "#,
        )
        .unwrap();
        let [jira] = config.upstreams.as_slice() else {
            panic!("{config:?}");
        };
        assert_eq!(jira.url.path(), "/jira");
        assert_eq!(jira.response_timeout, Duration::from_secs(5));
        assert_eq!(jira.max_in_flight, upstream::DEFAULT_MAX_IN_FLIGHT);
        assert_eq!(
            jira.credentials.set_headers,
            [
                (
                    HeaderName::from_static("authorization"),
                    CredentialSource::Credential("jira-token".to_owned())
                ),
                (
                    HeaderName::from_static("x-key"),
                    CredentialSource::Environment("KEY".to_owned())
                ),
            ]
        );
        let rules: Vec<_> = jira.rules.iter().map(ToString::to_string).collect();
        assert_eq!(
            rules,
            [
                "deny /admin/{*rest} (callers reports)",
                "GET, PUT /rest/api/2/issue/{key} (with %2f) (query fields=*, maxResults?=50|100) \
                 (headers x-trace?=*) (application/json) \
                 (body /fields/project/key=OPS*, /fields/priority=low|3|true)"
            ]
        );
    }

    #[test]
    fn a_mistake_elsewhere_does_not_hide_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        fs::write(&path, "drain = 3\n[admin]\nsocket = '/tmp/s'\n").unwrap();
        let socket = AgentConfig::socket_path(Some(&path));
        assert_eq!(socket, Path::new("/tmp/s"));
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let text = read(
            r#"
            drain_timeout = "soon"
            [network]
            proxy = "ftp://proxy"
            tls_inspection = "perhaps"
            [[upstream]]
            name = "a b"
            url = "ftp://x"
            [[upstream]]
            name = "jira"
            url = "https://user:hunter2@jira.corp.local"
            max_in_flight = 0
            set_headers = { Connection = { env = "A" }, A = { }, B = { file = "relative" } }
            set_query = { "a b" = { env = "A" } }
            auth = { basic = { username = "a:b" } }
            pass_authorization = true
            [[upstream.allow]]
            path = "/x"
            rate = "10"
            max_body = "64"
            [[upstream.deny]]
            path = "x"
            callers = ["a b"]
            query = { "" = "x" }
            headers = { Host = "x" }
            content_type = ["json"]
            [[upstream.deny]]
            path = "/x"
            query = { a = [], b = 3 }
            [[upstream.deny.body]]
            pointer = "a"
            equals = "x"
            [[upstream.deny.body]]
            pointer = "/a"
            equals = 1.5
            [[upstream.deny.body]]
            pointer = "/a"
            [[upstream]]
            name = "jira"
            url = "https://jira.corp.local/?q=1"
            addresses = ["10.0.0.0/33"]
            [[upstream]]
            name = "cloud"
            url = "http://169.254.169.254"
            [[upstream]]
            name = "far"
            url = "http://[2001:db8::1]"
            addresses = ["10.0.0.0/8"]
            "#,
        )
        .unwrap_err();
        for key in [
            "drain_timeout",
            "network.proxy",
            "network.tls_inspection",
            "upstream[a b].name",
            "upstream[a b].url",
            "upstream[jira].url",
            "upstream[jira].max_in_flight",
            "upstream[jira].set_headers",
            "has a value without exactly one source",
            "upstream[jira].set_headers.B.file",
            "upstream[jira].set_query",
            "upstream[jira].auth.basic.username",
            "upstream[jira].auth.basic.password",
            "upstream[jira].allow[#1].methods",
            "upstream[jira].allow[#1].rate",
            "upstream[jira].allow[#1].max_body",
            "upstream[jira].deny[#1].path",
            "upstream[jira].deny[#1].callers",
            "upstream[jira].deny[#1].query: makes",
            "upstream[jira].deny[#1].headers: makes",
            "upstream[jira].deny[#1].content_type: makes",
            "upstream[jira].deny[#2].query: has an empty list",
            "upstream[jira].deny[#2].query.b",
            "upstream[jira].deny[#2].body[#1].pointer: makes",
            "upstream[jira].deny[#2].body[#2].equals",
            "upstream[jira].deny[#2].body[#3].pointer: has not exactly",
            "upstream[jira].name",
            "upstream[jira].addresses: has \"10.0.0.0/33\"",
            "upstream[cloud].url: cannot be called: 169.254.169.254 is a link-local address",
            "upstream[far].url: cannot be called: 2001:db8::1 is in none of the networks",
        ] {
            assert!(text.contains(key), "{key} not in\n{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn the_reference_shows_every_key_and_every_default() {
        let shipped = read(REFERENCE).unwrap();
        assert!(
            shipped.upstreams.is_empty(),
            "the shipped file allows nothing"
        );

        // Every commented key, put into force, must be known; the example upstream must be whole.
        let uncommented = reference();
        let keys = uncommented
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains(" = "))
            .count();
        assert_eq!(keys, KEYS_OF_THE_REFERENCE, "{uncommented}");
        let whole = read(&uncommented).unwrap();
        assert_eq!(whole.upstreams.len(), 1);

        let defaults = read("").unwrap();
        assert_eq!(shipped.state_dir, defaults.state_dir);
        assert_eq!(whole.state_dir, defaults.state_dir);
        assert_eq!(whole.drain_timeout, defaults.drain_timeout);
        assert_eq!(whole.admin.socket, defaults.admin.socket);
        assert_eq!(whole.log, defaults.log);
        assert_eq!(whole.audit, defaults.audit);
        assert_eq!(whole.identity, defaults.identity);
        assert_eq!(
            whole.network.tls_inspection,
            defaults.network.tls_inspection
        );
        let [example] = whole.upstreams.as_slice() else {
            panic!("one example upstream");
        };
        assert_eq!(example.connect_timeout, upstream::DEFAULT_CONNECT_TIMEOUT);
        assert_eq!(example.response_timeout, upstream::DEFAULT_RESPONSE_TIMEOUT);
        assert_eq!(example.max_in_flight, upstream::DEFAULT_MAX_IN_FLIGHT);
    }

    /// One more when a key is added, in `config/agent.toml` and here.
    const KEYS_OF_THE_REFERENCE: usize = 50;
}
