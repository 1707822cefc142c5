//! The agent's configuration: read from files and the environment, checked whole, with all mistakes at once.
//!
//! Composed of the parts' own configurations. Never contacts anything and never opens a credential:
//! a configuration can be checked on a machine that cannot reach the upstreams.

mod upstream;

pub use upstream::{CredentialSource, RawRule, UpstreamConfig};
