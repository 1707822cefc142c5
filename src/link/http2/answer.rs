//! The body of an answer on its way down a lane.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body, Frame};

/// A streaming body: read as fast as the reader takes it; dropped before its end, it cancels the call.
#[derive(Debug)]
pub struct AnswerBody {
    stream: RecvStream,
    has_data_ended: bool,
}

impl AnswerBody {
    pub(super) const fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            has_data_ended: false,
        }
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.has_data_ended {
            if let Some(data) = ready!(self.stream.poll_data(cx)).transpose()? {
                // Makes room for as much again. Fails only where the stream has ended meanwhile.
                let _ = self.stream.flow_control().release_capacity(data.len());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.has_data_ended = true;
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(trailers.map(Frame::trailers).map(Ok))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.get_mut().poll_piece(cx).map(|piece| match piece {
            // A reset without an error ends what can be read, no more (RFC 9113, section 8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => None,
            piece => piece,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
