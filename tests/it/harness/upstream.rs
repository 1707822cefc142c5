//! A private service that records what reaches it, and answers as its test says.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_agent::body::{self, Body, BodyError};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::answers::{Pieces, at_once, in_pieces};
use super::wait_until;

/// Allows everything of an upstream.
const ALLOW_ALL: &str = "[[upstream.allow]]\nmethods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', \
                         'DELETE', 'OPTIONS', 'PROPFIND']\npath = '/{*rest}'\n";

/// What answers a request: an answer, or an error, which cuts the connection.
pub(crate) type Answer =
    Pin<Box<dyn Future<Output = Result<Response<Body>, BodyError>> + Send + 'static>>;

/// A private service in this process, until it is dropped.
pub(crate) struct Upstream {
    address: SocketAddr,
    record: Arc<Record>,
    _accepting: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Record {
    calls: Mutex<Vec<Arc<Seen>>>,
    connections: AtomicU64,
}

/// A request as it arrived.
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query, byte for byte.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    body: Mutex<Vec<u8>>,
    is_over: AtomicBool,
    taken: AtomicU64,
}

impl Upstream {
    /// One that gives every request to `answer`.
    pub(crate) async fn new<F>(answer: F) -> Self
    where
        F: Fn(Request<Recorded>) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let accepting = accept(listener, Arc::clone(&record), Arc::new(answer));
        Self {
            address,
            record,
            _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)),
        }
    }

    /// One that answers `/slow` once, in pieces, and everything else at once.
    pub(crate) async fn with_slow() -> (Self, Pieces) {
        let (pieces, slow) = in_pieces();
        let slow = Mutex::new(Some(slow));
        let answer = move |request: Request<Recorded>| {
            let body = match request.uri().path() {
                "/slow" => slow.lock().unwrap().take().unwrap(),
                _ => body::full("at once"),
            };
            at_once(Response::new(body))
        };
        (Self::new(answer).await, pieces)
    }

    /// The lines that make it known to an agent as `name`, with everything allowed.
    pub(crate) fn configuration(&self, name: &str, more: &str) -> String {
        configuration(self.address, name, more)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    pub(crate) fn calls(&self) -> Vec<Arc<Seen>> {
        self.record.calls.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn call(&self) -> Arc<Seen> {
        let calls = self.calls();
        assert_eq!(calls.len(), 1);
        Arc::clone(&calls[0])
    }

    /// Waits until so many requests have arrived; returns the last.
    pub(crate) async fn until_called(&self, times: usize) -> Arc<Seen> {
        let what = format!("{times} calls reach the private service");
        wait_until(&what, async || self.calls().len() >= times).await;
        Arc::clone(&self.calls()[times - 1])
    }

    /// How many TCP connections were made to it.
    pub(crate) fn connections(&self) -> u64 {
        self.record.connections.load(Ordering::Relaxed)
    }
}

impl Seen {
    /// The body so far.
    pub(crate) fn body(&self) -> Vec<u8> {
        self.body.lock().unwrap().clone()
    }

    /// One header's value, or the empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Whether the service is rid of the request: its answer was taken whole, or nobody wants it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// How many bytes of the answer's body were taken from the service.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Everything that arrived, as text to search.
    pub(crate) fn dump(&self) -> String {
        let body = self.body();
        let body = String::from_utf8_lossy(&body);
        format!("{} {} {:?} {body}", self.method, self.target, self.headers)
    }
}

/// The lines that make an address known to an agent as `name`, with everything allowed.
pub(crate) fn configuration(address: SocketAddr, name: &str, more: &str) -> String {
    format!("[[upstream]]\nname = '{name}'\nurl = 'http://{address}'\n{more}\n{ALLOW_ALL}")
}

async fn accept<F>(listener: TcpListener, record: Arc<Record>, answer: Arc<F>)
where
    F: Fn(Request<Recorded>) -> Answer + Send + Sync + 'static,
{
    // Dropped with the service, and its connections with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        record.connections.fetch_add(1, Ordering::Relaxed);
        let (record, answer) = (Arc::clone(&record), Arc::clone(&answer));
        let service = service_fn(move |request| serve(request, Arc::clone(&record), &*answer));
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .max_buf_size(1024 * 1024)
                .serve_connection(TokioIo::new(tcp), service)
                .with_upgrades();
            // Cut connections are what some tests are about.
            let _ = connection.await;
        });
    }
}

fn serve<F>(
    request: Request<Incoming>,
    record: Arc<Record>,
    answer: &F,
) -> impl Future<Output = Result<Response<Counted>, BodyError>> + Send + use<F>
where
    F: Fn(Request<Recorded>) -> Answer + Send + Sync + 'static,
{
    let seen = Arc::new(Seen {
        method: request.method().clone(),
        target: request.uri().to_string(),
        headers: request.headers().clone(),
        body: Mutex::default(),
        is_over: AtomicBool::new(false),
        taken: AtomicU64::new(0),
    });
    record.calls.lock().unwrap().push(Arc::clone(&seen));
    let guard = Guard(Arc::clone(&seen));
    let answer = answer(request.map(|body| Recorded { body, seen }));
    async move {
        let response = answer.await?;
        Ok(response.map(|body| Counted { body, guard }))
    }
}

/// Notes the end of a request, whichever it is.
struct Guard(Arc<Seen>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// A request's body, noted as it is read.
pub(crate) struct Recorded {
    body: Incoming,
    seen: Arc<Seen>,
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.seen.body.lock().unwrap().extend_from_slice(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// An answer's body, counted as it is taken.
struct Counted {
    body: Body,
    guard: Guard,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let length = data.len() as u64;
            self.guard.0.taken.fetch_add(length, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// An address where nobody listens, and of which nobody is given a port.
pub(crate) fn nobody() -> SocketAddr {
    ([127, 255, 255, 254], 1).into()
}

/// What most tests need to build answers with.
pub(crate) fn answer_with(body: impl Into<Bytes>) -> Response<Body> {
    Response::new(body::full(body))
}
