//! The only place that opens the agent's secrets: what it adds to calls, and what must not come back.
//!
//! Takes a [`Permitted`], so a secret goes nowhere but to what a rule allows:
//!
//! ```compile_fail,E0308
//! # use relay_agent::agent::credentials::Credentials;
//! # use relay_agent::agent::policy::Asked;
//! # fn asked_is_not_permitted(credentials: &Credentials, asked: &Asked<'_>) {
//! let _ = credentials.equip(asked, http::HeaderMap::new());
//! # }
//! ```
//!
//! and an upstream takes nothing but the [`Outgoing`] that comes of it, whose secrets nobody else can put in:
//!
//! ```compile_fail,E0451
//! # use relay_agent::agent::credentials::Outgoing;
//! # use relay_agent::agent::policy::Permitted;
//! # fn made_elsewhere(permitted: &Permitted, target: http::uri::PathAndQuery) {
//! let _ = Outgoing { permitted, headers: http::HeaderMap::new(), target: Some(target) };
//! # }
//! ```
//!
//! No value is ever part of an error, a log line or an answer to the public side.

mod caller;
mod outgoing;
mod placement;
mod query;
mod shield;
mod source;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use http::HeaderMap;

pub use outgoing::Outgoing;
pub use shield::Shield;

use self::placement::{Form, Piece, Placement};
use super::config::{AuthConfig, CredentialsConfig, UpstreamConfig};
use super::policy::Permitted;

/// What the agent adds to calls, and what else may pass, for each upstream.
#[derive(Debug, Default)]
pub struct Credentials {
    upstreams: BTreeMap<Box<str>, OfUpstream>,
}

/// Why a call cannot be sent with its credentials. Says where a value was looked for, never what was found.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The program was not started by systemd with credentials.
    #[error("credential {0:?} is named, but systemd gave no CREDENTIALS_DIRECTORY")]
    NoCredentials(String),
    /// The environment variable is not set, or is not text.
    #[error("the environment variable {0:?} is not set")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("{path} cannot be read", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The value is empty, too long, or has characters that cannot be sent.
    #[error("the value in {0} cannot be sent: it is empty, too long or has control characters")]
    Unusable(String),
    /// The caller's query has a parameter that the agent adds: which of the two counts, services decide
    /// differently. The text goes to the caller.
    #[error("the query has the parameter {0:?}, which the private side sets itself")]
    OwnParameter(String),
    /// With the agent's parameters the query is longer than a request can have.
    #[error("path and query are too long for what is added to them")]
    TooLong,
}

#[derive(Debug)]
struct OfUpstream {
    placements: Vec<Placement>,
    pass_authorization: bool,
    pass_cookies: bool,
}

impl Credentials {
    /// Opens every secret that the configuration names, so that a missing one is told at start.
    ///
    /// # Errors
    /// The first value that is not to be had.
    pub fn open(upstreams: &[UpstreamConfig]) -> Result<Self, CredentialError> {
        let open = |upstream: &UpstreamConfig| {
            let opened = OfUpstream::open(&upstream.credentials)?;
            Ok((upstream.name.as_str().into(), opened))
        };
        let upstreams = upstreams.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { upstreams })
    }

    /// Makes of a permitted call what is sent to the upstream: without what of the caller's may not pass,
    /// with what the configuration adds. The answer must pass the [`Shield`].
    ///
    /// # Errors
    /// When a value can no longer be used, or the caller sets what the agent does. The call must not be
    /// sent without it.
    pub fn equip<'a>(
        &self,
        permitted: &'a Permitted,
        mut headers: HeaderMap,
    ) -> Result<(Outgoing<'a>, Shield), CredentialError> {
        let Some(of_upstream) = self.upstreams.get(permitted.upstream()) else {
            // Nothing is set up under this name, so nothing can be sent to it either.
            caller::strip(&mut headers, &[], false, false);
            return Ok((Outgoing::bare(permitted, headers), Shield::default()));
        };
        of_upstream.equip(permitted, headers)
    }
}

impl OfUpstream {
    fn open(config: &CredentialsConfig) -> Result<Self, CredentialError> {
        let auth = config.auth.iter().map(|auth| match auth {
            AuthConfig::Bearer(source) => (Form::Bearer, source),
            AuthConfig::Basic { username, password } => (Form::Basic(username.clone()), password),
        });
        let headers = config
            .set_headers
            .iter()
            .map(|(name, source)| (Form::Header(name.clone()), source));
        let query = config
            .set_query
            .iter()
            .map(|(name, source)| (Form::Parameter(name.clone()), source));
        let placements = auth
            .chain(headers)
            .chain(query)
            .map(|(form, source)| Placement::open(form, source))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            placements,
            pass_authorization: config.pass_authorization,
            pass_cookies: config.pass_cookies,
        })
    }

    fn equip<'a>(
        &self,
        permitted: &'a Permitted,
        mut headers: HeaderMap,
    ) -> Result<(Outgoing<'a>, Shield), CredentialError> {
        caller::strip(
            &mut headers,
            &self.placements,
            self.pass_authorization,
            self.pass_cookies,
        );
        let mut shield = Shield::new(self.pass_cookies);
        let mut parameters = Vec::new();
        for placement in &self.placements {
            let made = placement.made()?;
            match &made.piece {
                Piece::Header(name, value) => {
                    headers.insert(name, value.clone());
                }
                Piece::Parameter { name, .. } => {
                    query::refuse(permitted.path_and_query().query(), name)?;
                    parameters.push(made.clone());
                }
            }
            shield.add(made);
        }
        let target = query::with(permitted.path_and_query(), &parameters)?;
        Ok((Outgoing::new(permitted, headers, target), shield))
    }
}

#[cfg(test)]
mod tests;
