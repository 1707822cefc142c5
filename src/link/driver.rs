//! Moves frames between a session and its WebSocket until the link ends.
//!
//! One future, polled as a whole: take in what arrived, send what is due, look at the clock, and
//! again while anything moved. Frames are handed to the WebSocket until it or the session has enough, and flushed once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::Message;

use super::LinkEnd;
use super::lane::Shared;
use super::websocket::WebSocket;
use crate::protocol::CloseCode;
use crate::protocol::frame::Lane;
use crate::session::Received;

/// Messages taken in before anything is sent, so that a flood does not delay acknowledgements.
const TAKE_AT_ONCE: usize = 32;
/// How long the other side may take to hang up after our close frame.
const LINGER: Duration = Duration::from_secs(2);
/// How long the close frame itself may take when the socket takes nothing: no longer than a side that
/// says nothing is borne with.
const UNSENT: Duration = Duration::from_secs(10);

/// The future that makes a link move. See the module.
pub struct LinkDriver {
    future: Pin<Box<dyn Future<Output = LinkEnd> + Send>>,
}

impl LinkDriver {
    pub(super) fn new<S>(shared: Arc<Shared>, websocket: WebSocket<S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let driving = Driving {
            websocket,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            shared,
            is_dirty: false,
            is_blocked: false,
            closing: None,
        };
        Self {
            future: Box::pin(driving),
        }
    }

    /// Runs the link to its end.
    pub async fn run(self) -> LinkEnd {
        self.future.await
    }
}

struct Driving<S> {
    shared: Arc<Shared>,
    websocket: WebSocket<S>,
    /// Fires at the session's next timeout or before it.
    timer: Pin<Box<Sleep>>,
    /// Whether the WebSocket holds bytes that are not flushed.
    is_dirty: bool,
    /// Whether the WebSocket takes nothing more now.
    is_blocked: bool,
    /// This side closes; the link has until then to end.
    closing: Option<(CloseCode, Instant)>,
}

impl<S> Drop for Driving<S> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driving<S> {
    type Output = LinkEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        let this = self.get_mut();
        match this.drive(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(this.part(cx, end)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driving<S> {
    /// Moves what can be moved; `Err` is the link's end.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        loop {
            let took = self.take_in(cx)?;
            self.send(cx)?;
            if !self.watch_the_clock(cx)? && took < TAKE_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// Hands arrived messages to the session; returns how many.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Result<usize, LinkEnd> {
        for took in 0..TAKE_AT_ONCE {
            match Pin::new(&mut self.websocket).poll_next(cx) {
                Poll::Pending => return Ok(took),
                Poll::Ready(Some(Ok(message))) => self.take(message)?,
                Poll::Ready(Some(Err(error))) => return Err(self.lost(&error.to_string())),
                Poll::Ready(None) => return Err(self.lost("the other side hung up")),
            }
        }
        Ok(TAKE_AT_ONCE)
    }

    fn take(&self, message: Message) -> Result<(), LinkEnd> {
        let message = match message {
            Message::Binary(message) => message,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(self.lost("the other side closed the WebSocket")),
            Message::Text(_) | Message::Frame(_) => {
                return Err(LinkEnd::Lost("the other side sent text".to_owned()));
            }
        };
        let now = self.shared.now();
        let mut state = self.shared.lock();
        match state
            .session
            .handle_frame(message, now)
            .map_err(LinkEnd::Violation)?
        {
            Received::Data(lane) => state.wake_reader(lane),
            Received::Room(lane) => state.wake_writer(lane),
            Received::Nothing => {}
            Received::Closed { code, text } => return Err(LinkEnd::ClosedByPeer { code, text }),
        }
        Ok(())
    }

    /// Sends what the session has to say, then flushes once.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        loop {
            match Pin::new(&mut self.websocket).poll_ready(cx) {
                Poll::Pending => {
                    self.is_blocked = true;
                    return Ok(());
                }
                Poll::Ready(Err(error)) => return Err(self.lost(&error.to_string())),
                Poll::Ready(Ok(())) => self.is_blocked = false,
            }
            let Some(message) = self.next_message(cx) else {
                break;
            };
            let started = Pin::new(&mut self.websocket).start_send(Message::Binary(message));
            started.map_err(|error| self.lost(&error.to_string()))?;
            self.is_dirty = true;
        }
        if self.is_dirty {
            match Pin::new(&mut self.websocket).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.is_dirty = false,
                Poll::Ready(Err(error)) => return Err(self.lost(&error.to_string())),
            }
        }
        Ok(())
    }

    /// The session's next message; whoever waits for room is woken, and the driver for the next one.
    fn next_message(&mut self, cx: &Context<'_>) -> Option<bytes::Bytes> {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let message = state.session.poll_frame(now);
        if message.is_some() {
            for lane in Lane::BOTH {
                state.wake_writer(lane);
            }
        } else {
            match &mut state.driver {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        message
    }

    /// Lets the session's time pass; returns whether it may have something to send now.
    fn watch_the_clock(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkEnd> {
        let due = self.due_at()?;
        if due < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        let now = self.shared.now();
        self.shared
            .lock()
            .session
            .handle_timeout(now)
            .map_err(LinkEnd::Silent)?;
        if let Some((code, deadline)) = self.closing
            && Instant::now() >= deadline
        {
            return Err(LinkEnd::ClosedHere(code));
        }
        Ok(true)
    }

    /// When the clock matters next. Notes when this side began to close, which the other side must not
    /// be able to put off by reading nothing.
    fn due_at(&mut self) -> Result<Instant, LinkEnd> {
        if let Some((_, deadline)) = self.closing {
            return Ok(deadline);
        }
        let state = self.shared.lock();
        if let Some(code) = state.session.closing_with() {
            let is_out = state.session.closed_with().is_some() && !self.is_dirty;
            drop(state);
            let deadline = Instant::now() + if is_out { LINGER } else { UNSENT };
            self.closing = Some((code, deadline));
            return Ok(deadline);
        }
        let timeout = if self.is_blocked {
            state.session.poll_timeout_when_blocked()
        } else {
            state.session.poll_timeout()
        };
        Ok(self.shared.instant(timeout))
    }

    /// The WebSocket's end: expected after our close frame, a loss before it.
    fn lost(&self, why: &str) -> LinkEnd {
        match self.shared.lock().session.closed_with() {
            Some(code) => LinkEnd::ClosedHere(code),
            None => LinkEnd::Lost(why.to_owned()),
        }
    }

    /// Tells a peer that broke a rule which one, as far as one write goes; then the socket is dropped.
    fn part(&mut self, cx: &mut Context<'_>, end: LinkEnd) -> LinkEnd {
        if let LinkEnd::Violation(violation) = &end {
            let text = violation.to_string();
            self.shared.lock().session.close(CloseCode::Protocol, text);
            // Whatever comes of it, the link is over.
            let _ = self.send(cx);
        }
        end
    }
}
