//! Strangers, idle callers and the drain, on a real socket.

use std::net::Ipv4Addr;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::relay::shared::tests::relay_in;

const DEADLINE: Duration = Duration::from_secs(120);
/// In milliseconds: a time after which a socket is closed, longer than a busy machine stands still while one is in use.
const SHORT: u64 = 3_000;
const LINK: &[u8] =
    b"GET /v1/link HTTP/1.1\r\nhost: relay\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    sec-websocket-protocol: relay-agent.link.v1\r\n\r\n";
const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n";

#[tokio::test]
async fn a_stranger_who_says_nothing_or_half_a_request_is_hung_up_on() {
    let directory = tempfile::tempdir().unwrap();
    let (address, _shutdown) = listen(directory.path(), 50, 60_000, 10).await;
    for said in [&b""[..], b"P", b"PRI", b"GET / HTTP/1.1\r\nhost:"] {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(said).await.unwrap();
        // HTTP/2 says its settings first.
        let answer = until_closed(&mut stranger).await;
        assert!(answer.is_empty() || said == b"PRI", "{answer:?}");
    }
}

#[tokio::test]
async fn a_socket_without_a_new_request_is_closed_and_one_in_use_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (address, _shutdown) = listen(directory.path(), SHORT, SHORT, 10).await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    let began = tokio::time::Instant::now();
    let mut requests = 0;
    while began.elapsed() < Duration::from_millis(SHORT * 3 / 2) {
        caller.write_all(HEALTH).await.unwrap();
        let mut answer = [0; 1024];
        let count = caller.read(&mut answer).await.unwrap();
        assert!(
            answer[..count].starts_with(b"HTTP/1.1 200 "),
            "after {requests} requests"
        );
        requests += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(until_closed(&mut caller).await, b"");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (address, _shutdown) = listen(directory.path(), 10_000, 10_000, 10).await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: relay\r\ncookie: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    // The relay may hang up before all of it is written.
    let _ = caller.write_all(head.as_bytes()).await;
    let answer = until_closed(&mut caller).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(answer.contains("head-too-large"), "{answer}");
}

#[tokio::test]
async fn a_request_that_is_refused_unread_has_a_name_for_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let (address, _shutdown) = listen(directory.path(), 10_000, 10_000, 10).await;
    let long = "x".repeat(20_000);
    let mut names = Vec::new();
    for (status, request) in [
        (
            431,
            format!("GET / HTTP/1.1\r\nhost: relay\r\ncookie: {long}{long}\r\n\r\n"),
        ),
        (
            414,
            format!("GET /{long}{long} HTTP/1.1\r\nhost: relay\r\n\r\n"),
        ),
        (400, "GET / HTTP/1.1\nhost: relay\r\n\r\n".to_owned()),
        (
            400,
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(),
        ),
    ] {
        let mut caller = TcpStream::connect(address).await.unwrap();
        let _ = caller.write_all(request.as_bytes()).await;
        let _ = caller.shutdown().await;
        let answer = until_closed(&mut caller).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        let name = answer
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "));
        names.push(
            name.unwrap_or_else(|| panic!("no name: {answer}"))
                .to_owned(),
        );
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 4);
    // Where the head could be read, the caller's own is kept.
    let mut caller = TcpStream::connect(address).await.unwrap();
    let two =
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nx-request-id: mine\r\nconnection: close\r\n\r\n";
    caller.write_all(two).await.unwrap();
    let answer = until_closed(&mut caller).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("x-request-id: mine\r\n"), "{answer}");
}

#[tokio::test]
async fn a_socket_beyond_the_limit_waits_for_another_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let (address, _shutdown) = listen(directory.path(), 10_000, 10_000, 1).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(HEALTH).await.unwrap();
    assert!(first.read(&mut [0; 1024]).await.unwrap() > 0);
    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(HEALTH).await.unwrap();
    drop(first);
    let answered = tokio::time::timeout(DEADLINE, second.read(&mut [0; 1024])).await;
    assert!(answered.unwrap().unwrap() > 0);
}

#[tokio::test]
async fn an_address_with_all_its_sockets_is_turned_away_and_another_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let limits = limits(10_000, 10_000, 3);
    let limits = ListenerLimits {
        sockets_per_address: 2,
        ..limits
    };
    let (address, _shutdown) = listen_with(directory.path(), limits).await;
    let ask = async |from: [u8; 4]| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut caller = socket.connect(address).await.unwrap();
        // It may be closed before this is written.
        let _ = caller.write_all(HEALTH).await;
        let read = tokio::time::timeout(DEADLINE, caller.read(&mut [0; 1024])).await;
        (caller, read.unwrap().unwrap_or(0) > 0)
    };
    let (first, is_answered) = ask([127, 0, 0, 1]).await;
    assert!(is_answered);
    let (_second, is_answered) = ask([127, 0, 0, 1]).await;
    assert!(is_answered);
    assert!(!ask([127, 0, 0, 1]).await.1);
    assert!(ask([127, 0, 0, 2]).await.1);
    drop(first);
    let again = async { while !ask([127, 0, 0, 1]).await.1 {} };
    tokio::time::timeout(DEADLINE, again).await.unwrap();
}

#[tokio::test]
async fn a_socket_that_became_a_link_keeps_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let (address, _shutdown) = listen(directory.path(), 10_000, 10_000, 1).await;
    let mut agent = TcpStream::connect(address).await.unwrap();
    agent.write_all(LINK).await.unwrap();
    let mut answer = [0; 1024];
    let count = agent.read(&mut answer).await.unwrap();
    assert!(answer[..count].starts_with(b"HTTP/1.1 101 "));
    let mut caller = TcpStream::connect(address).await.unwrap();
    caller.write_all(HEALTH).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), caller.read(&mut answer)).await;
    assert!(early.is_err(), "the link's place was given away");
    drop(agent);
    let answered = tokio::time::timeout(DEADLINE, caller.read(&mut answer)).await;
    assert!(answered.unwrap().unwrap() > 0);
}

#[tokio::test]
async fn the_drain_closes_idle_sockets_and_takes_no_new_ones() {
    let directory = tempfile::tempdir().unwrap();
    let (address, shutdown) = listen(directory.path(), 10_000, 10_000, 10).await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    caller.write_all(HEALTH).await.unwrap();
    assert!(caller.read(&mut [0; 1024]).await.unwrap() > 0);
    shutdown.start_drain();
    assert_eq!(until_closed(&mut caller).await, b"");
    let closed = async { while TcpStream::connect(address).await.is_ok() {} };
    tokio::time::timeout(DEADLINE, closed).await.unwrap();
}

#[tokio::test]
async fn an_http2_caller_who_does_not_confirm_the_end_is_hung_up_on() {
    let directory = tempfile::tempdir().unwrap();
    let (address, shutdown) = listen(directory.path(), 10_000, 10_000, 10).await;
    let mut caller = http2_caller(address, "/healthz", 65_535).await;
    shutdown.start_drain();
    until_closed(&mut caller).await;
}

#[tokio::test]
async fn an_idle_http2_caller_who_reads_no_answer_is_hung_up_on() {
    let directory = tempfile::tempdir().unwrap();
    let (address, _shutdown) = listen(directory.path(), SHORT, SHORT, 10).await;
    // With a window of nothing the answer's body can never be sent.
    let mut caller = http2_caller(address, "/v1/status", 0).await;
    until_closed(&mut caller).await;
}

/// A caller by HTTP/2 with a stream window of this size, who has asked for a path and says no more.
async fn http2_caller(address: SocketAddr, path: &str, window: u32) -> TcpStream {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const END_STREAM_AND_HEADERS: u8 = 5;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let stream = stream.to_be_bytes();
        [&length[1..], &[kind, flags], &stream, payload].concat()
    };
    let initial_window_size = [&[0, 4][..], &window.to_be_bytes()].concat();
    // GET and http by their numbers in the static table, :path and :authority as plain text (RFC 7541).
    let literal = |index: u8, value: &str| {
        let length = u8::try_from(value.len()).unwrap();
        [&[index, length][..], value.as_bytes()].concat()
    };
    let head = [&[0x82, 0x86][..], &literal(4, path), &literal(1, "relay")].concat();
    let mut caller = TcpStream::connect(address).await.unwrap();
    let said = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &initial_window_size),
        frame(HEADERS, END_STREAM_AND_HEADERS, 1, &head),
    ];
    caller.write_all(&said.concat()).await.unwrap();
    // The answer's head comes in any case.
    let mut heard = Vec::new();
    while !has_frame(&heard, HEADERS) {
        let read = tokio::time::timeout(DEADLINE, caller.read_buf(&mut heard)).await;
        assert!(read.unwrap().unwrap() > 0);
    }
    caller
}

/// Whether a whole frame of this kind is among those that were heard.
fn has_frame(mut heard: &[u8], kind: u8) -> bool {
    while let [a, b, c, this, ..] = *heard {
        if this == kind {
            return true;
        }
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some(rest) = heard.get(9 + length..) else {
            return false;
        };
        heard = rest;
    }
    false
}

async fn listen(
    directory: &Path,
    head_timeout: u64,
    idle_timeout: u64,
    sockets: usize,
) -> (SocketAddr, Shutdown) {
    listen_with(directory, limits(head_timeout, idle_timeout, sockets)).await
}

const fn limits(head_timeout: u64, idle_timeout: u64, sockets: usize) -> ListenerLimits {
    ListenerLimits {
        sockets,
        sockets_per_address: sockets,
        head_timeout: Duration::from_millis(head_timeout),
        idle_timeout: Duration::from_millis(idle_timeout),
        stopped_timeout: Duration::from_millis(200),
    }
}

async fn listen_with(directory: &Path, limits: ListenerLimits) -> (SocketAddr, Shutdown) {
    let shared = relay_in(directory).await;
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = Listener::bind(address, false, Security::Plain, limits).unwrap();
    let address = listener.local_address().unwrap();
    let shutdown = shared.shutdown.clone();
    let routes = Arc::new(Routes {
        forward: Forward::new(Arc::clone(&shared)).unwrap(),
        link: LinkEndpoint::new(Arc::clone(&shared)),
        api: Api::new(Arc::clone(&shared)),
        shared,
    });
    let watched = shutdown.clone();
    tokio::spawn(async move { listener.run(routes, &watched).await });
    (address, shutdown)
}

/// What still comes until the relay hangs up.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let closed = stream.read_to_end(&mut rest);
    // A reset is a way of hanging up too.
    let _ = tokio::time::timeout(DEADLINE, closed).await.unwrap();
    rest
}
