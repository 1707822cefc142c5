//! Calls through the whole product: a caller, the relay, a link, the agent, an upstream.

mod upstream;
mod world;

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use relay_agent::body;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Role;

use upstream::Upstream;
use world::{World, within};

use crate::harness::CONNECTION;
use crate::harness::answers::in_pieces;

#[tokio::test]
async fn path_and_query_reach_the_upstream_byte_for_byte_and_headers_by_the_rules() {
    let (upstream, world) = world().await;
    let mut request = world.get("/open/a%20b/%C3%BC?q=%2F..%2F&&x");
    let headers = request.headers_mut();
    headers.insert("connection", "x-hop".parse().unwrap());
    headers.insert("x-hop", "1".parse().unwrap());
    headers.insert("x-forwarded-for", "127.0.0.1".parse().unwrap());
    headers.insert("relay-caller", "somebody else".parse().unwrap());
    headers.insert("x-kept", "1".parse().unwrap());
    let answer = world.call(request).await;
    let via = answer.headers().get_all("via").iter().count();
    assert_eq!((answer.status(), via), (StatusCode::OK, 2));
    assert_eq!(text(answer).await, "/open/a%20b/%C3%BC?q=%2F..%2F&&x");
    let seen = upstream.last_seen();
    assert_eq!(seen["host"], upstream.url.strip_prefix("http://").unwrap());
    assert_eq!(seen["forwarded"], "for=127.0.0.1;proto=http");
    assert_eq!(seen["x-kept"], "1");
    assert_eq!(seen.get_all("via").iter().count(), 2);
    for name in ["x-hop", "x-forwarded-for", "connection"] {
        assert!(!seen.contains_key(name), "{name}");
    }
    assert!(!seen.keys().any(|name| name.as_str().starts_with("relay-")));
}

#[tokio::test]
async fn each_refusal_has_its_status_and_says_that_nothing_was_sent() {
    let (upstream, world) = world().await;
    let bearer = |token: &str| format!("Bearer {token}");
    let token = world.token.as_str();
    for (path, token, status, code) in [
        ("/c/acme_to_widgets/web/open/x", "", 401, "token-missing"),
        (
            "/c/acme_to_widgets/web/open/x",
            "rt_wrong",
            401,
            "token-unknown",
        ),
        (
            "/c/elsewhere/web/open/x",
            token,
            403,
            "token-for-another-connection",
        ),
        ("/c/acme_to_widgets", token, 404, "no-upstream-named"),
        (
            "/c/acme_to_widgets/git/open/x",
            token,
            404,
            "unknown-upstream",
        ),
        (
            "/c/acme_to_widgets/~control/v1/state",
            token,
            404,
            "unknown-upstream",
        ),
        (
            "/c/acme_to_widgets/web/private/x",
            token,
            403,
            "denied-by-policy",
        ),
        (
            "/c/acme_to_widgets/web/open/../x",
            token,
            403,
            "denied-by-policy",
        ),
    ] {
        let mut request = world.get("");
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().remove("relay-authorization");
        if !token.is_empty() {
            let value = bearer(token).parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        let answer = world.call(request).await;
        assert_eq!(answer.status(), status, "{path}");
        assert!(!answer.headers().contains_key("relay-error"));
        let who = if code == "denied-by-policy" || path.contains("/git/") {
            "agent"
        } else {
            "relay"
        };
        let proxy_status = answer.headers()["proxy-status"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(proxy_status.starts_with(who), "{path}: {proxy_status}");
        let problem: Value = serde_json::from_str(&text(answer).await).unwrap();
        assert_eq!(
            problem["type"],
            format!("urn:relay-agent:problem:{code}"),
            "{path}"
        );
        assert_eq!(problem["delivery"], "not-sent", "{path}");
    }
    assert!(upstream.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_deactivated_connection_refuses_calls_and_an_offline_agent_says_when_to_come_back() {
    let (_upstream, world) = world().await;
    world.relay.order(CONNECTION, "deactivate").await;
    let refused = world.call(world.get("/open/x")).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    world.relay.order(CONNECTION, "activate").await;
    world.agent.stop_now();
    world.relay.until_link(CONNECTION, "reconnecting").await;
    let refused = world.call(world.get("/open/x")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn trailers_pass_both_ways_for_callers_of_either_version() {
    let (_upstream, world) = world().await;
    for is_http2 in [false, true] {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let frames = [Frame::data(Bytes::from("data")), Frame::trailers(trailers)];
        let frames = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        let mut request = world.request(Method::POST, "/open/echo", body::streaming(frames));
        request
            .headers_mut()
            .insert("trailer", "x-sum".parse().unwrap());
        request
            .headers_mut()
            .insert("te", "trailers".parse().unwrap());
        let answer = if is_http2 {
            let mut caller = world.http2().await;
            within(caller.send_request(world.absolute(request)))
                .await
                .unwrap()
        } else {
            world.call(request).await
        };
        let whole = within(answer.into_body().collect()).await.unwrap();
        assert_eq!(
            whole.trailers().unwrap()["x-sum"],
            "7",
            "HTTP/2: {is_http2}"
        );
        assert_eq!(whole.to_bytes(), "data");
    }
}

#[tokio::test]
async fn answers_without_a_body_pass_as_they_are() {
    let (_upstream, world) = world().await;
    let head = world.request(Method::HEAD, "/open/head", body::empty());
    let answer = world.call(head).await;
    assert_eq!(answer.headers()["content-length"], "1234");
    assert_eq!(text(answer).await, "");
    let mut caller = world.http1().await;
    for status in [204, 304, 204] {
        let request = world.get(&format!("/open/{status}"));
        let answer = within(caller.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(text(answer).await, "");
    }
}

#[tokio::test]
async fn each_event_arrives_before_the_next_is_made() {
    let (upstream, world) = world().await;
    let answer = world.call(world.get("/open/events")).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        upstream.events.send(event);
        let frame = within(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_upstreams_request() {
    let (upstream, world) = world().await;
    let answer = world.call(world.get("/open/events")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    drop(answer);
    within(upstream.events.unread()).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_before_the_answer_ends_the_upstreams_request() {
    let (upstream, world) = world().await;
    for is_http2 in [false, true] {
        let request = world.get("/open/never");
        let call = if is_http2 {
            let mut caller = world.http2().await;
            let request = world.absolute(request);
            tokio::spawn(async move { caller.send_request(request).await })
        } else {
            let mut caller = world.http1().await;
            tokio::spawn(async move { caller.send_request(request).await })
        };
        within(upstream.begun.notified()).await;
        call.abort();
        within(upstream.given_up.notified()).await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_in_the_middle_of_its_body_ends_the_upstreams_request() {
    let (upstream, world) = world().await;
    let (pieces, body) = in_pieces();
    let request = world.request(Method::POST, "/open/never", body);
    let mut caller = world.http1().await;
    let call = tokio::spawn(async move { caller.send_request(request).await });
    pieces.send("the first half");
    within(upstream.begun.notified()).await;
    call.abort();
    within(upstream.given_up.notified()).await;
}

#[tokio::test]
async fn a_caller_that_waits_for_100_is_told_to_go_on_only_when_the_upstream_wants_the_body() {
    let (_upstream, world) = world().await;
    let head = |path: &str| {
        format!(
            "POST /c/acme_to_widgets/web{path} HTTP/1.1\r\nhost: relay\r\nexpect: 100-continue\r\n\
             relay-authorization: Bearer {}\r\ncontent-length: 5\r\nconnection: close\r\n\r\n",
            world.token
        )
    };
    let mut denied = TcpStream::connect(world.callers).await.unwrap();
    denied
        .write_all(head("/private/x").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    within(denied.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");

    let mut permitted = TcpStream::connect(world.callers).await.unwrap();
    permitted
        .write_all(head("/open/length").as_bytes())
        .await
        .unwrap();
    let mut go_ahead = [0; 25];
    within(permitted.read_exact(&mut go_ahead)).await.unwrap();
    assert_eq!(&go_ahead, b"HTTP/1.1 100 Continue\r\n\r\n");
    permitted.write_all(b"12345").await.unwrap();
    let mut answer = String::new();
    within(permitted.read_to_string(&mut answer)).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n5"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_reader_that_stands_still_does_not_hold_up_the_others() {
    let (_upstream, world) = world().await;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        stalled.push(world.call(world.get("/open/endless")).await);
    }
    for _ in 0..20 {
        let answer = world.call(world.get("/open/x")).await;
        assert_eq!(within(text(answer)).await, "/open/x");
    }
    drop(stalled);
}

#[tokio::test]
async fn calls_beyond_the_connections_limit_are_refused_and_ended_ones_make_room() {
    let (_upstream, world) = world().await;
    let mut caller = world.http2().await;
    let mut open = Vec::new();
    for _ in 0..50 {
        let request = world.absolute(world.get("/open/endless"));
        let answer = within(caller.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        open.push(answer);
    }
    let refused = world.call(world.get("/open/x")).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    drop(open);
    within(async {
        while world.call(world.get("/open/x")).await.status() != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn large_bodies_pass_both_ways_whole() {
    let (_upstream, world) = world().await;
    let large: Bytes = (0..20_000_000_u32)
        .map(|n| (n / 7) as u8)
        .collect::<Vec<u8>>()
        .into();
    let request = world.request(Method::POST, "/open/echo", body::full(large.clone()));
    let answer = world.call(request).await;
    let back = within(answer.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    assert!(back == large);
}

#[tokio::test]
async fn a_websocket_passes_for_callers_of_either_version() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::with_upstream(&format!("http://{}", listener.local_addr().unwrap())).await;
    let echo = tokio::spawn(async move {
        for _ in 0..2 {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            while let Some(Ok(message)) = socket.next().await {
                let _ = socket.send(message).await;
            }
        }
    });

    let address = format!("ws://{}/c/acme_to_widgets/web/open/socket", world.callers);
    let mut request = address.into_client_request().unwrap();
    let token = format!("Bearer {}", world.token).parse().unwrap();
    request.headers_mut().insert("relay-authorization", token);
    let stream = TcpStream::connect(world.callers).await.unwrap();
    let opened = within(tokio_tungstenite::client_async(request, stream)).await;
    exchange(opened.unwrap().0).await;

    let mut request = world.absolute(world.get("/open/socket"));
    *request.method_mut() = Method::CONNECT;
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let mut caller = world.http2().await;
    let mut answer = within(caller.send_request(request)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    exchange(WebSocketStream::from_raw_socket(stream, Role::Client, None).await).await;
    within(echo).await.unwrap();
}

/// Says something, hears it again, and goes away without a farewell.
async fn exchange<S>(mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        let echoed = within(socket.next()).await.unwrap().unwrap();
        assert_eq!(echoed, Message::text(text));
    }
}

async fn world() -> (Upstream, World) {
    let upstream = Upstream::start().await;
    let world = World::with_upstream(&upstream.url).await;
    (upstream, world)
}

async fn text(answer: Response<Incoming>) -> String {
    let bytes = within(answer.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
