//! HTTP/2 on a lane: the serving end and the calling end.
//!
//! Both begin with the lane's first request, so that an idle link holds no HTTP/2 buffers. Keep-alive
//! belongs to the session; HTTP/2 sends no pings here.

use std::sync::{Arc, Mutex, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder as ClientBuilder, SendRequest};
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder as ServerBuilder;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::lane::LaneStream;
use crate::body::{Body, BodyError};

/// How far a sender may be ahead of the reader of one body. A window is given back by halves, so some 60 % of it is in
/// use on a long path: 400 Mbit/s at 50 ms (`benches/link_survival`). Go's client has the same.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// How far all senders together may be ahead. Thirty-two readers may stall before others feel it;
/// it bounds what one link can make a side hold, 128 MiB.
const CONNECTION_WINDOW: u32 = 32 * STREAM_WINDOW;
/// The largest piece of a body. Small calls take turns with large ones at this grain.
const FRAME_SIZE: u32 = 32 * 1024;
/// How much of one body may wait for its window on the sender's side.
const SEND_BUFFER: usize = 128 * 1024;
/// Calls at once on one lane; the relay's own limit is lower and answers in words.
const STREAMS: u32 = 8192;
/// How many streams the library may reset by itself before it gives the connection up. No number: it counts
/// over the connection's whole life, which is that of a link, and callers who leave make it grow. In the
/// same way, as many calls may be taken back before they were looked at as may be under way; by default
/// twenty that left together would end the link for all the others. The other side has proven who it is.
const RESETS: Option<usize> = None;
/// The longest list of header fields: above the limits of both programs' outsides, so that what they let pass, passes.
const HEADER_LIST: u32 = 128 * 1024;

/// The calling end of a lane. Cheap to clone.
#[derive(Clone)]
pub struct LaneClient {
    state: Arc<Mutex<State>>,
}

enum State {
    Idle(LaneStream),
    Started(SendRequest<Body>),
    /// HTTP/2 could not be started; the lane is of no more use.
    Broken,
}

/// Why a call over a lane got no answer, told apart by what the other side may have done.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The request never left: trying again is safe.
    #[error("the link was lost before the request was sent")]
    NotSent,
    /// The other side said that it did not process the request (RFC 9113, section 8.7): trying again is safe.
    #[error("the other side refused the request unprocessed")]
    Refused,
    /// The request may have been processed.
    #[error("the link was lost after the request was sent")]
    OutcomeUnknown(#[source] BodyError),
}

impl LaneClient {
    /// Takes the lane; nothing is sent yet.
    #[must_use]
    pub fn new(lane: LaneStream) -> Self {
        Self {
            state: Arc::new(Mutex::new(State::Idle(lane))),
        }
    }

    /// Sends a request and waits for the head of its answer. Dropping the future, or later the
    /// answer's body, cancels the call on the other side too.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        let mut sender = match self.started()? {
            Some(sender) => sender,
            // Apart, so that the first call's part does not make every call's future larger.
            None => Box::pin(self.start()).await?,
        };
        sender
            .try_send_request(request)
            .await
            .map_err(|mut failed| {
                if failed.take_message().is_some() {
                    return SendError::NotSent;
                }
                let error = failed.into_error();
                if is_refused(&error) {
                    SendError::Refused
                } else {
                    SendError::OutcomeUnknown(error.into())
                }
            })
    }

    /// The lane's HTTP/2, once it has begun.
    fn started(&self) -> Result<Option<SendRequest<Body>>, SendError> {
        match &*self.lock() {
            State::Idle(_) => Ok(None),
            State::Started(sender) => Ok(Some(sender.clone())),
            State::Broken => Err(SendError::NotSent),
        }
    }

    /// Begins the lane's HTTP/2.
    async fn start(&self) -> Result<SendRequest<Body>, SendError> {
        let state = std::mem::replace(&mut *self.lock(), State::Broken);
        let lane = match state {
            State::Idle(lane) => lane,
            State::Started(sender) => {
                *self.lock() = State::Started(sender.clone());
                return Ok(sender);
            }
            State::Broken => return Err(SendError::NotSent),
        };
        // Only queues the preface: the first poll completes it, so nobody else sees `Broken` meanwhile.
        let (sender, connection) = handshake(lane).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a lane's HTTP/2 ended");
            }
        });
        *self.lock() = State::Started(sender.clone());
        Ok(sender)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Connection = hyper::client::conn::http2::Connection<TokioIo<LaneStream>, Body, Boxing>;

async fn handshake(lane: LaneStream) -> Result<(SendRequest<Body>, Connection), SendError> {
    ClientBuilder::new(Boxing)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .initial_max_send_streams(STREAMS as usize)
        .max_local_error_reset_streams(RESETS)
        .handshake(TokioIo::new(lane))
        .await
        .map_err(|_| SendError::NotSent)
}

/// Spawns the calling end's futures boxed. What waits for a call's answer is of one type with the
/// whole connection, which is large, and would be moved six times on its way into a task.
#[derive(Clone)]
struct Boxing;

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Boxing {
    fn execute(&self, future: F) {
        tokio::spawn(Box::pin(future));
    }
}

/// Serves a lane until it ends, or until `draining` and everything in flight is answered.
///
/// # Errors
/// When the other side breaks HTTP/2.
pub async fn serve<S, D>(lane: LaneStream, service: S, draining: D) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response<Body>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BodyError>,
    D: Future<Output = ()> + Send,
{
    let mut draining = std::pin::pin!(draining);
    tokio::select! {
        // Both only wait: nothing is lost when the other wins.
        () = lane.readable() => {}
        () = &mut draining => return Ok(()),
    }
    let connection = ServerBuilder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_SIZE)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(STREAMS as usize)
        .max_local_error_reset_streams(RESETS)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(lane), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // The connection is polled on below; draining only waits.
        ended = &mut connection => return ended,
        () = &mut draining => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// An error that makes hyper refuse a stream as not processed, for a service that is draining.
#[must_use]
pub fn refused_stream() -> BodyError {
    Box::new(h2::Error::from(h2::Reason::REFUSED_STREAM))
}

fn is_refused(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        cause = error.source();
    }
    false
}
