//! A single request to the relay, on the way that the link takes: to redeem an invitation.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;

use super::dial::{DialError, Dialer};
use super::tls::Stream;
use crate::invitation::{RelayUrl, TlsPin};
use crate::protocol::SOFTWARE;

/// The longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// How long a request may take after the connection stands.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// Why a single request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The relay was not reached; nothing was sent.
    #[error("the relay at {relay} is not reached")]
    Unreachable {
        /// Its host and port.
        relay: String,
        /// At which hop.
        #[source]
        source: DialError,
    },
    /// The connection broke, or what came is not HTTP. It may have been processed.
    #[error("{relay} was reached but its answer was lost")]
    Broken {
        /// Its host and port.
        relay: String,
        /// Why.
        #[source]
        source: crate::body::BodyError,
    },
    /// No answer in time. It may have been processed.
    #[error("{relay} did not answer within {} s", REQUEST_DEADLINE.as_secs())]
    TimedOut {
        /// Its host and port.
        relay: String,
    },
}

/// Posts JSON to the relay on the way that the link takes; returns status, head and body of the answer.
///
/// # Errors
/// [`RequestError`].
pub async fn post_json(
    dialer: &Dialer,
    relay_url: &RelayUrl,
    pin: Option<TlsPin>,
    path: &str,
    body: &[u8],
) -> Result<(StatusCode, HeaderMap, Bytes), RequestError> {
    let relay = relay_url.authority();
    let stream =
        dialer
            .connect(relay_url, pin)
            .await
            .map_err(|source| RequestError::Unreachable {
                relay: relay.clone(),
                source,
            })?;
    let exchange = exchange(stream, relay_url, path, body);
    match tokio::time::timeout(REQUEST_DEADLINE, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(RequestError::Broken { relay, source }),
        Err(_) => Err(RequestError::TimedOut { relay }),
    }
}

async fn exchange(
    stream: Stream,
    relay_url: &RelayUrl,
    path: &str,
    body: &[u8],
) -> Result<(StatusCode, HeaderMap, Bytes), crate::body::BodyError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(relay_url.path(path))
        .header(header::HOST, relay_url.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, SOFTWARE)
        .body(Full::new(Bytes::copy_from_slice(body)))?;
    let response = sender.send_request(request).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
    Ok((head.status, head.headers, body))
}
