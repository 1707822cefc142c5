//! A relay, an agent and an upstream in this process, linked over loopback, with a token to call with.

use std::net::SocketAddr;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use relay_agent::body::{self, Body};
use tokio::net::TcpStream;

use crate::harness::{CONNECTION, TestAgent, TestRelay, soon};

/// Both sides, linked; they end with it.
pub(crate) struct World {
    /// Where callers reach the relay, without TLS.
    pub(crate) callers: SocketAddr,
    /// What opens the connection `acme_to_widgets`.
    pub(crate) token: String,
    pub(crate) relay: TestRelay,
    pub(crate) agent: TestAgent,
}

impl World {
    /// A world in which `/c/acme_to_widgets/web/…` reaches `url`, but for what does not begin with `/open`.
    pub(crate) async fn with_upstream(url: &str) -> Self {
        let relay = TestRelay::start_with("[limits]\ncalls_per_connection = 50").await;
        let agent = TestAgent::start_with(&format!(
            "[[upstream]]\nname = 'web'\nurl = '{url}'\nmax_in_flight = 200\n\
             [[upstream.allow]]\nmethods = ['GET', 'HEAD', 'POST']\npath = '/open/{{*rest}}'\n"
        ))
        .await;
        agent.accept(&relay.initiate("acme", "widgets").await).await;
        relay.until_online(CONNECTION).await;
        Self {
            callers: relay.home().plain_authority().parse().unwrap(),
            token: relay.token(Some(CONNECTION)).await,
            relay,
            agent,
        }
    }

    /// A request for a path of the upstream, with the token.
    pub(crate) fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(format!("/c/acme_to_widgets/web{path}"))
            .header("host", self.callers.to_string())
            .header("relay-authorization", format!("Bearer {}", self.token))
            .body(body)
            .unwrap()
    }

    /// The same without a body.
    pub(crate) fn get(&self, path: &str) -> Request<Body> {
        self.request(Method::GET, path, body::empty())
    }

    /// Sends a request over a new HTTP/1.1 connection.
    pub(crate) async fn call(&self, request: Request<Body>) -> Response<Incoming> {
        let mut caller = self.http1().await;
        within(caller.send_request(request)).await.unwrap()
    }

    /// An HTTP/1.1 connection to the relay.
    pub(crate) async fn http1(&self) -> http1::SendRequest<Body> {
        let stream = TcpStream::connect(self.callers).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// An HTTP/2 connection to the relay. Its requests need an absolute address.
    pub(crate) async fn http2(&self) -> http2::SendRequest<Body> {
        let stream = TcpStream::connect(self.callers).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A request as HTTP/2 wants it.
    pub(crate) fn absolute(&self, mut request: Request<Body>) -> Request<Body> {
        request.headers_mut().remove("host");
        let uri = format!("http://{}{}", self.callers, request.uri());
        *request.uri_mut() = uri.parse().unwrap();
        request
    }
}

/// Waits for what must come.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    soon("what a call waits for", future).await
}
