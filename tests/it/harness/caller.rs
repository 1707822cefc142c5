//! A program that calls private services: HTTP/1.1 or HTTP/2, over TLS or on the plain listener.

use std::fs;
use std::pin::Pin;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderName, Method, Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use relay_agent::body::{self, Body};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::relay::RelayHome;
use super::{CONNECTION, Whole, soon};

/// The header that callers show their token in.
pub(crate) const RELAY_AUTHORIZATION: HeaderName = HeaderName::from_static("relay-authorization");

/// The head of an answer, on its way.
pub(crate) type AnswerHead =
    Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// A caller with one connection to the relay.
pub(crate) struct Caller {
    sender: Sender,
    /// Closes the connection when the caller is dropped.
    _driver: AbortOnDropHandle<()>,
    authority: String,
    token: String,
}

enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

impl Caller {
    /// HTTP/1.1 over TLS.
    pub(crate) async fn http1(relay: &RelayHome, token: &str) -> Self {
        let stream = tls(relay, b"http/1.1").await;
        let sender = speak_http1(stream).await;
        Self::new(sender, relay.authority(), token)
    }

    /// HTTP/2 over TLS.
    pub(crate) async fn http2(relay: &RelayHome, token: &str) -> Self {
        let stream = tls(relay, b"h2").await;
        let sender = speak_http2(stream).await;
        Self::new(sender, relay.authority(), token)
    }

    /// HTTP/1.1 on the plain listener.
    pub(crate) async fn plain(relay: &RelayHome, token: &str) -> Self {
        let tcp = TcpStream::connect(relay.plain_authority()).await.unwrap();
        let sender = speak_http1(tcp).await;
        Self::new(sender, relay.plain_authority(), token)
    }

    fn new((sender, driver): (Sender, JoinHandle<()>), authority: String, token: &str) -> Self {
        Self {
            sender,
            _driver: AbortOnDropHandle::new(driver),
            authority,
            token: token.to_owned(),
        }
    }

    /// Shows another token from now on; none when it is empty.
    pub(crate) fn show(&mut self, token: &str) {
        token.clone_into(&mut self.token);
    }

    /// A request for a path of the service `web` of the usual connection.
    pub(crate) fn request(&self, method: &str, path: &str, body: Body) -> Request<Body> {
        self.request_to(CONNECTION, method, &format!("/web{path}"), body)
    }

    /// A request for `/c/{connection}{path}`.
    pub(crate) fn request_to(
        &self,
        connection: &str,
        method: &str,
        path: &str,
        body: Body,
    ) -> Request<Body> {
        let method: Method = method.parse().unwrap();
        let path = format!("/c/{connection}{path}");
        let request = Request::builder().method(method);
        let request = match &self.sender {
            Sender::One(_) => request.uri(path).header(HOST, &self.authority),
            Sender::Two(_) => request
                .version(Version::HTTP_2)
                .uri(format!("https://{}{path}", self.authority)),
        };
        let request = if self.token.is_empty() {
            request
        } else {
            request.header(RELAY_AUTHORIZATION, format!("Bearer {}", self.token))
        };
        request.body(body).unwrap()
    }

    /// Sends, and waits for the head of the answer.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        soon("the head of an answer", self.begin(request))
            .await
            .unwrap()
    }

    /// Sends; the future is the answer's head.
    pub(crate) fn begin(&mut self, request: Request<Body>) -> AnswerHead {
        match &mut self.sender {
            Sender::One(sender) => Box::pin(sender.send_request(request)),
            Sender::Two(sender) => Box::pin(sender.send_request(request)),
        }
    }

    /// A GET, whole.
    pub(crate) async fn get(&mut self, path: &str) -> Whole {
        let request = self.request("GET", path, body::empty());
        self.whole(request).await
    }

    /// A GET of `/c/{connection}{path}`, whole.
    pub(crate) async fn get_from(&mut self, connection: &str, path: &str) -> Whole {
        let request = self.request_to(connection, "GET", path, body::empty());
        self.whole(request).await
    }

    /// A POST, whole.
    pub(crate) async fn post(&mut self, path: &str, text: &str) -> Whole {
        let request = self.request("POST", path, body::full(text.to_owned()));
        self.whole(request).await
    }

    /// Sends, and takes the whole answer.
    pub(crate) async fn whole(&mut self, request: Request<Body>) -> Whole {
        let answer = self.send(request).await;
        Whole::of(answer).await
    }

    /// Whether the relay has ended this connection.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }
}

/// The next piece of a body, as text; nothing at its end.
pub(crate) async fn next_piece(body: &mut Incoming) -> Option<String> {
    loop {
        let frame = soon("the next piece of a body", body.frame()).await?;
        let data = frame.unwrap().into_data().ok()?;
        // HTTP/2 may end with an empty one.
        if !data.is_empty() {
            return Some(String::from_utf8(data.to_vec()).unwrap());
        }
    }
}

/// A TLS connection that trusts the relay's own certificate.
pub(crate) async fn tls(relay: &RelayHome, protocol: &[u8]) -> TlsStream<TcpStream> {
    let home = relay;
    let mut roots = RootCertStore::empty();
    roots.add(certificate(relay)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let tcp = TcpStream::connect(home.authority()).await.unwrap();
    let host = ServerName::try_from(home.host().to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(host, tcp).await.unwrap()
}

fn certificate(relay: &RelayHome) -> CertificateDer<'static> {
    let mut directories = vec![relay.state()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.ends_with("self-signed-certificate.pem") {
                return CertificateDer::from_pem_file(path).unwrap();
            }
        }
    }
    panic!("the relay has made no certificate");
}

async fn speak_http1<S>(stream: S) -> (Sender, JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(async { drop(connection.with_upgrades().await) });
    (Sender::One(sender), driver)
}

async fn speak_http2<S>(stream: S) -> (Sender, JoinHandle<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(async { drop(connection.await) });
    (Sender::Two(sender), driver)
}
