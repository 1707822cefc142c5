//! Strangers and agents at `/v1/link`, over real sockets.

#[cfg(feature = "agent")]
mod agent;

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::relay::api::Api;
use crate::relay::forward::Forward;
use crate::relay::listener::{Listener, ListenerLimits, Routes, Security};
use crate::relay::shared::tests::relay_in;

const DEADLINE: Duration = Duration::from_secs(120);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const AGENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

#[tokio::test]
async fn a_stranger_who_stalls_handshakes_keeps_no_other_address_out() {
    let directory = tempfile::tempdir().unwrap();
    let shared = relay_in(directory.path()).await;
    let relay = listen(&shared);
    let mut stalled = Vec::new();
    let turned_away = loop {
        let (stranger, answer) = knock(relay, STRANGER).await;
        if answer.starts_with("HTTP/1.1 101 ") {
            stalled.push(stranger);
        } else {
            break answer;
        }
    };
    assert_eq!(stalled.len(), 32);
    assert!(turned_away.starts_with("HTTP/1.1 503 "), "{turned_away}");
    let waits = turned_away
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "));
    let waits: u64 = waits.unwrap().parse().unwrap();
    assert!((1..=9).contains(&waits), "{waits}");

    let (_agent, answer) = knock(relay, AGENT).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // One of the stranger's places is free again once that handshake is over.
    drop(stalled.pop());
    let again = async {
        while !knock(relay, STRANGER).await.1.starts_with("HTTP/1.1 101 ") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.unwrap();
    shared.shutdown.stop_now();
}

#[test]
fn those_who_are_turned_away_are_told_different_times() {
    let told: std::collections::BTreeSet<_> = (0..1_000).map(|_| busy_retry_after()).collect();
    assert_eq!(told.len(), usize::from(BUSY_SPREAD_SECONDS));
    assert_eq!(told.first(), Some(&BUSY_RETRY_AFTER));
}

/// Asks for a link from this address and says no hello; the socket and the head of the answer.
async fn knock(relay: SocketAddr, from: Ipv4Addr) -> (TcpStream, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(relay).await.unwrap();
    let request = "GET /v1/link HTTP/1.1\r\nhost: relay\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-protocol: relay-agent.link.v1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 2048];
    let read = tokio::time::timeout(DEADLINE, stream.read(&mut answer)).await;
    let count = read.unwrap().unwrap();
    (
        stream,
        String::from_utf8_lossy(&answer[..count]).into_owned(),
    )
}

fn listen(shared: &Arc<Shared>) -> SocketAddr {
    listen_with(shared).0
}

/// The relay's address, and its link endpoint.
fn listen_with(shared: &Arc<Shared>) -> (SocketAddr, LinkEndpoint) {
    let limits = ListenerLimits {
        sockets: 1_000,
        sockets_per_address: 1_000,
        head_timeout: DEADLINE,
        idle_timeout: DEADLINE,
        stopped_timeout: DEADLINE,
    };
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = Listener::bind(address, false, Security::Plain, limits).unwrap();
    let address = listener.local_address().unwrap();
    let link = LinkEndpoint::new(Arc::clone(shared));
    let routes = Arc::new(Routes {
        forward: Forward::new(Arc::clone(shared)).unwrap(),
        link: link.clone(),
        api: Api::new(Arc::clone(shared)),
        shared: Arc::clone(shared),
    });
    let shutdown = shared.shutdown.clone();
    tokio::spawn(async move { listener.run(routes, &shutdown).await });
    (address, link)
}
