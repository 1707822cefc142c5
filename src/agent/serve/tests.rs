//! A lane on one side, a private service on the other, the agent between them.

mod bodies;
mod limits;
mod observing;

use std::convert::Infallible;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::HeaderName;
use http::header::{CONTENT_LENGTH, TE, TRAILER, UPGRADE, VIA};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::agent::config::{CredentialSource, CredentialsConfig, UpstreamConfig};
use crate::agent::policy::Rule;

type Lane = hyper::client::conn::http2::SendRequest<Body>;

const SET_HERE: HeaderName = HeaderName::from_static("x-set-here");
/// Far longer than anything takes, on a busy machine too.
const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_permitted_call_reaches_the_upstream_with_what_is_set_here_and_without_what_is_reserved()
{
    let url = upstream(|request| async move {
        let headers = request.headers();
        assert_eq!(headers[SET_HERE], std::env::var("PATH").unwrap());
        assert_eq!(headers[VIA], "2 agent-test");
        assert!(
            !headers
                .keys()
                .any(|name| name.as_str().starts_with("relay-"))
        );
        assert_eq!(request.uri(), "/allowed/a%20b?c=d");
        for name in ["x-forwarded-for", "x_real_ip", "expect"] {
            assert!(!request.headers().contains_key(name), "{name}");
        }
        Response::builder()
            .header("relay-error", "1")
            .header("keep-alive", "timeout=5")
            .header("x-answer", "42")
            .body(body::full("hello"))
            .unwrap()
    })
    .await;
    let mut agent = agent(&url).await;
    let mut request = get("/allowed/a%20b?c=d");
    let headers = request.headers_mut();
    headers.insert(SET_HERE, "the caller's".parse().unwrap());
    headers.insert("relay-caller", "reports".parse().unwrap());
    // What a relay that keeps the rules does not pass on.
    headers.insert("x-forwarded-for", "127.0.0.1".parse().unwrap());
    headers.insert("x_real_ip", "127.0.0.1".parse().unwrap());
    headers.insert("expect", "200-ok".parse().unwrap());
    let answer = agent.lane.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-answer"], "42");
    assert_eq!(answer.headers()[VIA], "1.1 agent-test");
    assert!(!answer.headers().contains_key("relay-error"));
    assert_eq!(text(answer).await, "hello");
}

#[tokio::test]
async fn what_is_not_permitted_is_refused_before_anything_is_sent() {
    let mut agent = agent("http://127.0.0.1:1").await;
    for (authority, path, status, code) in [
        ("nowhere", "/allowed/a", 404, "unknown-upstream"),
        ("web", "/other", 403, "denied-by-policy"),
        ("web", "/allowed/%6eot", 403, "denied-by-policy"),
        ("web", "/allowed/%2e%2e/x", 403, "denied-by-policy"),
        ("web", "/allowed/a", 502, "upstream-unreachable"),
    ] {
        let mut request = get(path);
        *request.uri_mut() = format!("http://{authority}{path}").parse().unwrap();
        let answer = agent.lane.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()["relay-error"], code);
        let proxy_status = answer.headers()["proxy-status"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(proxy_status.starts_with("agent; error="), "{proxy_status}");
        let text = text(answer).await;
        assert!(
            text.contains(code) && text.contains("\"delivery\":\"not-sent\""),
            "{text}"
        );
        assert!(
            !text.contains("127.0.0.1") && !text.contains("{*rest}"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_header_that_asks_for_another_method_or_path_is_refused() {
    let mut agent = agent("http://127.0.0.1:1").await;
    for name in ["X-HTTP-Method-Override", "X-Original-URL", "x-rewrite-url"] {
        let mut request = get("/allowed/a");
        let name: HeaderName = name.parse().unwrap();
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static("DELETE"));
        let answer = agent.lane.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert!(text(answer).await.contains("denied-by-policy"));
    }
}

#[tokio::test]
async fn a_deactivated_connection_and_a_loop_are_refused_and_control_passes() {
    let mut agent = agent("http://127.0.0.1:1").await;
    let mut looped = get("/allowed/a");
    let via = "2 relay, 1.1 agent-test".parse().unwrap();
    looped.headers_mut().insert(VIA, via);
    assert_eq!(agent.status(looped).await, StatusCode::LOOP_DETECTED);
    *agent.owner.is_active.lock().unwrap() = false;
    assert_eq!(agent.status(get("/allowed/a")).await, StatusCode::CONFLICT);
    let mut control = get("/");
    *control.uri_mut() = "http://~control/v1/state".parse().unwrap();
    assert_eq!(agent.status(control).await, StatusCode::IM_A_TEAPOT);
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let url = upstream(|request| async move {
        assert_eq!(request.headers()[TE], "trailers");
        let body = request.into_body().map_err(Into::into).boxed_unsync();
        let mut echo = Response::new(body);
        echo.headers_mut().insert(TRAILER, "x-sum".parse().unwrap());
        echo
    })
    .await;
    let mut agent = agent(&url).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let frames = [Frame::data(Bytes::from("data")), Frame::trailers(trailers)];
    let frames = stream::iter(frames.map(Ok::<_, Infallible>));
    let mut request = post(body::streaming(StreamBody::new(frames)));
    request
        .headers_mut()
        .insert(TRAILER, "x-sum".parse().unwrap());
    request
        .headers_mut()
        .insert(TE, "trailers".parse().unwrap());
    let answer = agent.lane.send_request(request).await.unwrap();
    let whole = answer.into_body().collect().await.unwrap();
    assert_eq!(whole.trailers().unwrap()["x-sum"], "7");
    assert_eq!(whole.to_bytes(), "data");
}

#[tokio::test]
async fn answers_without_a_body_pass_as_they_are() {
    let url = upstream(|request| async move {
        let (status, length) = match request.uri().path() {
            "/allowed/head" => (200, Some("1234")),
            "/allowed/304" => (304, None),
            _ => (204, None),
        };
        let mut answer = Response::builder().status(status);
        if let Some(length) = length {
            answer = answer.header(CONTENT_LENGTH, length);
        }
        answer.body(body::empty()).unwrap()
    })
    .await;
    let mut agent = agent(&url).await;
    for (method, path, status, length) in [
        (Method::HEAD, "/allowed/head", 200, Some("1234")),
        (Method::GET, "/allowed/304", 304, None),
        (Method::GET, "/allowed/204", 204, None),
    ] {
        let mut request = get(path);
        *request.method_mut() = method;
        let answer = agent.lane.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status);
        let seen = answer.headers().get(CONTENT_LENGTH);
        assert_eq!(seen.map(|value| value.to_str().unwrap()), length, "{path}");
        assert_eq!(text(answer).await, "");
    }
}

#[tokio::test]
async fn a_go_ahead_is_told_when_the_upstream_wants_the_body() {
    let url = upstream(|request| async move {
        Response::new(body::full(
            request.into_body().collect().await.unwrap().to_bytes(),
        ))
    })
    .await;
    let mut agent = agent(&url).await;
    let (sender, frames) = frames();
    let mut request = post(frames);
    let headers = request.headers_mut();
    headers.insert("expect", "100-continue".parse().unwrap());
    headers.insert("relay-request-id", "call-7".parse().unwrap());
    let answer = tokio::spawn(agent.lane.send_request(request));
    within(agent.owner.went_ahead.notified()).await;
    assert_eq!(*agent.owner.go_aheads.lock().unwrap(), ["call-7"]);
    sender.send("the body").unwrap();
    drop(sender);
    assert_eq!(text(answer.await.unwrap().unwrap()).await, "the body");
}

#[tokio::test]
async fn each_event_arrives_before_the_next_is_made() {
    let (events, url) = upstream_of_events().await;
    let mut agent = agent(&url).await;
    let answer = agent
        .lane
        .send_request(get("/allowed/events"))
        .await
        .unwrap();
    let mut body = answer.into_body();
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        events.send(event).unwrap();
        let frame = within(body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), event);
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_given_up_at_the_upstream() {
    let (events, url) = upstream_of_events().await;
    let mut agent = agent(&url).await;
    let answer = agent
        .lane
        .send_request(get("/allowed/events"))
        .await
        .unwrap();
    drop(answer);
    within(events.closed()).await;
}

#[tokio::test]
async fn a_websocket_passes_messages_both_ways_and_ends_with_its_caller() {
    let (url, echo) = websocket_echo().await;
    let mut agent = agent(&url).await;
    let mut socket = open_websocket(&mut agent, "/allowed/socket").await;
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        let echoed = within(socket.next()).await.unwrap().unwrap();
        assert_eq!(echoed, Message::text(text));
    }
    drop(socket);
    within(echo).await.unwrap();
}

/// An upstream that takes one WebSocket and says all again, until it ends.
async fn websocket_echo() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let echo = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let _ = socket.send(message).await;
        }
    });
    (url, echo)
}

async fn open_websocket(agent: &mut Agent, path: &str) -> WebSocketStream<TokioIo<Upgraded>> {
    let mut request = get(path);
    *request.method_mut() = Method::CONNECT;
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    let mut answer = agent.lane.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key(UPGRADE));
    let stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

struct Agent {
    lane: Lane,
    calls: Arc<Calls>,
    owner: Arc<Owner>,
}

impl Agent {
    async fn status(&mut self, request: Request<Body>) -> StatusCode {
        self.lane.send_request(request).await.unwrap().status()
    }
}

struct Owner {
    connection: Arc<str>,
    is_active: Mutex<bool>,
    go_aheads: Mutex<Vec<String>>,
    went_ahead: Notify,
}

impl LinkOwner for Owner {
    fn connection(&self) -> &Arc<str> {
        &self.connection
    }

    fn is_active(&self) -> bool {
        *self.is_active.lock().unwrap()
    }

    fn control(&self, _request: Request<Incoming>) -> ControlAnswer {
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        Box::pin(std::future::ready(response))
    }

    fn go_ahead(&self, request_id: &str) {
        self.go_aheads.lock().unwrap().push(request_id.to_owned());
        self.went_ahead.notify_one();
    }
}

/// An agent with the upstream `web`, of which `/allowed/…` may be called, at the far end of a lane.
async fn agent(url: &str) -> Agent {
    let rules = vec![
        Rule::parse(&["GET", "HEAD", "POST"], "/allowed/{*rest}").unwrap(),
        Rule::parse_deny::<&str>(&[], "/allowed/not").unwrap(),
    ];
    agent_with(url, rules).await
}

/// An agent with the upstream `web` and these rules.
async fn agent_with(url: &str, rules: Vec<Rule>) -> Agent {
    let calls = Arc::new(Calls::new(gateway(url, rules), "agent-test", Audit::off()));
    let owner = Arc::new(Owner {
        connection: "acme_to_widgets".into(),
        is_active: Mutex::new(true),
        go_aheads: Mutex::default(),
        went_ahead: Notify::new(),
    });
    let link_owner: Arc<dyn LinkOwner> = Arc::clone(&owner) as _;
    let served = Arc::clone(&calls);
    let service = service_fn(move |request| {
        let (calls, owner) = (Arc::clone(&served), Arc::clone(&link_owner));
        async move { Ok::<_, Infallible>(calls.handle(&owner, request).await) }
    });
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(far), service);
    tokio::spawn(server);
    let (lane, driver) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(near))
        .await
        .unwrap();
    tokio::spawn(driver);
    Agent { lane, calls, owner }
}

fn gateway(url: &str, rules: Vec<Rule>) -> Gateway {
    gateway_trying(url, rules, None)
}

/// With rules that are tried.
fn gateway_trying(url: &str, rules: Vec<Rule>, candidate: Option<Vec<Rule>>) -> Gateway {
    let config = UpstreamConfig {
        name: "web".parse().unwrap(),
        url: url.parse().unwrap(),
        ca_file: None,
        addresses: crate::agent::addresses::Addresses::default(),
        credentials: CredentialsConfig {
            set_headers: vec![(SET_HERE, CredentialSource::Environment("PATH".into()))],
            ..CredentialsConfig::default()
        },
        connect_timeout: DEADLINE,
        response_timeout: DEADLINE,
        max_in_flight: 10,
        rules,
        candidate,
    };
    Gateway::open(&[config], None, &Gateway::default()).unwrap()
}

async fn upstream<F, A>(answer: F) -> String
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    url
}

/// An upstream whose one answer has the events for its body that are sent into the channel.
async fn upstream_of_events() -> (mpsc::UnboundedSender<&'static str>, String) {
    let (sender, body) = frames();
    let body = Arc::new(Mutex::new(Some(body)));
    let url = upstream(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Response::new(body) }
    })
    .await;
    (sender, url)
}

fn frames() -> (mpsc::UnboundedSender<&'static str>, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let text: &'static str = receiver.recv().await?;
        Some((
            Ok::<_, Infallible>(Frame::data(Bytes::from(text))),
            receiver,
        ))
    });
    (sender, body::streaming(StreamBody::new(Box::pin(frames))))
}

fn get(path: &str) -> Request<Body> {
    let request = Request::get(format!("http://web{path}"));
    request.body(body::empty()).unwrap()
}

fn post(body: Body) -> Request<Body> {
    Request::post("http://web/allowed/post").body(body).unwrap()
}

async fn text(answer: Response<Incoming>) -> String {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}
