//! One small question of the agent's own to a service, such as a token endpoint: no call, no caller, no pool.
//!
//! Goes where the configuration says, by the same name, TCP and TLS rules as calls. Follows no redirect,
//! asks once, and takes no more of an answer than its small limit.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};

use super::ConnectError;
use super::connect::{Origin, SharedTls};
use crate::agent::addresses::Addresses;
use crate::body::{self, BodyError};

/// The most of an answer: a token with all its claims has a few KiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Where a question goes.
#[derive(Debug)]
pub struct Exchange {
    origin: Origin,
    host: HeaderValue,
    path: PathAndQuery,
    connect_timeout: Duration,
    response_timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection.
    #[error("it cannot be reached")]
    Connect(#[source] ConnectError),
    /// No connection in time.
    #[error("no connection to it within connect_timeout ({})", humantime::format_duration(*.0))]
    ConnectTimeout(Duration),
    /// No whole answer in time.
    #[error("no answer from it within response_timeout ({})", humantime::format_duration(*.0))]
    ResponseTimeout(Duration),
    /// The connection broke.
    #[error("the connection to it broke")]
    Broken(#[source] hyper::Error),
    /// The answer broke off, or is too long.
    #[error("its answer broke off, or has more than {MAX_ANSWER_BYTES} bytes")]
    Answer(#[source] BodyError),
}

impl Exchange {
    /// With the service at `url`, which is trusted by the system's roots and those in the files.
    ///
    /// # Errors
    /// When address or certificates cannot be used.
    pub fn new(
        url: &Uri,
        own_ca: Option<&Path>,
        network_ca: Option<&Path>,
        connect_timeout: Duration,
        response_timeout: Duration,
    ) -> Result<Self, ConnectError> {
        // No `addresses` of the upstream: whoever gives tokens may be elsewhere.
        let anywhere = Addresses::default();
        let origin = Origin::new(url, own_ca, anywhere, &mut SharedTls::new(network_ca))?;
        let path = url.path_and_query().cloned();
        Ok(Self {
            host: origin.host_header()?,
            origin,
            path: path.unwrap_or_else(|| PathAndQuery::from_static("/")),
            connect_timeout,
            response_timeout,
        })
    }

    /// Posts, and reads the whole answer.
    ///
    /// # Errors
    /// [`ExchangeError`]; the service may have been asked all the same.
    pub async fn post(
        &self,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ExchangeError> {
        let connecting = tokio::time::timeout(self.connect_timeout, self.origin.connect());
        let connected = connecting.await;
        let mut connection = connected
            .map_err(|_| ExchangeError::ConnectTimeout(self.connect_timeout))?
            .map_err(ExchangeError::Connect)?;
        let mut request = Request::new(body::full(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from(self.path.clone());
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, self.host.clone());
        let answering = async {
            let answer = connection.send_request(request).await;
            let (head, body) = answer.map_err(ExchangeError::Broken)?.into_parts();
            let collected = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = collected.map_err(ExchangeError::Answer)?.to_bytes();
            Ok((head.status, body))
        };
        let timed_out = |_| ExchangeError::ResponseTimeout(self.response_timeout);
        let answered = tokio::time::timeout(self.response_timeout, answering).await;
        answered.map_err(timed_out)?
    }
}
