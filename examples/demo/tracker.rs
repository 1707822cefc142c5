//! A small issue tracker, such as stands in a private network: a few issues, a REST API, a stream of events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_agent::body::{self, Body};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

/// Events a slow follower may be behind.
const EVENTS_KEPT: usize = 16;

/// The tracker's issues by key, and its events.
struct Tracker {
    issues: Mutex<BTreeMap<String, Value>>,
    events: broadcast::Sender<String>,
}

/// Starts the tracker on a free port of loopback.
pub(crate) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let tracker = Arc::new(Tracker {
        issues: Mutex::new(BTreeMap::from([
            issue("OPS-1", "The printer on the third floor is on fire"),
            issue("OPS-2", "Synchronise this with the other company"),
        ])),
        events: broadcast::Sender::new(EVENTS_KEPT),
    });
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let tracker = Arc::clone(&tracker);
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(Arc::clone(&tracker), request));
                // A caller that goes away is no trouble of the tracker's.
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service);
                let _ = connection.await;
            });
        }
    });
    Ok(address)
}

fn issue(key: &str, summary: &str) -> (String, Value) {
    (
        key.to_owned(),
        json!({ "key": key, "fields": { "summary": summary } }),
    )
}

async fn answer(
    tracker: Arc<Tracker>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let key = path.strip_prefix("/rest/api/2/issue/");
    Ok(match (request.method(), path.as_str(), key) {
        (&Method::GET, _, Some(key)) => tracker.read(key),
        (&Method::POST, "/rest/api/2/issue", _) => tracker.create(request).await,
        (&Method::GET, "/rest/api/2/events", _) => tracker.follow(),
        _ => text(StatusCode::NOT_FOUND, "no such thing here"),
    })
}

impl Tracker {
    fn read(&self, key: &str) -> Response<Body> {
        let issues = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
        match issues.get(key) {
            Some(issue) => text(StatusCode::OK, &issue.to_string()),
            None => text(StatusCode::NOT_FOUND, "no such issue"),
        }
    }

    async fn create(&self, request: Request<Incoming>) -> Response<Body> {
        let body = request
            .into_body()
            .collect()
            .await
            .map(|body| body.to_bytes());
        let Ok(fields) = body
            .map_err(drop)
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).map_err(drop))
        else {
            return text(StatusCode::BAD_REQUEST, "not JSON");
        };
        let mut issues = self.issues.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("OPS-{}", issues.len() + 1);
        let issue = json!({ "key": key, "fields": fields["fields"] });
        issues.insert(key.clone(), issue.clone());
        // Nobody may be following.
        let _ = self.events.send(format!("event: created\ndata: {key}\n\n"));
        text(StatusCode::CREATED, &issue.to_string())
    }

    fn follow(&self) -> Response<Body> {
        let events = Events::of(self.events.subscribe());
        let mut response = Response::new(body::streaming(events));
        let kind = header::HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

fn text(status: StatusCode, content: &str) -> Response<Body> {
    let mut response = Response::new(body::full(content.to_owned()));
    *response.status_mut() = status;
    response
}

/// A body that ends never: one frame for each event.
struct Events {
    next: Pin<Box<dyn Future<Output = Option<Next>> + Send>>,
}

/// An event, and where those after it come from.
type Next = (String, broadcast::Receiver<String>);

impl Events {
    fn of(mut events: broadcast::Receiver<String>) -> Self {
        Self {
            next: Box::pin(async move { events.recv().await.ok().map(|event| (event, events)) }),
        }
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.next.as_mut().poll(cx).map(|next| {
            let (event, events) = next?;
            *self = Self::of(events);
            Some(Ok(Frame::data(Bytes::from(event))))
        })
    }
}
