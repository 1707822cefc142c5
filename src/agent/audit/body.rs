//! Bodies on their way past the audit log: the request's is counted, the answer's last piece waits for its line.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::account::Account;
use super::desk::Unavailable;
use super::entry::{Entry, Which};
use super::line::Finish;
use crate::body::capped::TooLong;
use crate::body::watched::{Seen, Watched, Watcher};
use crate::body::{Body, BodyError, length};

/// The body of a request: what passes is counted.
pub type Received<B> = Watched<B, Tally>;

/// Counts what passes of the body of a request.
#[derive(Debug)]
pub struct Tally(pub(super) Arc<Entry>);

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
    /// This has come, and is passed on next.
    Passing(Result<Frame<Bytes>, BodyError>),
    /// All has come from the upstream, and this is held: the last piece, or that there is none.
    Holding(Option<Frame<Bytes>>),
    /// The end has passed.
    Done,
}

impl Watcher for Tally {
    fn saw(&mut self, _: Seen) {}

    fn passed(&mut self, bytes: u64) {
        let count = &self.0.request_bytes;
        count.fetch_add(bytes, Ordering::Relaxed);
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

    /// Looks at what is there already. Where that is the whole answer, as with most small ones, waits for its line
    /// here, so that it leaves in one piece with its head: two pieces would cost each side another turn.
    ///
    /// # Errors
    /// When an answer that was there whole could not be written down.
    pub(super) async fn begin(mut self) -> Result<Self, Unavailable> {
        let looked = poll_fn(|context| Poll::Ready(Pin::new(&mut self.body).poll_frame(context)));
        if let Poll::Ready(came) = looked.await {
            self.state = self.came(came);
        }
        if matches!(self.state, State::Holding(_)) {
            self.account.written(Which::End).await?;
        }
        Ok(self)
    }

    /// Notes what has come from the upstream.
    fn came(&self, came: Option<Result<Frame<Bytes>, BodyError>>) -> State {
        let last = match came {
            Some(Ok(frame)) => {
                self.account.count(length(&frame));
                // Nobody asks for more after trailers, though the body may not know that they are its end.
                if !frame.is_trailers() && !self.body.is_end_stream() {
                    return State::Passing(Ok(frame));
                }
                Some(frame)
            }
            Some(Err(error)) => {
                // Nobody takes this for a whole answer: nothing to wait for.
                let too_long = error.downcast_ref::<TooLong>();
                self.account.broken_off(too_long.map(TooLong::to_string));
                return State::Passing(Err(error));
            }
            None => None,
        };
        self.account.answered(Finish::Whole);
        State::Holding(last)
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
            let came = ready!(Pin::new(&mut this.body).poll_frame(context));
            this.state = this.came(came);
        }
        if matches!(this.state, State::Holding(_)) {
            let written = ready!(this.account.poll_written(Which::End, context));
            if let Err(unavailable) = written {
                this.state = State::Passing(Err(unavailable.into()));
            }
        }
        Poll::Ready(match std::mem::replace(&mut this.state, State::Done) {
            State::Passing(Ok(frame)) => {
                this.state = State::Streaming;
                Some(Ok(frame))
            }
            State::Passing(Err(error)) => Some(Err(error)),
            State::Holding(last) => last.map(Ok),
            State::Streaming | State::Done => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Streaming => self.body.size_hint(),
            State::Passing(came) => with(self.body.size_hint(), came.as_ref().map_or(0, length)),
            State::Holding(last) => SizeHint::with_exact(last.as_ref().map_or(0, length)),
            State::Done => SizeHint::with_exact(0),
        }
    }
}

/// What is expected when so many bytes come before it.
fn with(hint: SizeHint, bytes: u64) -> SizeHint {
    let mut more = SizeHint::new();
    more.set_lower(hint.lower().saturating_add(bytes));
    if let Some(upper) = hint.upper() {
        more.set_upper(upper.saturating_add(bytes));
    }
    more
}
