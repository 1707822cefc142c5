//! One `[[upstream]]`: a service in the private network, what may be asked of it, and with which credentials.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};

use crate::name::Name;

/// Until a connection to an upstream is up, TLS included. A service in the same network answers in
/// milliseconds; ten seconds still outlast one lost packet and its retries.
pub(super) const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the first byte of the answer: issue trackers take tens of seconds for a large search.
pub(super) const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Calls to one upstream at once: enough for any tracker, and few enough not to overwhelm it.
pub(super) const DEFAULT_MAX_IN_FLIGHT: usize = 64;
/// The most that may be configured: beyond it the process would run out of file descriptors first.
pub(super) const MAX_IN_FLIGHT_CEILING: usize = 4096;

/// A service in the private network that the agent may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// What callers write in their path: `/c/{connection}/{name}/…`.
    pub name: Name,
    /// `http` or `https`, a host, perhaps a port and a path prefix; checked to hold no user
    /// information and no query.
    pub url: Uri,
    /// Certificates to trust for this upstream beside the system's and the network's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// Headers that the agent sets on every call, replacing the caller's of the same name.
    pub set_headers: Vec<(HeaderName, CredentialSource)>,
    /// Until a connection to the upstream is up, TLS included.
    pub connect_timeout: Duration,
    /// From the end of the request's head until the first byte of the answer.
    pub response_timeout: Duration,
    /// Calls at once; more are refused with 429.
    pub max_in_flight: usize,
    /// What may be asked. Empty: nothing.
    pub allow: Vec<RawRule>,
}

/// One `[[upstream.allow]]` as written; [`crate::agent::policy`] gives it its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRule {
    /// Methods, as written.
    pub methods: Vec<String>,
    /// A path template: `{name}` is one segment, `{*rest}` the rest.
    pub path: String,
}

/// Where the value of a header comes from. The value is not part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file of this name in systemd's `CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A file, by absolute path.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}
