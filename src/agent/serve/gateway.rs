//! What calls are served from: policy, credentials and upstreams of one reading of the configuration.

use std::path::Path;

use super::observing::{Counts, Observations};
use super::quota::Quotas;
use crate::agent::config::{UpstreamConfig, policy_of};
use crate::agent::credentials::{CredentialError, Credentials};
use crate::agent::policy::{self, Asked, Explanation, Policy};
use crate::agent::upstream::{ConnectError, Upstreams};

/// Policy, credentials and upstreams that belong together, how much of their limits is used, and what rules that are
/// tried have said.
#[derive(Debug, Default)]
pub struct Gateway {
    pub(super) policy: Policy,
    pub(super) credentials: Credentials,
    pub(super) upstreams: Upstreams,
    pub(super) quotas: Quotas,
    pub(super) observations: Observations,
}

/// Why calls cannot be served as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A header has no value.
    #[error("a credential is not to be had")]
    Credential(#[source] CredentialError),
    /// An address or certificate cannot be used.
    #[error("an upstream cannot be set up")]
    Upstream(#[source] ConnectError),
}

impl Gateway {
    /// Takes the rules, opens credentials and sets upstreams up; connects to none. Authorities in the
    /// file `network_ca` are trusted beside the system's. What the `former` gateway fetched and can still be used is
    /// not fetched again.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn open(
        configs: &[UpstreamConfig],
        network_ca: Option<&Path>,
        former: &Self,
    ) -> Result<Self, GatewayError> {
        Ok(Self {
            policy: policy_of(configs),
            credentials: Credentials::open(configs, network_ca, &former.credentials)
                .map_err(GatewayError::Credential)?,
            upstreams: Upstreams::new(configs, network_ca).map_err(GatewayError::Upstream)?,
            quotas: Quotas::of(configs),
            observations: Observations::of(configs),
        })
    }

    /// Whether a call would be permitted, and why; for the private side's administrator alone.
    #[must_use]
    pub fn explain(&self, asked: &Asked<'_>) -> Explanation {
        policy::explain(&self.policy, asked)
    }

    /// What rules that are tried have said of an upstream's calls; nothing where none are.
    #[must_use]
    pub fn observed(&self, upstream: &str) -> Option<Counts> {
        self.observations.counts(upstream)
    }

    /// The credentials, to be looked after.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The upstreams, with their calls under way.
    #[must_use]
    pub const fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }
}
