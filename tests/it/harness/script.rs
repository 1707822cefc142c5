//! A private service that answers byte for byte as its test has it, right or wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::wait_until;

/// What is sent when a request for a path has come, or its head where it has a body.
pub(crate) type Lines = &'static [(&'static str, Then)];

/// What `{long}` stands for in what is said.
pub(crate) fn long() -> String {
    "x".repeat(2_000)
}

/// What a request is answered with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// These bytes; the connection stays open for the next request.
    Say(&'static str),
    /// These bytes, and the end of the connection.
    SayAndCut(&'static str),
    /// Nothing, while the connection stays open.
    Wait,
}

/// The service, until it is dropped.
pub(crate) struct Script {
    address: SocketAddr,
    heard: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Script {
    pub(crate) async fn new(lines: Lines) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<AtomicUsize>::default();
        let accepting = accept(listener, lines, Arc::clone(&heard));
        Self {
            address,
            heard,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        }
    }

    /// Waits until so many requests have been heard.
    pub(crate) async fn until_heard(&self, times: usize) {
        wait_until("the private service hears a request", async || {
            self.heard.load(Ordering::Relaxed) >= times
        })
        .await;
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, lines: Lines, heard: Arc<AtomicUsize>) {
    // Dropped with the service, and its connections with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        connections.spawn(serve(tcp, lines, Arc::clone(&heard)));
    }
}

async fn serve(mut tcp: TcpStream, lines: Lines, count: Arc<AtomicUsize>) {
    let mut heard = Vec::new();
    loop {
        while let Some(end) = heard.windows(4).position(|it| it == b"\r\n\r\n") {
            let head: Vec<u8> = heard.drain(..end + 4).collect();
            let head = String::from_utf8(head).unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let path = head.split([' ', '?']).nth(1).unwrap();
            let line = lines.iter().find(|(name, _)| *name == path);
            let said = |bytes: &str| bytes.replace("{long}", &long()).into_bytes();
            match line
                .unwrap_or_else(|| panic!("nothing is written for {path}"))
                .1
            {
                Then::Say(bytes) => drop(tcp.write_all(&said(bytes)).await),
                Then::SayAndCut(bytes) => {
                    let _ = tcp.write_all(&said(bytes)).await;
                    return;
                }
                Then::Wait => {}
            }
        }
        if tcp.read_buf(&mut heard).await.unwrap_or(0) == 0 {
            return;
        }
    }
}
