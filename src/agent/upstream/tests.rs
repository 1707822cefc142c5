//! Calls to services on loopback: reuse, limits, time-outs, and who is told what went wrong.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::*;
use crate::agent::addresses::ReachError;
use crate::agent::config::CredentialsConfig;
use crate::agent::policy::{Asked, Policy, Rule, decide};
use crate::body;

/// Longer than a busy machine takes for anything here.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_call_goes_out_under_the_upstreams_own_authority_and_path() {
    let (url, _) = serve_http(|request| async move {
        let host = request.headers()[HOST].to_str().unwrap().to_owned();
        Response::new(body::full(format!("{host} {}", request.uri())))
    })
    .await;
    let upstreams = upstreams(&format!("{url}/prefix/"));
    let mut headers = HeaderMap::new();
    headers.insert(HOST, "evil.example".parse().unwrap());
    let answer = get(&upstreams, "/a%20b?c=%2F", headers).await.unwrap();
    let authority = url.strip_prefix("http://").unwrap();
    assert_eq!(
        text(answer).await,
        format!("{authority} /prefix/a%20b?c=%2F")
    );
}

#[tokio::test]
async fn connections_are_used_again_one_call_after_the_other() {
    let (url, connections) = serve_http(|request| async move {
        Response::new(request.into_body().map_err(Into::into).boxed_unsync())
    })
    .await;
    let upstreams = upstreams(&url);
    for count in 0..20 {
        let sent = format!("body {count}");
        let permitted = permit("POST", "/");
        let body = body::full(sent.clone());
        let answer = upstreams.send(
            bare(&permitted, HeaderMap::new()),
            http::Extensions::new(),
            body,
        );
        assert_eq!(text(answer.await.unwrap()).await, sent);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_told_apart_from_one_that_broke_off() {
    // An address from which nobody dials, so that the port stays free once this has gone.
    let listener = TcpListener::bind("127.255.255.253:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstreams = upstreams(&url);
    let broken = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
    });
    let error = get(&upstreams, "/", HeaderMap::new()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Broken(_)), "{error:?}");
    broken.await.unwrap();
    let error = get(&upstreams, "/", HeaderMap::new()).await.unwrap_err();
    assert!(matches!(
        error,
        UpstreamError::NotConnected(ConnectError::Reach(ReachError::Tcp { .. }))
    ));
}

#[tokio::test]
async fn a_kept_connection_that_the_upstream_closed_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    });
    let upstreams = upstreams(&url);
    for _ in 0..3 {
        let answer = get(&upstreams, "/", HeaderMap::new()).await.unwrap();
        assert_eq!(text(answer).await, "ok");
        while !upstreams.by_name["web"].pool.has_only_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn provisional_answers_before_the_final_one_do_no_harm() {
    let answer = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
                  HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let upstreams = upstreams(&say_to_anyone(answer.to_owned()).await);
    let answer = get(&upstreams, "/", HeaderMap::new()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(text(answer).await, "ok");
}

#[tokio::test]
async fn an_answer_whose_head_has_no_end_is_broken_off() {
    let endless = format!("HTTP/1.1 200 OK\r\ncookie: {}", "x".repeat(1_000_000));
    let upstreams = upstreams(&say_to_anyone(endless).await);
    let error = get(&upstreams, "/", HeaderMap::new()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_and_a_finished_one_makes_room() {
    let (url, _) = serve_http(|_| async { Response::new(body::full("x")) }).await;
    let upstreams = upstreams(&url);
    let one = get(&upstreams, "/", HeaderMap::new()).await.unwrap();
    let two = get(&upstreams, "/", HeaderMap::new()).await.unwrap();
    let busy = get(&upstreams, "/", HeaderMap::new()).await.unwrap_err();
    assert!(matches!(busy, UpstreamError::Busy(2)));
    assert_eq!(text(one).await, "x");
    drop(two);
    assert!(get(&upstreams, "/", HeaderMap::new()).await.is_ok());
}

#[tokio::test]
async fn a_silent_upstream_is_given_up_and_a_redirect_is_not_followed() {
    let (url, _) = serve_http(|request| async move {
        if request.uri() == "/silent" {
            std::future::pending::<()>().await;
        }
        let mut response = Response::new(body::empty());
        *response.status_mut() = StatusCode::FOUND;
        response
            .headers_mut()
            .insert("location", "/silent".parse().unwrap());
        response
    })
    .await;
    let impatient = upstreams_with(&url, Duration::from_millis(300));
    let error = get(&impatient, "/silent", HeaderMap::new()).await;
    assert!(matches!(error, Err(UpstreamError::ResponseTimeout(_))));
    let upstreams = upstreams(&url);
    let answer = get(&upstreams, "/moved", HeaderMap::new()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
}

#[tokio::test]
async fn an_upstream_that_says_200_to_a_websocket_has_not_opened_one() {
    let (url, _) = serve_http(|_| async { Response::new(body::empty()) }).await;
    let upstreams = upstreams(&url);
    let permitted = permit("GET", "/");
    let opened = upstreams
        .open_websocket(bare(&permitted, HeaderMap::new()))
        .await;
    assert!(matches!(opened, Err(UpstreamError::NotAWebsocket)));
}

#[tokio::test]
async fn the_wish_for_a_websocket_says_nothing_of_a_body() {
    // One that is declined leaves a connection on which the next call would be taken for the body.
    let of_a_body = [
        ("content-length", "200"),
        ("expect", "100-continue"),
        ("trailer", "x-sum"),
    ];
    let (url, connections) = serve_http(|request: Request<Incoming>| async move {
        let names = ["content-length", "expect", "trailer"];
        let is_there = names
            .iter()
            .any(|name| request.headers().contains_key(*name));
        let mut answer = Response::new(body::empty());
        *answer.status_mut() = match is_there {
            true => StatusCode::IM_A_TEAPOT,
            false => StatusCode::FORBIDDEN,
        };
        answer
    })
    .await;
    let upstreams = upstreams(&url);
    let permitted = permit("GET", "/");
    let headers = of_a_body.map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    let opened = upstreams.open_websocket(bare(&permitted, headers.into_iter().collect()));
    let Ok(Websocket::Declined(declined)) = opened.await else {
        panic!("not declined");
    };
    assert_eq!(declined.status(), StatusCode::FORBIDDEN);
    text(declined).await;
    let next = get(&upstreams, "/", HeaderMap::new()).await.unwrap();
    assert_eq!(next.status(), StatusCode::FORBIDDEN);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_an_upstream_says_of_a_body_as_it_opens_a_websocket_ends_here() {
    // HTTP/2 would take it for the length of all that follows.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut heard).await.unwrap();
        }
        let heard = String::from_utf8(heard).unwrap();
        let mut lines = heard.lines();
        let key = lines.find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let accept = derive_accept_key(key.unwrap().as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let upstreams = upstreams(&url);
    let permitted = permit("GET", "/");
    let opened = upstreams.open_websocket(bare(&permitted, HeaderMap::new()));
    let Ok(Websocket::Switched { headers, .. }) = opened.await else {
        panic!("not switched");
    };
    let names: Vec<_> = headers.keys().collect();
    assert_eq!(names, ["x-own"]);
}

/// An upstream that says the same whatever it is asked, and then waits.
async fn say_to_anyone(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        // The agent may hang up before all of it is said.
        let _ = stream.write_all(answer.as_bytes()).await;
        std::future::pending::<()>().await;
    });
    url
}

async fn serve_http<F, A>(answer: F) -> (String, Arc<AtomicUsize>)
where
    F: Fn(Request<Incoming>) -> A + Copy + Send + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    (url, connections)
}

fn upstreams(url: &str) -> Upstreams {
    upstreams_with(url, PATIENCE)
}

fn upstreams_with(url: &str, response_timeout: Duration) -> Upstreams {
    let config = UpstreamConfig {
        name: "web".parse().unwrap(),
        url: url.parse().unwrap(),
        ca_file: None,
        addresses: crate::agent::addresses::Addresses::default(),
        credentials: CredentialsConfig::default(),
        connect_timeout: PATIENCE,
        response_timeout,
        max_in_flight: 2,
        candidate: None,
        rules: Vec::new(),
    };
    Upstreams::new(&[config], None).unwrap()
}

const fn bare(permitted: &Permitted, headers: HeaderMap) -> Outgoing<'_> {
    Outgoing::bare(permitted, headers)
}

fn permit(method: &str, path: &str) -> Permitted {
    let rule = Rule::parse(&["GET", "POST"], "/{*rest}").unwrap();
    let policy = Policy::new([("web".parse().unwrap(), vec![rule])]);
    let path = path.parse().unwrap();
    let asked = Asked {
        method: &method.parse().unwrap(),
        ..Asked::get("web", &path)
    };
    decide(&policy, &asked).unwrap()
}

async fn get(
    upstreams: &Upstreams,
    path: &str,
    headers: HeaderMap,
) -> Result<Response<Body>, UpstreamError> {
    let permitted = permit("GET", path);
    upstreams
        .send(
            bare(&permitted, headers),
            http::Extensions::new(),
            body::empty(),
        )
        .await
}

async fn text(answer: Response<Body>) -> String {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
