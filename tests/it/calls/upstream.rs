//! A private service that does what the path says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use relay_agent::body::{self, Body};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::harness::answers::{Pieces, in_pieces};

/// The size of each piece of `/open/endless`.
const PIECE: usize = 64 * 1024;

/// A running service.
pub(crate) struct Upstream {
    /// Its address.
    pub(crate) url: String,
    /// Sends the events of `/open/events`; closed when their reader has gone.
    pub(crate) events: Pieces,
    /// Told when a request to `/open/never`, or one with a body that breaks off, is given up.
    pub(crate) given_up: Arc<Notify>,
    /// Told when such a request has begun.
    pub(crate) begun: Arc<Notify>,
    /// The headers of each request, in order.
    pub(crate) seen: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Upstream {
    /// Starts the service on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (events, body) = in_pieces();
        let state = Arc::new(State {
            events: Mutex::new(Some(body)),
            given_up: Arc::new(Notify::new()),
            begun: Arc::new(Notify::new()),
            seen: Arc::default(),
        });
        let (given_up, begun) = (Arc::clone(&state.given_up), Arc::clone(&state.begun));
        let seen = Arc::clone(&state.seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = Arc::clone(&state);
                let service = service_fn(move |request: Request<Incoming>| {
                    state.seen.lock().unwrap().push(request.headers().clone());
                    let state = Arc::clone(&state);
                    async move { Ok::<_, Infallible>(answer(request, &state).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self {
            url,
            events,
            given_up,
            begun,
            seen,
        }
    }

    /// The headers of the last request.
    pub(crate) fn last_seen(&self) -> HeaderMap {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

struct State {
    events: Mutex<Option<Body>>,
    given_up: Arc<Notify>,
    begun: Arc<Notify>,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
}

/// Tells when it is dropped.
struct GivenUp(Arc<Notify>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

async fn answer(request: Request<Incoming>, state: &State) -> Response<Body> {
    match request.uri().path() {
        "/open/echo" => Response::builder()
            .header("trailer", "x-sum")
            .body(body::streaming(request.into_body()))
            .unwrap(),
        "/open/length" => {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(body::full(body.len().to_string()))
        }
        "/open/events" => {
            let body = state.events.lock().unwrap().take().unwrap();
            let response = Response::builder().header("content-type", "text/event-stream");
            response.body(body).unwrap()
        }
        "/open/endless" => {
            let piece =
                || async { Ok::<_, Infallible>(Frame::data(Bytes::from(vec![b'x'; PIECE]))) };
            let pieces = stream::unfold((), move |()| async move { Some((piece().await, ())) });
            Response::new(body::streaming(StreamBody::new(Box::pin(pieces))))
        }
        "/open/never" => {
            let _guard = GivenUp(Arc::clone(&state.given_up));
            state.begun.notify_one();
            // Reads the body meanwhile, as a service that needs it whole would.
            if request.into_body().collect().await.is_ok() {
                std::future::pending::<()>().await;
            }
            Response::new(body::empty())
        }
        "/open/head" => Response::builder()
            .header("content-length", "1234")
            .body(body::empty())
            .unwrap(),
        "/open/204" => Response::builder().status(204).body(body::empty()).unwrap(),
        "/open/304" => Response::builder()
            .status(304)
            .header("etag", "\"1\"")
            .body(body::empty())
            .unwrap(),
        _ => Response::new(body::full(request.uri().to_string())),
    }
}
