//! An HTTP connection of either version, to be polled and stopped without knowing which.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::forwarding::MAX_HEAD_BYTES;
use crate::link::tls::Stream;
use crate::relay::activity::Answer;
use crate::relay::strict::Strict;

/// The buffer of one HTTP/1.1 socket: the largest head, and what one read of a body brings.
const HTTP1_BUFFER: usize = 64 * 1024;
/// Calls at once on one HTTP/2 socket; callers open another for more.
const HTTP2_STREAMS: u32 = 250;
/// How far a caller may be ahead of the agent with one body, and behind it with one answer.
const HTTP2_STREAM_WINDOW: u32 = 1024 * 1024;
/// The same for all bodies of one socket together.
const HTTP2_CONNECTION_WINDOW: u32 = 4 * HTTP2_STREAM_WINDOW;

/// A connection: polled, it answers requests until it ends, for whichever reason.
pub(super) trait Connection: Future<Output = ()> + Send + Unpin {
    /// Finishes what is under way and takes nothing new.
    fn stop(&mut self);
}

/// Begins HTTP/1.1.
pub(super) fn http1<S>(stream: Strict, service: S) -> Box<dyn Connection>
where
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let connection = http1::Builder::new()
        .max_buf_size(HTTP1_BUFFER)
        .max_header_size(MAX_HEAD_BYTES)
        // The socket's own deadlines cover slow heads, without a timer for each request.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    Box::new(Stoppable {
        connection: Box::pin(connection),
        stop: http1::UpgradeableConnection::graceful_shutdown,
    })
}

/// Begins HTTP/2.
pub(super) fn http2<S>(stream: Stream, service: S) -> Box<dyn Connection>
where
    S: Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    let connection = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(stream), service);
    Box::new(Stoppable {
        connection: Box::pin(connection),
        stop: http2::Connection::graceful_shutdown,
    })
}

struct Stoppable<C> {
    connection: Pin<Box<C>>,
    stop: fn(Pin<&mut C>),
}

impl<C: Future<Output = hyper::Result<()>> + Send> Connection for Stoppable<C> {
    fn stop(&mut self) {
        (self.stop)(self.connection.as_mut());
    }
}

impl<C: Future<Output = hyper::Result<()>>> Future for Stoppable<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.connection.as_mut().poll(context).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, "a caller's connection broke");
            }
        })
    }
}
