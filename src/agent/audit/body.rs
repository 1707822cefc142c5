//! Bodies on their way past the audit log: the request's is counted, the answer's last piece waits for its line.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::account::Account;
use super::entry::{Entry, Which};
use super::line::Finish;
use crate::body::{Body, BodyError};

/// The body of a request: what passes is counted.
#[derive(Debug)]
pub struct Received<B> {
    body: B,
    entry: Arc<Entry>,
}

/// The body of an answer, whose end is held until it is written down.
#[derive(Debug)]
pub(super) struct Held {
    body: Body,
    account: Account,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Pieces pass.
    Streaming,
    /// All has come from the upstream, and this is held: the last piece, or that there is none.
    Holding(Option<Frame<Bytes>>),
    /// The end has passed.
    Done,
}

impl<B> Received<B> {
    pub(super) const fn new(body: B, entry: Arc<Entry>) -> Self {
        Self { body, entry }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Received<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let count = &self.entry.request_bytes;
            count.fetch_add(length(frame), Ordering::Relaxed);
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

impl Held {
    pub(super) const fn new(body: Body, account: Account) -> Self {
        let state = State::Streaming;
        Self {
            body,
            account,
            state,
        }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if matches!(this.state, State::Streaming) {
            let last = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    this.account.count(length(&frame));
                    if !this.body.is_end_stream() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    Some(frame)
                }
                None => None,
                Some(Err(error)) => {
                    // Nobody takes this for a whole answer: nothing to wait for.
                    this.account.answered(Finish::BrokenOff);
                    this.state = State::Done;
                    return Poll::Ready(Some(Err(error)));
                }
            };
            this.account.answered(Finish::Whole);
            this.state = State::Holding(last);
        }
        if matches!(this.state, State::Holding(_)) {
            let written = ready!(this.account.poll_written(Which::End, context));
            let State::Holding(last) = std::mem::replace(&mut this.state, State::Done) else {
                return Poll::Ready(None);
            };
            return Poll::Ready(match written {
                Ok(()) => last.map(Ok),
                Err(unavailable) => Some(Err(unavailable.into())),
            });
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Streaming => self.body.size_hint(),
            State::Holding(last) => SizeHint::with_exact(last.as_ref().map_or(0, length)),
            State::Done => SizeHint::with_exact(0),
        }
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}
