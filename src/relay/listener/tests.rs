//! Strangers, idle callers and the drain, on a real socket.

use std::net::Ipv4Addr;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::relay::shared::tests::relay_in;

const DEADLINE: Duration = Duration::from_secs(20);
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
    let (address, _shutdown) = listen(directory.path(), 200, 200, 10).await;
    let mut caller = TcpStream::connect(address).await.unwrap();
    let began = tokio::time::Instant::now();
    let mut requests = 0;
    while began.elapsed() < Duration::from_secs(1) {
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
        "GET /healthz HTTP/1.1\r\ncookie: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    // The relay may hang up before all of it is written.
    let _ = caller.write_all(head.as_bytes()).await;
    let answer = until_closed(&mut caller).await;
    assert!(answer.starts_with(b"HTTP/1.1 431 ") || answer.is_empty());
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

async fn listen(
    directory: &Path,
    head_timeout: u64,
    idle_timeout: u64,
    sockets: usize,
) -> (SocketAddr, Shutdown) {
    let shared = relay_in(directory).await;
    let limits = ListenerLimits {
        sockets,
        head_timeout: Duration::from_millis(head_timeout),
        idle_timeout: Duration::from_millis(idle_timeout),
    };
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = Listener::bind(address, Security::Plain, limits)
        .await
        .unwrap();
    let address = listener.local_address().unwrap();
    let shutdown = shared.shutdown.clone();
    let routes = Arc::new(Routes {
        forward: Forward::new(Arc::clone(&shared)).unwrap(),
        link: LinkEndpoint::new(Arc::clone(&shared)),
        api: Api::new(shared),
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
