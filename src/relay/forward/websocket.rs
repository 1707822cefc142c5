//! A WebSocket through the relay: the caller's upgrade on one side, extended CONNECT (RFC 8441) on the lane.
//!
//! An HTTP/1.1 caller upgrades with a key, whose proof is made here; an HTTP/2 caller comes with
//! extended CONNECT itself. Frames are never looked at.

use std::pin::pin;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::debug;

use super::{ANSWER_TIMEOUT, Forward, Refusal, held};
use crate::body::progress::{NoAnswer, answer_within};
use crate::body::{self, Body};
use crate::forwarding;
use crate::link::http2::Opened;
use crate::relay::activity::Open;
use crate::relay::registry::{CallPermit, Live};
use crate::tunnel;

const WEBSOCKET: &str = "websocket";
/// A WebSocket in which nothing moves for so long is taken for forgotten: programs that mean to keep
/// one send pings every minute or so.
const IDLE: Duration = Duration::from_secs(3600);

/// Whether a request asks for a WebSocket.
///
/// # Errors
/// When it is a CONNECT to something else, or when a body stands before the WebSocket's own bytes.
pub(super) fn is_asked_for(request: &Request<Incoming>) -> Result<bool, Refusal> {
    if *request.method() == Method::CONNECT {
        let protocol = request.extensions().get::<Protocol>();
        return match protocol.map(Protocol::as_str) {
            Some(WEBSOCKET) => Ok(true),
            Some(_) | None => Err(Refusal::NotSupported),
        };
    }
    let is_asked_for = *request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && forwarding::asks_for_websocket(request.headers());
    match is_asked_for && !request.body().is_end_stream() {
        true => Err(Refusal::BadWebsocket(
            "It has a body, which would stand before the bytes of the WebSocket.",
        )),
        false => Ok(is_asked_for),
    }
}

/// Opens the WebSocket at the far end, and then the caller's.
pub(super) async fn open(
    forward: &Forward,
    live: &Live,
    mut parts: Parts,
    caller: OnUpgrade,
    (permit, open): (CallPermit, Open),
) -> Result<Response<Body>, Refusal> {
    let switch = match parts.method {
        Method::CONNECT => None,
        _ => Some(switching_protocols(&mut parts.headers)?),
    };
    // On the lane a tunnel has no length; with one, hyper would give up the lane with all its calls.
    parts.headers.remove(CONTENT_LENGTH);
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = parts.uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = parts.headers;
    let protocol = h2::ext::Protocol::from_static(WEBSOCKET);
    request.extensions_mut().insert(protocol);

    let opened = answer_within(ANSWER_TIMEOUT, None, pin!(live.client.open(request))).await;
    let opened = opened
        .map_err(|NoAnswer| Refusal::AnswerTimeout(ANSWER_TIMEOUT))?
        .map_err(Refusal::Lane)?;
    let (answer, lane) = match opened {
        Opened::Tunnel(answer, lane) => (answer, lane),
        Opened::Declined(answer) => {
            return Ok(forward.pass_back(answer).map(|body| held(body, permit)));
        }
    };
    // Ends with the caller, the lane, or after a long silence.
    tokio::spawn(async move {
        let Ok(caller) = caller.await else { return };
        let tunnelled = tunnel::copy_both(TokioIo::new(caller), lane, IDLE).await;
        debug!(?tunnelled, "a WebSocket ended");
        drop((permit, open));
    });
    let mut answer = forward.pass_back(answer).map(|()| body::empty());
    if let Some(switch) = switch {
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.version_mut() = Version::HTTP_11;
        answer.headers_mut().extend(switch);
    }
    Ok(answer)
}

/// The headers that tell an HTTP/1.1 caller that its wish is granted; its key goes no further.
fn switching_protocols(headers: &mut HeaderMap) -> Result<HeaderMap, Refusal> {
    let key = headers
        .remove(SEC_WEBSOCKET_KEY)
        .ok_or(Refusal::BadWebsocket("It has no Sec-WebSocket-Key."))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()))
        .map_err(|_| Refusal::BadWebsocket("Its Sec-WebSocket-Key is none."))?;
    let mut switch = HeaderMap::with_capacity(3);
    switch.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    switch.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
    switch.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(switch)
}
