//! An upstream's answer on its way out: when its body has been read to the end, the connection is kept.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::pool::{Connection, Pool};
use crate::body::{self, Body};

/// The answer with a body that gives connection and place back when it has ended, and that closes
/// the connection when it is dropped before.
pub(super) fn pass_on(
    response: Response<Incoming>,
    connection: Connection,
    pool: Arc<Pool>,
    place: OwnedSemaphorePermit,
) -> Response<Body> {
    response.map(|body| {
        if body.is_end_stream() {
            pool.put(connection);
            return body::empty();
        }
        body::streaming(Answer {
            body,
            held: Some((connection, pool, place)),
        })
    })
}

struct Answer {
    body: Incoming,
    held: Option<(Connection, Arc<Pool>, OwnedSemaphorePermit)>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Ok(_))) if self.body.is_end_stream() => self.give_back(),
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
            Poll::Ready(Some(Err(_))) => self.held = None,
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Answer {
    fn give_back(&mut self) {
        if let Some((connection, pool, _place)) = self.held.take() {
            pool.put(connection);
        }
    }
}
