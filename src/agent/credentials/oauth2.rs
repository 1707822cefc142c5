//! Access tokens by OAuth 2.0 client credentials (RFC 6749, section 4.4).
//!
//! The client's secret goes to the configured token endpoint and nowhere else; neither it nor a token is
//! part of an error. A refresh token is neither asked for nor used (section 4.4.3).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::CredentialError;
use super::kept::Opening;
use super::mask::{spellings, without};
use super::query::escape;
use super::renewed::{Fetch, Fetched, Fetching, Life};
use super::source::{Reading, Source};
use crate::agent::config::{ClientStyle, OAuth2Config, UpstreamConfig};
use crate::agent::upstream::{ConnectError, Exchange, ExchangeError};
use crate::secret::Secret;

/// How long a token is used whose endpoint does not say how long it lives: most live an hour.
const UNKNOWN_LIFE: Duration = Duration::from_secs(5 * 60);
/// Tokens that are said to live longer are renewed after this time all the same.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A token is renewed so long before its end, or a quarter of its life, whichever is shorter: enough for an
/// endpoint that is slow, or down for a moment.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// A token is not used for so long before its end, or a tenth of its life: a call takes time to arrive, and
/// clocks differ a little.
const MARGIN: Duration = Duration::from_secs(10);
/// The most that is shown of what an endpoint says about an error.
const MAX_SHOWN: usize = 200;

/// The only type of token that is known here.
const BEARER: &str = "bearer";

/// Where tokens come from.
#[derive(Debug)]
pub(super) struct TokenEndpoint {
    exchange: Exchange,
    config: OAuth2Config,
    client_secret: Source,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The endpoint's address or certificates cannot be used.
    #[error("its token_url cannot be used")]
    Setup(#[source] ConnectError),
    /// No answer.
    #[error("there is no answer")]
    Exchange(#[source] ExchangeError),
    /// It refuses, and says why.
    #[error("it answered {status}: {error}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// `error` and `error_description` of its answer (RFC 6749, section 5.2).
        error: String,
    },
    /// It answers, but not as token endpoints do.
    #[error("it answered {0}, without an access token as RFC 6749 describes it")]
    NotAToken(StatusCode),
    /// The token is of a kind that is not known here.
    #[error("it gives tokens of the type {0:?}, not Bearer")]
    OtherType(String),
}

/// An answer with a token (section 5.1).
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    /// Must be there, and is left out by some who give Bearer tokens.
    token_type: Option<String>,
    /// Seconds; some endpoints write them as a text.
    expires_in: Option<Value>,
}

/// An answer without one (section 5.2).
#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
    error_description: Option<String>,
}

impl TokenEndpoint {
    /// The endpoint of one upstream, reached as the upstream is: with its authorities and time-outs.
    pub(super) fn open(
        config: &OAuth2Config,
        upstream: &UpstreamConfig,
        network_ca: Option<&Path>,
        opening: &mut Opening<'_>,
    ) -> Result<Arc<Self>, CredentialError> {
        let exchange = Exchange::new(
            &config.token_url,
            upstream.ca_file.as_deref(),
            network_ca,
            upstream.connect_timeout,
            upstream.response_timeout,
        );
        let unusable = |error| failed(config, TokenError::Setup(error));
        Ok(Arc::new(Self {
            exchange: exchange.map_err(unusable)?,
            client_secret: Source::open(&config.client_secret, opening)?,
            config: config.clone(),
        }))
    }

    async fn ask(&self) -> Result<Fetched, CredentialError> {
        let client_secret = self.client_secret.reading().await?;
        let (headers, body) = self.question(client_secret.expose())?;
        let answered = self.exchange.post(headers, body).await;
        let (status, answer) =
            answered.map_err(|error| failed(&self.config, TokenError::Exchange(error)))?;
        // The answer holds the token.
        let answer = Secret::new(Vec::from(answer));
        if status != StatusCode::OK {
            let error = refusal(status, answer.expose(), client_secret.expose());
            return Err(failed(&self.config, error));
        }
        // Some refuse with 200, so what is no token may yet say why.
        let Ok(token) = serde_json::from_slice::<TokenAnswer>(answer.expose()) else {
            let error = refusal(status, answer.expose(), client_secret.expose());
            return Err(failed(&self.config, error));
        };
        let access_token = Secret::new(token.access_token.into_bytes());
        let kind = token.token_type.as_deref().unwrap_or(BEARER);
        if !kind.eq_ignore_ascii_case(BEARER) {
            let kind = shown(kind);
            return Err(failed(&self.config, TokenError::OtherType(kind)));
        }
        let origin = format!("the answer of {}", self.config.token_url);
        Ok(Fetched {
            reading: Reading::new(&access_token, &origin)?,
            life: life(token.expires_in.as_ref()),
        })
    }

    /// Who asks, and for what.
    fn question(&self, client_secret: &[u8]) -> Result<(HeaderMap, Bytes), CredentialError> {
        let config = &self.config;
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut body = "grant_type=client_credentials".to_owned();
        let mut add = |name: &str, value: &[u8]| {
            let name = escape(name.as_bytes());
            body.push_str(&format!("&{name}={}", escape(value)));
        };
        let asked = [("scope", &config.scope), ("audience", &config.audience)];
        for (name, value) in asked {
            if let Some(value) = value {
                add(name, value.as_bytes());
            }
        }
        for (name, values) in &config.parameters {
            for value in values {
                add(name, value.as_bytes());
            }
        }
        let client_id = config.client_id.as_bytes();
        match config.style {
            ClientStyle::Body => {
                add("client_id", client_id);
                add("client_secret", client_secret);
            }
            // Both are escaped first (section 2.3.1), since a colon parts them.
            ClientStyle::Basic => {
                let pair = format!("{}:{}", escape(client_id), escape(client_secret));
                let pair = Secret::new(pair);
                let whole = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
                let mut value = HeaderValue::from_str(whole.expose())
                    .map_err(|_| CredentialError::Unusable("client_secret".to_owned()))?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
        }
        Ok((headers, Bytes::from(body)))
    }
}

impl Fetch for TokenEndpoint {
    fn fetch(self: Arc<Self>) -> Fetching {
        Box::pin(async move { self.ask().await })
    }
}

fn failed(config: &OAuth2Config, source: TokenError) -> CredentialError {
    CredentialError::Token {
        endpoint: config.token_url.clone(),
        source: Box::new(source),
    }
}

/// What an endpoint says about why it refuses, without the secret that it may repeat.
fn refusal(status: StatusCode, answer: &[u8], client_secret: &[u8]) -> TokenError {
    let Ok(said) = serde_json::from_slice::<ErrorAnswer>(answer) else {
        return TokenError::NotAToken(status);
    };
    let text = match said.error_description {
        Some(description) => format!("{} ({description})", said.error),
        None => said.error,
    };
    let masked = without(text.as_bytes(), &spellings([client_secret]));
    let text = masked.map_or(text, |masked| String::from_utf8_lossy(&masked).into_owned());
    let error = shown(&text);
    TokenError::Refused { status, error }
}

/// What others wrote, short and without control characters.
fn shown(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(MAX_SHOWN).collect()
}

/// How long a token is used of which the endpoint says that it expires after so many seconds.
fn life(expires_in: Option<&Value>) -> Life {
    let seconds = expires_in.and_then(|value| {
        // Some write the number as a text.
        let text = value.as_str().map(str::parse::<f64>);
        let number = text.map_or_else(|| value.as_f64(), Result::ok);
        number.map(|seconds| seconds.max(0.0) as u64)
    });
    let whole = seconds
        .map_or(UNKNOWN_LIFE, Duration::from_secs)
        .min(LONGEST_LIFE);
    Life {
        renew_after: whole - RENEW_BEFORE.min(whole / 4),
        good_for: whole - MARGIN.min(whole / 10),
        last_resort: whole,
    }
}

#[cfg(test)]
mod tests;
