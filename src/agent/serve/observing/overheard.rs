//! A body that is listened to while it passes, for candidate rules that look at it. Passes unchanged, and at once.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::gathering::CallBody;
use crate::agent::policy::{GivenBody, WholeBody};
use crate::body::BodyError;

/// All bodies that are kept at one time until they have passed, in KiB. Apart from the room of those that rules in
/// force look at, which must not be taken by an attempt.
const ROOM: usize = 8 * 1024;

/// What is to be done with what was heard; nothing where that was not all.
type Judge = Box<dyn FnOnce(Option<GivenBody<'_>>) + Send>;

/// The room for bodies that are overheard.
#[derive(Debug)]
pub(super) struct Ears {
    room: Arc<Semaphore>,
}

/// A body that passes and is listened to.
pub(in crate::agent::serve) struct Overheard {
    body: Incoming,
    heard: Vec<Bytes>,
    length: usize,
    /// Its whole length, where the head tells.
    expected: Option<usize>,
    limit: usize,
    /// Until it is known what the body is.
    judge: Option<Judge>,
    room: Option<OwnedSemaphorePermit>,
}

impl Default for Ears {
    fn default() -> Self {
        Self {
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }
}

impl Ears {
    /// Listens to a body, up to so many bytes, if there is room.
    pub(super) fn hear(&self, body: Incoming, limit: usize, judge: Judge) -> CallBody {
        let hint = body.size_hint();
        if hint.lower() > limit as u64 {
            judge(Some(GivenBody::TooLong));
            return CallBody::Streaming(body);
        }
        let most: Option<usize> = hint.exact().and_then(|exact| exact.try_into().ok());
        let pieces = most.unwrap_or(limit).div_ceil(1024);
        let room = Arc::clone(&self.room);
        let room = room.try_acquire_many_owned(u32::try_from(pieces).unwrap_or(u32::MAX));
        let Ok(room) = room else {
            judge(None);
            return CallBody::Streaming(body);
        };
        CallBody::Overheard(Box::new(Overheard {
            body,
            heard: Vec::new(),
            length: 0,
            expected: most,
            limit,
            judge: Some(judge),
            room: Some(room),
        }))
    }
}

impl Overheard {
    fn hear(&mut self, frame: &Frame<Bytes>) {
        let Some(data) = frame.data_ref().filter(|_| self.judge.is_some()) else {
            return;
        };
        self.length += data.len();
        if self.length > self.limit {
            return self.decide(Some(GivenBody::TooLong));
        }
        self.heard.push(data.clone());
    }

    fn end(&mut self) {
        if self.judge.is_none() {
            return;
        }
        let bytes = match std::mem::take(&mut self.heard).as_mut_slice() {
            [only] => std::mem::take(only),
            pieces => {
                let mut joined = BytesMut::with_capacity(self.length);
                pieces.iter().for_each(|it| joined.extend_from_slice(it));
                joined.freeze()
            }
        };
        let whole = WholeBody::new(bytes);
        self.decide(Some(GivenBody::Whole(&whole)));
    }

    fn decide(&mut self, given: Option<GivenBody<'_>>) {
        if let Some(judge) = self.judge.take() {
            judge(given);
        }
        self.heard = Vec::new();
        self.room = None;
    }
}

impl HttpBody for Overheard {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &polled {
            Some(Ok(frame)) => {
                self.hear(frame);
                // Those who know its length do not ask for what follows the last piece.
                if self.body.is_end_stream() || self.expected == Some(self.length) {
                    self.end();
                }
            }
            Some(Err(_)) => self.decide(None),
            None => self.end(),
        }
        Poll::Ready(polled.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Overheard {
    /// Where nobody has read it to its end.
    fn drop(&mut self) {
        self.decide(None);
    }
}

impl fmt::Debug for Overheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, limit, .. } = self;
        f.debug_struct("Overheard")
            .field("length", length)
            .field("limit", limit)
            .finish_non_exhaustive()
    }
}
