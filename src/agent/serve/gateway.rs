//! What calls are served from: policy, credentials and upstreams of one reading of the configuration.

use std::path::Path;

use crate::agent::config::UpstreamConfig;
use crate::agent::credentials::{CredentialError, Credentials};
use crate::agent::policy::{self, Asked, Explanation, Policy, Rule, RuleError};
use crate::agent::upstream::{ConnectError, Upstreams};
use crate::name::Name;

/// Policy, credentials and upstreams that belong together.
#[derive(Debug, Default)]
pub struct Gateway {
    pub(super) policy: Policy,
    pub(super) credentials: Credentials,
    pub(super) upstreams: Upstreams,
}

/// Why calls cannot be served as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A rule cannot be understood.
    #[error("rule {} of upstream {upstream} cannot be used", .index + 1)]
    Rule {
        /// The upstream.
        upstream: Name,
        /// Which of its rules, counted from zero.
        index: usize,
        /// What is wrong with it.
        source: RuleError,
    },
    /// A header has no value.
    #[error("a credential is not to be had")]
    Credential(#[source] CredentialError),
    /// An address or certificate cannot be used.
    #[error("an upstream cannot be set up")]
    Upstream(#[source] ConnectError),
}

impl Gateway {
    /// Reads rules, opens credentials and sets upstreams up; connects to none. Authorities in the
    /// file `network_ca` are trusted beside the system's.
    ///
    /// # Errors
    /// The first thing that cannot be used.
    pub fn open(
        configs: &[UpstreamConfig],
        network_ca: Option<&Path>,
    ) -> Result<Self, GatewayError> {
        let policies = configs
            .iter()
            .map(|config| Ok((config.name.clone(), rules(config)?)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            policy: Policy::new(policies),
            credentials: Credentials::open(configs).map_err(GatewayError::Credential)?,
            upstreams: Upstreams::new(configs, network_ca).map_err(GatewayError::Upstream)?,
        })
    }

    /// Whether a call would be permitted, and why; for the private side's administrator alone.
    #[must_use]
    pub fn explain(&self, asked: &Asked<'_>) -> Explanation {
        policy::explain(&self.policy, asked)
    }

    /// The upstreams, with their calls under way.
    #[must_use]
    pub const fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }
}

fn rules(config: &UpstreamConfig) -> Result<Vec<Rule>, GatewayError> {
    let rule = |(index, raw): (usize, &crate::agent::config::RawRule)| {
        Rule::parse(&raw.methods, &raw.path).map_err(|source| GatewayError::Rule {
            upstream: config.name.clone(),
            index,
            source,
        })
    };
    config.allow.iter().enumerate().map(rule).collect()
}
