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
mod command;
mod health;
mod kept;
mod mask;
mod oauth2;
mod outgoing;
mod placement;
mod query;
mod renewed;
mod shield;
mod source;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Uri};

pub use command::CommandError;
pub use health::{NotRenewed, Renewals, Troubles};
pub use oauth2::TokenError;
pub use outgoing::Outgoing;
pub use shield::Shield;

use self::kept::{Kept, Opening, Recipe};
use self::oauth2::TokenEndpoint;
use self::placement::{Form, Made, Piece, Placement, Progress};
use self::renewed::Flight;
use self::source::Source;
use super::config::{AuthConfig, UpstreamConfig};
use super::policy::Permitted;

/// What the agent adds to calls, and what else may pass, for each upstream.
#[derive(Debug, Default)]
pub struct Credentials {
    upstreams: BTreeMap<Box<str>, OfUpstream>,
    kept: Kept,
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
    /// A command gave none.
    #[error("{program} gave no credential", program = .program.display())]
    Command {
        /// The program; its arguments are not shown.
        program: PathBuf,
        /// Why.
        source: CommandError,
    },
    /// A token endpoint gave none.
    #[error("the token endpoint {endpoint} gave no token")]
    Token {
        /// Its address.
        endpoint: Uri,
        /// Why.
        source: Box<TokenError>,
    },
    /// As the last fetch ended, which others waited for as well.
    #[error(transparent)]
    Fetch(Arc<Self>),
    /// The fetch goes on, and the call does not wait for it.
    #[error("no credential within connect_timeout ({})", humantime::format_duration(*.0))]
    Slow(Duration),
}

#[derive(Debug)]
struct OfUpstream {
    placements: Vec<Placement>,
    pass_authorization: bool,
    pass_cookies: bool,
    /// How long a call waits for what is being fetched.
    patience: Duration,
}

/// How far the secrets of one upstream are.
enum Gathered {
    All(Vec<Arc<Made>>),
    Missing(Flight),
}

impl Credentials {
    /// Opens every secret that the configuration names, so that a missing file is told at start. What
    /// commands and token endpoints give is fetched when it is needed, and taken from the `former` credentials
    /// where it is configured as it was there; the endpoints are trusted as their upstreams are.
    ///
    /// # Errors
    /// The first value that is not to be had.
    pub fn open(
        upstreams: &[UpstreamConfig],
        network_ca: Option<&Path>,
        former: &Self,
    ) -> Result<Self, CredentialError> {
        let mut kept = Kept::default();
        let open = |upstream: &UpstreamConfig| {
            let mut opening = Opening {
                upstream: upstream.name.as_str(),
                former: &former.kept,
                kept: &mut kept,
            };
            let opened = OfUpstream::open(upstream, network_ca, &mut opening)?;
            Ok((upstream.name.as_str().into(), opened))
        };
        let upstreams = upstreams.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { upstreams, kept })
    }

    /// The files that hold secrets of this upstream, there or not. None of them is opened.
    pub fn files(upstream: &UpstreamConfig) -> impl Iterator<Item = PathBuf> {
        let config = &upstream.credentials;
        let of_auth = config.auth.as_ref().map(|auth| match auth {
            AuthConfig::Bearer(source) => source,
            AuthConfig::Basic { password, .. } => password,
            AuthConfig::OAuth2(oauth2) => &oauth2.client_secret,
        });
        let of_headers = config.set_headers.iter().map(|(_, source)| source);
        let of_query = config.set_query.iter().map(|(_, source)| source);
        let all = of_auth.into_iter().chain(of_headers).chain(of_query);
        all.filter_map(source::file_of)
    }

    /// Makes of a permitted call what is sent to the upstream: without what of the caller's may not pass,
    /// with what the configuration adds. The answer must pass the [`Shield`]. Waits for what has to be
    /// fetched first, no longer than for a connection.
    ///
    /// # Errors
    /// When a value can no longer be used, or the caller sets what the agent does. The call must not be
    /// sent without it.
    pub async fn equip<'a>(
        &self,
        permitted: &'a Permitted,
        mut headers: HeaderMap,
    ) -> Result<(Outgoing<'a>, Shield), CredentialError> {
        let Some(of_upstream) = self.upstreams.get(permitted.upstream()) else {
            // Nothing is set up under this name, so nothing can be sent to it either.
            caller::strip(&mut headers, &[], false, false);
            return Ok((Outgoing::bare(permitted, headers), Shield::default()));
        };
        of_upstream.refuse(permitted)?;
        let made = match of_upstream.gather()? {
            Gathered::All(made) => made,
            // Apart, so that the rare and large one does not make every call's future larger.
            Gathered::Missing(flight) => Box::pin(of_upstream.wait(flight)).await?,
        };
        of_upstream.equip(permitted, headers, made)
    }

    /// Whether an upstream's credentials are to be had now, as a call would get them: what is not there is
    /// fetched. Nothing when it has none.
    ///
    /// # Errors
    /// What a call would meet.
    pub async fn check(&self, upstream: &str) -> Option<Result<(), CredentialError>> {
        let of_upstream = self.upstreams.get(upstream)?;
        if of_upstream.placements.is_empty() {
            return None;
        }
        Some(match of_upstream.gather() {
            Ok(Gathered::All(_)) => Ok(()),
            Ok(Gathered::Missing(flight)) => of_upstream.wait(flight).await.map(drop),
            Err(error) => Err(error),
        })
    }
}

impl OfUpstream {
    fn open(
        upstream: &UpstreamConfig,
        network_ca: Option<&Path>,
        opening: &mut Opening<'_>,
    ) -> Result<Self, CredentialError> {
        let config = &upstream.credentials;
        let mut placements = Vec::new();
        match &config.auth {
            None => {}
            Some(AuthConfig::Bearer(source)) => {
                placements.push(Placement::open(
                    Form::Bearer,
                    Source::open(source, opening)?,
                )?);
            }
            Some(AuthConfig::Basic { username, password }) => {
                let form = Form::Basic(username.clone());
                placements.push(Placement::open(form, Source::open(password, opening)?)?);
            }
            Some(AuthConfig::OAuth2(config)) => {
                let endpoint = TokenEndpoint::open(config, upstream, network_ca, opening)?;
                let what = format!("the token of {}", config.token_url);
                let recipe = Recipe::Token(config.clone());
                let source = Source::Renewed(opening.renewed(what, recipe, endpoint));
                placements.push(Placement::open(Form::Bearer, source)?);
            }
        }
        for (name, source) in &config.set_headers {
            let form = Form::Header(name.clone());
            placements.push(Placement::open(form, Source::open(source, opening)?)?);
        }
        for (name, source) in &config.set_query {
            let form = Form::Parameter(name.clone());
            placements.push(Placement::open(form, Source::open(source, opening)?)?);
        }
        Ok(Self {
            placements,
            pass_authorization: config.pass_authorization,
            pass_cookies: config.pass_cookies,
            patience: upstream.connect_timeout,
        })
    }

    /// Refuses a call that sets what is set here.
    fn refuse(&self, permitted: &Permitted) -> Result<(), CredentialError> {
        let query = permitted.path_and_query().query();
        let mut parameters = self.placements.iter().filter_map(Placement::parameter);
        parameters.try_for_each(|name| query::refuse(query, name))
    }

    fn gather(&self) -> Result<Gathered, CredentialError> {
        let mut all = Vec::with_capacity(self.placements.len());
        for placement in &self.placements {
            match placement.now()? {
                Progress::Made(made) => all.push(made),
                Progress::Fetching(flight) => return Ok(Gathered::Missing(flight)),
            }
        }
        Ok(Gathered::All(all))
    }

    async fn wait(&self, mut flight: Flight) -> Result<Vec<Arc<Made>>, CredentialError> {
        let waiting = async {
            loop {
                flight.landed().await;
                match self.gather()? {
                    Gathered::All(made) => return Ok(made),
                    Gathered::Missing(next) => flight = next,
                }
            }
        };
        let waited = tokio::time::timeout(self.patience, waiting).await;
        waited.map_err(|_| CredentialError::Slow(self.patience))?
    }

    fn equip<'a>(
        &self,
        permitted: &'a Permitted,
        mut headers: HeaderMap,
        made: Vec<Arc<Made>>,
    ) -> Result<(Outgoing<'a>, Shield), CredentialError> {
        caller::strip(
            &mut headers,
            &self.placements,
            self.pass_authorization,
            self.pass_cookies,
        );
        for made in &made {
            if let Piece::Header(name, value) = &made.piece {
                headers.insert(name, value.clone());
            }
        }
        let target = query::with(permitted.path_and_query(), &made)?;
        let shield = Shield::new(made, self.pass_cookies);
        Ok((Outgoing::new(permitted, headers, target), shield))
    }
}

#[cfg(test)]
mod tests;
