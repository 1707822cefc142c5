//! Sends permitted calls to the private services: pooled connections, time-outs, a limit of calls at once.
//!
//! Takes an [`Outgoing`], made of a [`Permitted`], and sends exactly that, under the upstream's own authority.
//! Never follows a redirect, never repeats what may have been sent, never gathers a body.

mod answer;
mod connect;
mod exchange;
mod location;
mod pool;
mod websocket;

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use connect::ConnectError;
pub use exchange::{Exchange, ExchangeError};
pub use location::Located;
pub use websocket::Websocket;

use self::connect::{Origin, SharedTls};
use self::location::Base;
use self::pool::Pool;
use super::config::UpstreamConfig;
use super::credentials::Outgoing;
use super::policy::Permitted;
use crate::body::progress::{NoAnswer, answer_within, watched};
use crate::body::{Body, BodyError};

/// The services that calls can be sent to, by name.
#[derive(Debug, Default)]
pub struct Upstreams {
    by_name: BTreeMap<Box<str>, Arc<Upstream>>,
}

/// Why a call has no answer. The type tells whether it may have reached the upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Not sent: the policy knows an upstream that was not set up, which is a defect.
    #[error("no upstream of this name is set up")]
    Unknown,
    /// Not sent: as many calls are under way as the upstream may have.
    #[error("the upstream has {0} calls under way, which is its limit")]
    Busy(usize),
    /// Not sent: no connection to the upstream.
    #[error("the upstream cannot be reached")]
    NotConnected(#[source] ConnectError),
    /// Not sent: no connection to the upstream within its `connect_timeout`.
    #[error("no connection to the upstream within connect_timeout ({})", humantime::format_duration(*.0))]
    ConnectTimeout(Duration),
    /// Outcome unknown: no answer within its `response_timeout`.
    #[error("no answer from the upstream within response_timeout ({})", humantime::format_duration(*.0))]
    ResponseTimeout(Duration),
    /// Not sent: the connection was closed before the request was begun.
    #[error("the upstream closed the connection")]
    NotSent(#[source] hyper::Error),
    /// Outcome unknown: the connection broke after sending had begun.
    #[error("the connection to the upstream broke before it answered")]
    Broken(#[source] hyper::Error),
    /// Outcome unknown: what follows its head is no answer to the call.
    #[error("the upstream answered 101, as if it had been asked for another protocol")]
    UnaskedSwitch,
    /// The upstream does not speak WebSocket there, though it did not refuse either.
    #[error("the upstream did not switch to a WebSocket as RFC 6455 asks")]
    NotAWebsocket,
}

#[derive(Debug)]
struct Upstream {
    origin: Origin,
    host: HeaderValue,
    prefix: Box<str>,
    base: Base,
    connect_timeout: Duration,
    response_timeout: Duration,
    max_in_flight: usize,
    places: Arc<Semaphore>,
    pool: Arc<Pool>,
}

impl Upstreams {
    /// Sets up the configured upstreams, which are trusted by the system's roots, those in
    /// `network_ca`, and their own. Connects to none yet.
    ///
    /// # Errors
    /// [`ConnectError`] when an upstream's address or certificates cannot be used.
    pub fn new(
        configs: &[UpstreamConfig],
        network_ca: Option<&Path>,
    ) -> Result<Self, ConnectError> {
        let mut tls = SharedTls::new(network_ca);
        let build = |config: &UpstreamConfig| {
            let upstream = Upstream::new(config, &mut tls)?;
            Ok((config.name.as_str().into(), Arc::new(upstream)))
        };
        let by_name = configs.iter().map(build).collect::<Result<_, _>>()?;
        Ok(Self { by_name })
    }

    /// Sends a permitted call and waits for the head of its answer; both bodies stream.
    ///
    /// Its headers are end-to-end headers; `Host` is set here.
    ///
    /// # Errors
    /// [`UpstreamError`]. Dropping the future or the answer's body drops the upstream's request.
    pub async fn send<B>(
        &self,
        outgoing: Outgoing<'_>,
        extensions: http::Extensions,
        body: B,
    ) -> Result<Response<Body>, UpstreamError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BodyError>,
    {
        let upstream = self.find(outgoing.permitted())?;
        let place = upstream.begin()?;
        let limit = upstream.response_timeout(outgoing.permitted());
        let (body, progress) = watched(body);
        let mut request = upstream.request(outgoing, body);
        *request.extensions_mut() = extensions;
        loop {
            let pooled = upstream.pool.take();
            let was_pooled = pooled.is_some();
            let mut connection = match pooled {
                Some(connection) => connection,
                // Apart, so that the rare and large one does not make every call's future larger.
                None => Box::pin(upstream.connect()).await?,
            };
            let answer = pin!(connection.try_send_request(request));
            match answer_within(limit, progress.as_deref(), answer).await {
                // No version of HTTP but this one can pass it on.
                Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(UpstreamError::UnaskedSwitch);
                }
                Ok(Ok(response)) => {
                    let pool = Arc::clone(&upstream.pool);
                    return Ok(answer::pass_on(response, connection, pool, place));
                }
                Ok(Err(mut error)) => match error.take_message() {
                    // The upstream had closed a kept connection, and nothing was written to it.
                    Some(unsent) if was_pooled => request = unsent,
                    Some(_) => return Err(UpstreamError::NotSent(error.into_error())),
                    None => return Err(UpstreamError::Broken(error.into_error())),
                },
                Err(NoAnswer) => return Err(UpstreamError::ResponseTimeout(limit)),
            }
        }
    }

    /// Each upstream with its calls under way and how many it may have.
    pub fn in_flight(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.by_name.iter().map(|(name, upstream)| {
            let free = upstream.places.available_permits();
            let limit = upstream.max_in_flight;
            (&**name, limit.saturating_sub(free), limit)
        })
    }

    fn find(&self, permitted: &Permitted) -> Result<&Arc<Upstream>, UpstreamError> {
        self.by_name
            .get(permitted.upstream())
            .ok_or(UpstreamError::Unknown)
    }
}

impl Upstream {
    fn new(config: &UpstreamConfig, tls: &mut SharedTls<'_>) -> Result<Self, ConnectError> {
        let addresses = config.addresses.clone();
        let origin = Origin::new(&config.url, config.ca_file.as_deref(), addresses, tls)?;
        let prefix = config.url.path().trim_end_matches('/').into();
        Ok(Self {
            host: origin.host_header()?,
            origin,
            prefix,
            base: Base::of(&config.url),
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            max_in_flight: config.max_in_flight,
            places: Arc::new(Semaphore::new(config.max_in_flight)),
            pool: Arc::new(Pool::new(config.max_in_flight)),
        })
    }

    /// How long an answer is waited for: as the rule says, or the upstream.
    fn response_timeout(&self, permitted: &Permitted) -> Duration {
        let of_rule = permitted.limits().response_timeout;
        of_rule.unwrap_or(self.response_timeout)
    }

    /// Takes one of the places for calls under way. It is given back when the answer has been passed on.
    fn begin(&self) -> Result<OwnedSemaphorePermit, UpstreamError> {
        let places = Arc::clone(&self.places);
        let busy = |_| UpstreamError::Busy(self.max_in_flight);
        places.try_acquire_owned().map_err(busy)
    }

    async fn connect(&self) -> Result<pool::Connection, UpstreamError> {
        self.within_connect_timeout(self.origin.connect()).await
    }

    async fn within_connect_timeout<T>(
        &self,
        connecting: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, UpstreamError> {
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(UpstreamError::NotConnected),
            Err(_elapsed) => Err(UpstreamError::ConnectTimeout(self.connect_timeout)),
        }
    }

    /// What is permitted, as a request to this upstream.
    fn request<B>(&self, outgoing: Outgoing<'_>, body: B) -> Request<B> {
        let (method, path_and_query, headers) = outgoing.into_head();
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri(&path_and_query);
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, self.host.clone());
        request
    }

    /// Path and query as permitted, after the prefix that the configuration gives the upstream.
    fn uri(&self, permitted: &PathAndQuery) -> Uri {
        if self.prefix.is_empty() {
            return Uri::from(permitted.clone());
        }
        let prefixed = format!("{}{permitted}", self.prefix);
        // Both halves were parsed before, and neither has a fragment.
        PathAndQuery::from_maybe_shared(Bytes::from(prefixed))
            .map_or_else(|_| Uri::from(permitted.clone()), Uri::from)
    }
}

#[cfg(test)]
mod tests;
