//! HTTP/2 on a lane: the serving end and the calling end.
//!
//! Both begin with the lane's first request, so that an idle link holds no HTTP/2 buffers. Keep-alive
//! belongs to the session; HTTP/2 sends no pings here.

mod answer;
mod client;
mod tunnel;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder as ServerBuilder;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};

pub use self::answer::AnswerBody;
pub use self::client::{LaneClient, Opened, SendError};
pub use self::tunnel::LaneTunnel;
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

/// Whether HTTP/2 ended because its lane did, which is nobody's fault here: the link knows why.
#[must_use]
pub fn ended_with_its_lane(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}
