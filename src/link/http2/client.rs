//! The calling end of a lane: requests up, answers down.
//!
//! Speaks to `h2` itself. A general client stands between callers and the connection with a queue and two
//! tasks for each call, at an eighth of what a call costs the relay; and it cannot tell a request that was
//! still in that queue from one on its way. Never repeats a request.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "relay")]
use std::task::{Context, Waker};
use std::task::{Poll, ready};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::{
    AnswerBody, CONNECTION_WINDOW, FRAME_SIZE, HEADER_LIST, LaneTunnel, RESETS, SEND_BUFFER,
    STREAM_WINDOW, STREAMS,
};
use crate::body::{Body, BodyError};
use crate::forwarding;
use crate::link::lane::LaneStream;

/// The calling end of a lane. Cheap to clone.
#[derive(Clone)]
pub struct LaneClient {
    state: Arc<Mutex<State>>,
}

/// What became of a CONNECT.
pub enum Opened {
    /// Bytes pass both ways from now on.
    Tunnel(Response<()>, LaneTunnel),
    /// The other side would not; this is its answer.
    Declined(Response<AnswerBody>),
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

enum State {
    Idle(LaneStream),
    Started(SendRequest<Bytes>),
    /// HTTP/2 could not be started; the lane is of no more use.
    Broken,
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
    pub async fn send(&self, request: Request<Body>) -> Result<Response<AnswerBody>, SendError> {
        let (head, body) = request.into_parts();
        let is_whole = body.is_end_stream();
        let (mut answer, stream) = self.begin(Request::from_parts(head, ()), is_whole).await?;
        let answered = if is_whole {
            answer.await
        } else {
            // Apart, so that calls without a body have no room for it.
            let mut upload = Box::pin(upload(body, stream));
            tokio::select! {
                biased;
                // An answer may come before the body has ended. The rest goes on until it has, or until
                // the caller or the other side wants no more of it.
                answered = &mut answer => {
                    tokio::spawn(upload);
                    answered
                }
                () = &mut upload => answer.await,
            }
        };
        Ok(answered
            .map_err(SendError::after_sending)?
            .map(AnswerBody::new))
    }

    /// Sends a CONNECT and waits for its answer. Dropping the future or the tunnel ends it on the
    /// other side too.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn open(&self, request: Request<()>) -> Result<Opened, SendError> {
        let (answer, stream) = self.begin(request, false).await?;
        let answer = answer.await.map_err(SendError::after_sending)?;
        if answer.status() != StatusCode::OK {
            return Ok(Opened::Declined(answer.map(AnswerBody::new)));
        }
        let (head, received) = answer.into_parts();
        let tunnel = LaneTunnel::new(stream, received);
        Ok(Opened::Tunnel(Response::from_parts(head, ()), tunnel))
    }

    /// Whether the other side takes new calls, as far as it has said: not once it lets those under way end.
    #[cfg(feature = "relay")]
    #[must_use]
    pub fn takes_calls(&self) -> bool {
        match &mut *self.lock() {
            State::Idle(_) => true,
            State::Started(sender) => {
                let polled = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
                !matches!(polled, Poll::Ready(Err(_)))
            }
            State::Broken => false,
        }
    }

    /// Queues the head of a request. What is queued may leave at any time from then on.
    async fn begin(
        &self,
        head: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), SendError> {
        let is_idle = matches!(&*self.lock(), State::Idle(_));
        if is_idle {
            // Apart, so that the first call's part does not make every call's future larger.
            Box::pin(self.start()).await?;
        }
        match &mut *self.lock() {
            State::Started(sender) => sender
                .send_request(head, is_whole)
                .map_err(|_not_queued| SendError::NotSent),
            State::Idle(_) | State::Broken => Err(SendError::NotSent),
        }
    }

    /// Begins the lane's HTTP/2.
    async fn start(&self) -> Result<(), SendError> {
        let state = std::mem::replace(&mut *self.lock(), State::Broken);
        let State::Idle(lane) = state else {
            *self.lock() = state;
            return Ok(());
        };
        // Only queues the preface: the first poll completes it, so nobody else sees `Broken` meanwhile.
        let (sender, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_SIZE)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(HEADER_LIST)
            .initial_max_send_streams(STREAMS as usize)
            .max_local_error_reset_streams(RESETS)
            .enable_push(false)
            .handshake(lane)
            .await
            .map_err(|_not_begun| SendError::NotSent)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a lane's HTTP/2 ended");
            }
        });
        *self.lock() = State::Started(sender);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SendError {
    /// What an error says of a request that was queued: only the other side's word makes it unprocessed.
    fn after_sending(error: h2::Error) -> Self {
        match error.reason() {
            Some(Reason::REFUSED_STREAM) => Self::Refused,
            _ => Self::OutcomeUnknown(error.into()),
        }
    }
}

/// Sends a body to its end, as fast as the other side takes it; ends early when either side breaks off.
async fn upload(mut body: Body, mut stream: SendStream<Bytes>) {
    if let Err(error) = send_frames(&mut body, &mut stream).await {
        tracing::debug!(%error, "the body of a call broke off");
        // What was sent so far must not be taken for the whole. Of no effect where the other side broke off.
        stream.send_reset(Reason::INTERNAL_ERROR);
    }
}

async fn send_frames(body: &mut Body, stream: &mut SendStream<Bytes>) -> Result<(), BodyError> {
    loop {
        let frame = tokio::select! {
            biased;
            // Both only wait.
            reason = poll_fn(|cx| stream.poll_reset(cx)) => return Err(h2::Error::from(reason?).into()),
            frame = body.frame() => frame,
        };
        let Some(frame) = frame else {
            return Ok(stream.send_data(Bytes::new(), true)?);
        };
        match frame?.into_data() {
            Ok(data) => {
                let is_last = body.is_end_stream();
                room_for(&data, stream).await?;
                stream.send_data(data, is_last)?;
                if is_last {
                    return Ok(());
                }
            }
            Err(frame) => {
                if let Ok(mut trailers) = frame.into_trailers() {
                    // In HTTP/2 the whole call would break off with what is for one hop alone.
                    forwarding::strip(&mut trailers);
                    return Ok(stream.send_trailers(trailers)?);
                }
            }
        }
    }
}

/// Waits until the other side takes more of this body. One byte is asked for, since what is asked for is
/// kept from other bodies; the rest of the piece then waits in the connection for its turn.
async fn room_for(data: &Bytes, stream: &mut SendStream<Bytes>) -> Result<(), BodyError> {
    if data.is_empty() {
        return Ok(());
    }
    stream.reserve_capacity(1);
    poll_fn(|cx| {
        while stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => return Poll::Ready(Err("the stream is closed".into())),
            }
        }
        Poll::Ready(Ok(()))
    })
    .await
}
