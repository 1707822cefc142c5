//! `[metrics] listen`: the metrics on a loopback address, for a Prometheus on the same machine that cannot read a Unix
//! socket. Off unless it is asked for.
//!
//! Answers `GET /metrics` and nothing else, to anybody on this machine: it shows names and figures, no secret, and
//! changes nothing. Never binds another address than a loopback one.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;

use crate::body::Body;
use crate::problem::Problem;
use crate::shutdown::Shutdown;

/// Connections at once: a Prometheus and its stand-in hold one each.
const MOST_CONNECTIONS: usize = 8;
/// Connections that the kernel holds meanwhile.
const BACKLOG: u32 = 16;
/// How long a head may take. It comes from this machine.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may live: some scrapes, so that one that stalls gives its place back.
const LONGEST_CONNECTION: Duration = Duration::from_secs(600);
/// The pause after a failed accept.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A bound socket that does not answer yet.
#[derive(Debug)]
pub struct MetricsListener(TcpListener);

impl MetricsListener {
    /// Binds a loopback address. Must be called within a runtime.
    ///
    /// # Errors
    /// What the system says, and any address that other machines reach.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::other("it is no loopback address"));
        }
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        // A process that takes over binds while the former still does; the system lets only the same user share.
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        Ok(Self(socket.listen(BACKLOG)?))
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers with what `page` makes of a request, until the drain begins.
    pub async fn serve<F>(
        self,
        page: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        shutdown: Shutdown,
    ) where
        F: Future<Output = Response<Body>> + Send,
    {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let accepting = async {
            loop {
                let place = Arc::clone(&places).acquire_owned().await;
                match self.0.accept().await {
                    Ok((socket, _)) => {
                        let page = page.clone();
                        tokio::spawn(async move {
                            let service = service_fn(move |request| {
                                let page = page.clone();
                                async move { Ok::<_, Infallible>(answer(request, page).await) }
                            });
                            let serving = hyper::server::conn::http1::Builder::new()
                                .timer(TokioTimer::new())
                                .header_read_timeout(HEAD_TIMEOUT)
                                .serve_connection(TokioIo::new(socket), service);
                            let _ = tokio::time::timeout(LONGEST_CONNECTION, serving).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no connection for metrics could be accepted");
                        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                    }
                }
            }
        };
        tokio::select! {
            // A connection that was accepted has a task of its own.
            () = accepting => {}
            () = shutdown.draining() => {}
        }
    }
}

async fn answer<F>(
    request: Request<Incoming>,
    page: impl Fn(Request<Incoming>) -> F,
) -> Response<Body>
where
    F: Future<Output = Response<Body>>,
{
    if !is_meant_for_this_machine(&request) {
        let title = "metrics are for this machine";
        return Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", title).into_response();
    }
    if request.uri().path() != "/metrics" {
        let title = "only /metrics is here";
        return Problem::new(StatusCode::NOT_FOUND, "no-such-route", title).into_response();
    }
    if request.method() != Method::GET {
        let title = "this path wants GET";
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", title).into_response();
    }
    page(request).await
}

/// Whether the name that was asked for is an address or this machine's own: a page in a browser that was led here by
/// a name of its own (DNS rebinding) reads nothing.
fn is_meant_for_this_machine<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(HOST) else {
        return false;
    };
    let Some(host) = host
        .to_str()
        .ok()
        .and_then(|host| host.parse::<http::uri::Authority>().ok())
    else {
        return false;
    };
    let name = host.host().trim_matches(['[', ']']);
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|it| it.is_loopback())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::body;

    async fn ask(address: SocketAddr, head: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("{head}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_metrics_are_there_for_this_machine_and_nothing_else_is() {
        let listener = MetricsListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_address().unwrap();
        let shutdown = Shutdown::new();
        let page = |_| async { Response::new(body::full("x_up 1\n")) };
        let serving = tokio::spawn(listener.serve(page, shutdown.clone()));
        for (head, expected) in [
            (format!("GET /metrics HTTP/1.1\r\nHost: {address}"), "200"),
            ("GET /metrics HTTP/1.1\r\nHost: localhost".to_owned(), "200"),
            (
                "GET /metrics HTTP/1.1\r\nHost: evil.example".to_owned(),
                "421",
            ),
            (
                "GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1".to_owned(),
                "404",
            ),
            (
                "POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0".to_owned(),
                "405",
            ),
        ] {
            let answer = ask(address, &head).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {expected} ")),
                "{head}: {answer}"
            );
            assert_eq!(answer.ends_with("x_up 1\n"), expected == "200", "{answer}");
        }
        shutdown.start_drain();
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn an_address_that_other_machines_reach_is_not_bound() {
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        assert!(MetricsListener::bind(everywhere).is_err());
    }
}
