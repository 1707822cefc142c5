//! One accepted socket: TLS, which HTTP it speaks, and its requests until it ends.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::connection::{self, Connection};
use super::{ListenerLimits, Routes, Security};
use crate::body::Body;
use crate::forwarding::forwarded_value;
use crate::link::tls::{ReadAhead, Stream};
use crate::protocol::LINK_PATH;
use crate::protocol::handshake::Binding;
use crate::relay::api;
use crate::relay::forward::{self, CallerSocket};
use crate::relay::link_endpoint;
use crate::shutdown::Shutdown;

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4), and no HTTP/1.1 method does.
const HTTP2_PREFACE: &[u8; 3] = b"PRI";

/// An accepted socket with all that it takes to serve it.
pub(super) struct Socket {
    pub(super) tcp: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) security: Security,
    pub(super) limits: ListenerLimits,
    pub(super) routes: Arc<Routes>,
    pub(super) shutdown: Shutdown,
}

/// Why a socket ended before its first request.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("the socket broke")]
    Broken(#[source] io::Error),
    #[error("TLS or the first bytes took too long")]
    TooSlow,
    #[error("the TLS exporter is not to be had")]
    Exporter(#[source] io::Error),
}

/// What the requests of one socket share.
struct Context {
    routes: Arc<Routes>,
    peer: SocketAddr,
    binding: Binding,
    caller: CallerSocket,
    requests: AtomicU64,
}

impl Socket {
    /// Serves the socket until it is closed, idle, or drained.
    pub(super) async fn serve(self) -> Result<(), SocketError> {
        let opening = open(self.tcp, &self.security);
        let opened = timeout(self.limits.head_timeout, opening).await;
        let (stream, is_http2) = opened
            .map_err(|_elapsed| SocketError::TooSlow)?
            .map_err(SocketError::Broken)?;
        let binding = match stream.exporter().map_err(SocketError::Exporter)? {
            Some(exporter) => Binding::Exporter(exporter),
            None => Binding::None,
        };
        let scheme = match &self.security {
            Security::Tls(_) | Security::Balancer => "https",
            Security::Plain => "http",
        };
        let context = Arc::new(Context {
            routes: self.routes,
            peer: self.peer,
            binding,
            caller: CallerSocket {
                forwarded: forwarded_value(self.peer.ip(), scheme),
            },
            requests: AtomicU64::new(0),
        });
        let answering = Arc::clone(&context);
        let service = service_fn(move |request| {
            let context = Arc::clone(&answering);
            async move { Ok::<_, Infallible>(context.answer(request).await) }
        });
        let connection = if is_http2 {
            connection::http2(stream, service)
        } else {
            connection::http1(stream, service)
        };
        drive(connection, &context, self.limits, &self.shutdown).await;
        Ok(())
    }
}

impl Context {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().path();
        if path.starts_with(forward::PREFIX) {
            return self.routes.forward.answer(request, &self.caller).await;
        }
        if path == LINK_PATH {
            let origin = link_endpoint::Origin {
                address: self.peer,
                binding: self.binding,
            };
            return self.routes.link.answer(request, origin);
        }
        let origin = api::Origin::Network(self.peer.ip());
        self.routes.api.respond(request, origin).await
    }
}

/// TLS, if it ends here; and whether HTTP/2 follows.
async fn open(tcp: TcpStream, security: &Security) -> io::Result<(Stream, bool)> {
    match security {
        Security::Tls(tls) => {
            let stream = tls.accept(tcp).await?;
            let is_http2 = stream.is_http2();
            Ok((stream, is_http2))
        }
        Security::Balancer | Security::Plain => {
            // Known in advance (RFC 9113, section 3.3), or HTTP/1.1: the first bytes tell.
            let mut tcp = ReadAhead::new(tcp);
            let is_http2 = tcp
                .look(HTTP2_PREFACE.len())
                .await?
                .starts_with(HTTP2_PREFACE);
            Ok((Stream::Plain(tcp), is_http2))
        }
    }
}

/// Polls a connection until it ends; stops it at the drain, when no first request comes, or when it
/// has been idle. Stopped, it still finishes what is under way.
async fn drive(
    mut connection: Box<dyn Connection>,
    context: &Context,
    limits: ListenerLimits,
    shutdown: &Shutdown,
) {
    let mut draining = std::pin::pin!(shutdown.draining());
    let mut stopping = std::pin::pin!(shutdown.stopping());
    let mut is_stopped = false;
    let mut seen = 0;
    let mut deadline = Instant::now() + limits.head_timeout;
    loop {
        tokio::select! {
            biased;
            // Kept across rounds; the others only wait.
            () = &mut connection => return,
            () = &mut draining, if !is_stopped => {
                connection.stop();
                is_stopped = true;
            }
            () = &mut stopping => return,
            () = tokio::time::sleep_until(deadline), if !is_stopped => {
                let requests = context.requests.load(Ordering::Relaxed);
                if requests == 0 {
                    return;
                }
                if requests == seen {
                    connection.stop();
                    is_stopped = true;
                }
                seen = requests;
                deadline = Instant::now() + limits.idle_timeout;
            }
        }
    }
}
