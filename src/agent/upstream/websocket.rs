//! A WebSocket to an upstream: a connection of its own, HTTP/1.1 `Upgrade`, then bytes both ways.
//!
//! The lane carries WebSockets as extended CONNECT (RFC 8441), which has no key; key and proof of the
//! upstream's handshake (RFC 6455) are made and checked here. Frames are never looked at.

use std::pin::pin;
use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRAILER, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::upgrade::Upgraded;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{UpstreamError, Upstreams, answer};
use crate::agent::credentials::Outgoing;
use crate::body::progress::{NoAnswer, answer_within};
use crate::body::{self, Body};

/// The only version of the protocol (RFC 6455, section 4.1).
const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");
/// What a caller may say of a body, which a handshake has not: a service that believed it would take what comes next on
/// the connection for that body.
const OF_A_BODY: [HeaderName; 3] = [CONTENT_LENGTH, EXPECT, TRAILER];
/// What the upstream says in its handshake that is for this hop alone, or about a body, which it has not.
const NOT_PASSED_ON: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, UPGRADE, SEC_WEBSOCKET_ACCEPT];

/// What an upstream answered to the wish for a WebSocket.
#[derive(Debug)]
pub enum Websocket {
    /// It switched: its headers, and the bytes from now on.
    Switched {
        /// End-to-end headers of its answer.
        headers: HeaderMap,
        /// Reads what it sends, writes what it receives.
        stream: Upgraded,
        /// Its place among the calls under way, to be held as long as the tunnel lives.
        place: OwnedSemaphorePermit,
    },
    /// It answered in plain HTTP, to be passed on.
    Declined(Response<Body>),
}

impl Upstreams {
    /// Asks an upstream for a WebSocket.
    ///
    /// # Errors
    /// [`UpstreamError`], as for other calls.
    pub async fn open_websocket(
        &self,
        mut outgoing: Outgoing<'_>,
    ) -> Result<Websocket, UpstreamError> {
        let upstream = self.find(outgoing.permitted())?;
        let place = upstream.begin()?;
        let limit = upstream.response_timeout(outgoing.permitted());
        let key = generate_key();
        let accept = derive_accept_key(key.as_bytes());
        let headers = outgoing.headers_mut();
        for name in OF_A_BODY {
            headers.remove(name);
        }
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION);
        let key = HeaderValue::try_from(key).map_err(|_| UpstreamError::NotAWebsocket)?;
        headers.insert(SEC_WEBSOCKET_KEY, key);
        let request = upstream.request(outgoing, body::empty());

        let mut connection = upstream.connect().await?;
        let answer = answer_within(limit, None, pin!(connection.send_request(request))).await;
        let mut response = answer
            .map_err(|NoAnswer| UpstreamError::ResponseTimeout(limit))?
            .map_err(UpstreamError::Broken)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // A success without a switch would look to the lane like an open tunnel.
            if response.status().is_success() {
                return Err(UpstreamError::NotAWebsocket);
            }
            let pool = Arc::clone(&upstream.pool);
            let response = answer::pass_on(response, connection, pool, place);
            return Ok(Websocket::Declined(response));
        }
        let proof = response.headers().get(SEC_WEBSOCKET_ACCEPT);
        if proof.is_none_or(|proof| proof.as_bytes() != accept.as_bytes()) {
            return Err(UpstreamError::NotAWebsocket);
        }
        let stream = hyper::upgrade::on(&mut response)
            .await
            .map_err(UpstreamError::Broken)?;
        let mut headers = std::mem::take(response.headers_mut());
        for name in NOT_PASSED_ON {
            headers.remove(name);
        }
        Ok(Websocket::Switched {
            headers,
            stream,
            place,
        })
    }
}
