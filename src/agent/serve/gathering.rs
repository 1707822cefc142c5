//! Gathers the body of a call, where a rule that could decide looks at it.
//!
//! Up to a bound, within a deadline, and in room that all calls share. What was gathered is what is sent, byte
//! for byte; what is longer streams on behind it. Calls of upstreams without such rules never come here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::EXPECT;
use http::{HeaderMap, Method, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::LinkOwner;
use super::observing::Overheard;
use crate::agent::policy::{GivenBody, WholeBody};
use crate::body::BodyError;
use crate::forwarding::RELAY_REQUEST_ID;

/// All bodies that are held at one time, in KiB: 128 of the largest usual ones. The whole agent is meant to live
/// in a few dozen MiB.
const ROOM: usize = 32 * 1024;
/// A body that is small enough to be gathered takes seconds on the slowest of links; whoever takes longer holds
/// room that others wait for.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a call without a body has.
static EMPTY: WholeBody = WholeBody::new(Bytes::new());

/// The room for bodies that are gathered.
#[derive(Debug)]
pub(super) struct Gathering {
    room: Arc<Semaphore>,
}

/// A caller's body on its way to the upstream.
#[derive(Debug)]
pub(super) enum CallBody {
    /// Nobody has looked at it.
    Streaming(Incoming),
    /// Its beginning was gathered, or all of it.
    Gathered(Box<Gathered>),
    /// It passes, and rules that are tried listen.
    Overheard(Box<Overheard>),
}

/// What was gathered, and what follows.
#[derive(Debug)]
pub(super) struct Gathered {
    /// Nothing where it goes on.
    whole: Option<WholeBody>,
    /// What was gathered and has not been sent.
    ahead: Option<Bytes>,
    trailers: Option<HeaderMap>,
    rest: Option<Incoming>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Why a body could not be gathered. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum GatherError {
    /// The bodies of other calls take all the room.
    #[error("there is no room for one more body that a rule looks at")]
    NoRoom,
    /// It did not come in time.
    #[error(
        "the body, at which a rule looks, did not come within {}",
        humantime::format_duration(DEADLINE)
    )]
    Late,
    /// It broke off.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

impl Gathering {
    pub(super) fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }

    /// Gathers the body, or `limit` bytes of it.
    pub(super) async fn gather(
        &self,
        owner: &Arc<dyn LinkOwner>,
        mut request: Request<Incoming>,
        limit: usize,
    ) -> Result<Request<CallBody>, GatherError> {
        let hint = request.body().size_hint();
        if hint.lower() > limit as u64 {
            return Ok(request.map(|rest| CallBody::from(Gathered::too_long(None, rest, None))));
        }
        let most = hint.exact().and_then(|exact| exact.try_into().ok());
        let room = self.room_for(most.unwrap_or(limit))?;
        // Whoever waits with the body waits for the upstream, which waits for the decision.
        if let Some(_expected) = request.headers_mut().remove(EXPECT) {
            let id = request.headers().get(RELAY_REQUEST_ID);
            owner.go_ahead(id.and_then(|id| id.to_str().ok()).unwrap_or_default());
        }
        let (parts, body) = request.into_parts();
        let gathered = tokio::time::timeout(DEADLINE, read(body, limit, room)).await;
        let gathered = gathered.map_err(|_elapsed| GatherError::Late)??;
        Ok(Request::from_parts(parts, gathered.into()))
    }

    fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, GatherError> {
        let pieces = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room);
        room.try_acquire_many_owned(pieces)
            .map_err(|_| GatherError::NoRoom)
    }
}

async fn read(
    mut body: Incoming,
    limit: usize,
    room: OwnedSemaphorePermit,
) -> Result<Gathered, GatherError> {
    let mut bytes = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame.map_err(GatherError::Broken)?.into_data() {
            // Most bodies come in one piece, which needs no copy.
            Ok(data) if bytes.is_empty() && joined.is_empty() => bytes = data,
            Ok(data) => {
                joined.extend_from_slice(&std::mem::take(&mut bytes));
                joined.extend_from_slice(&data);
            }
            Err(frame) => {
                let all = if joined.is_empty() {
                    bytes
                } else {
                    joined.freeze()
                };
                return Ok(Gathered::whole(all, frame.into_trailers().ok(), room));
            }
        }
        if bytes.len().max(joined.len()) > limit {
            let ahead = if joined.is_empty() {
                bytes
            } else {
                joined.freeze()
            };
            return Ok(Gathered::too_long(Some(ahead), body, Some(room)));
        }
    }
    let all = if joined.is_empty() {
        bytes
    } else {
        joined.freeze()
    };
    Ok(Gathered::whole(all, None, room))
}

impl Gathered {
    fn whole(bytes: Bytes, trailers: Option<HeaderMap>, room: OwnedSemaphorePermit) -> Self {
        Self {
            whole: Some(WholeBody::new(bytes.clone())),
            ahead: Some(bytes).filter(|bytes| !bytes.is_empty()),
            trailers,
            rest: None,
            _room: Some(room),
        }
    }

    const fn too_long(
        ahead: Option<Bytes>,
        rest: Incoming,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            whole: None,
            ahead,
            trailers: None,
            rest: Some(rest),
            _room: room,
        }
    }
}

impl CallBody {
    /// What rules may know of it.
    pub(super) fn given(&self, method: &Method) -> GivenBody<'_> {
        match self {
            Self::Streaming(body) => given(body, method),
            Self::Overheard(_) => GivenBody::NotGathered,
            Self::Gathered(gathered) => match &gathered.whole {
                Some(whole) => GivenBody::Whole(whole),
                None => GivenBody::TooLong,
            },
        }
    }
}

/// What rules may know of a body that nobody has looked at. What follows the wish for a WebSocket is none.
pub(super) fn given(body: &Incoming, method: &Method) -> GivenBody<'static> {
    match body.is_end_stream() || *method == Method::CONNECT {
        true => GivenBody::Whole(&EMPTY),
        false => GivenBody::NotGathered,
    }
}

impl From<Gathered> for CallBody {
    fn from(gathered: Gathered) -> Self {
        Self::Gathered(Box::new(gathered))
    }
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let gathered = match self.get_mut() {
            Self::Streaming(body) => {
                return Pin::new(body).poll_frame(context).map_err(Into::into);
            }
            Self::Overheard(body) => return Pin::new(body).poll_frame(context),
            Self::Gathered(gathered) => gathered,
        };
        if let Some(bytes) = gathered.ahead.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(trailers) = gathered.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match &mut gathered.rest {
            Some(rest) => Pin::new(rest).poll_frame(context).map_err(Into::into),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Streaming(body) => body.is_end_stream(),
            Self::Overheard(body) => body.is_end_stream(),
            Self::Gathered(gathered) => {
                let is_sent = gathered.ahead.is_none() && gathered.trailers.is_none();
                is_sent && gathered.rest.as_ref().is_none_or(HttpBody::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let gathered = match self {
            Self::Streaming(body) => return body.size_hint(),
            Self::Overheard(body) => return body.size_hint(),
            Self::Gathered(gathered) => gathered,
        };
        let ahead = gathered.ahead.as_ref().map_or(0, Bytes::len) as u64;
        let Some(rest) = &gathered.rest else {
            return SizeHint::with_exact(ahead);
        };
        let rest = rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + ahead);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + ahead);
        }
        hint
    }
}
