//! A proxy that wants a password: CONNECT, refused the first time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

const REFUSAL: &str = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\
                       Content-Length: 0\r\nConnection: close\r\n\r\n";

/// The proxy, until it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// One that takes whoever shows this value in `Proxy-Authorization`, but for the first time.
    pub(crate) async fn new(shown: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let has_refused = AtomicBool::new(false);
        let accepting = async move {
            let mut tunnels = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let head = head(&mut near).await;
                let target = head.split(' ').nth(1).unwrap().to_owned();
                assert!(head.contains(&shown), "the password is shown to the proxy");
                if !has_refused.swap(true, Ordering::Relaxed) {
                    near.write_all(REFUSAL.as_bytes()).await.unwrap();
                    continue;
                }
                tunnels.spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    // Cut when either side ends.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        };
        Self {
            address,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
