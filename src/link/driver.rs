//! Moves frames between a session and its WebSocket, and from one WebSocket to the next, until the link ends.
//!
//! One future, polled as a whole: take in what arrived, send what is due, look at the clock, and
//! again while anything moved. Frames are handed to the WebSocket until it or the session has enough, and flushed once.
//! When the WebSocket is lost and the session can be resumed, the driver waits for the next one: [`between`].

mod between;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, Stream};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::Message;

use self::between::Away;
use super::LinkEnd;
use super::lane::Shared;
use super::path::Path;
use super::websocket::{Socket, in_words};
use crate::protocol::CloseCode;
use crate::protocol::frame::Lane;
use crate::session::Received;

/// How much is taken in before others have their turn: the readers of what came, and with them acknowledgements. All
/// of a program runs on one thread, and a small call passes a dozen tasks, so each may work for a tenth of a millisecond.
const TAKE_AT_ONCE: usize = 128 * 1024;
/// As how many bytes a message counts at the least: taking it costs as much as copying so many.
const SMALLEST_WORK: usize = 4 * 1024;
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
    pub(super) fn new(shared: Arc<Shared>, socket: Socket) -> Self {
        let driving = Driving {
            shared,
            socket: Some(socket),
            former: None,
            paths_left: 0,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            is_dirty: false,
            is_blocked: false,
            shows_doubt: false,
            closing: None,
            away: None,
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

struct Driving {
    shared: Arc<Shared>,
    /// The WebSocket in use; none while the next one is waited for.
    socket: Option<Socket>,
    /// The one that was left for it, until something is heard on the new one: the other side would take
    /// its end for a cut.
    former: Option<Socket>,
    /// How many WebSockets were left as far as this driver knows.
    paths_left: u64,
    /// Fires at the session's next timeout or before it.
    timer: Pin<Box<Sleep>>,
    /// Whether the WebSocket holds bytes that are not flushed.
    is_dirty: bool,
    /// Whether the WebSocket takes nothing more now.
    is_blocked: bool,
    /// Whether the path is shown as doubtful.
    shows_doubt: bool,
    /// This side closes; the link has until then to end.
    closing: Option<(CloseCode, Instant)>,
    /// Without a WebSocket, and why.
    away: Option<Away>,
}

/// Why driving on one WebSocket stops.
enum Halt {
    /// Another is to be used, or none for now.
    Moved,
    /// It is over with this one, and perhaps with the link.
    Ended(LinkEnd),
}

impl From<LinkEnd> for Halt {
    fn from(end: LinkEnd) -> Self {
        Self::Ended(end)
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Future for Driving {
    type Output = LinkEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        let this = self.get_mut();
        loop {
            match this.drive(cx) {
                Ok(()) => return Poll::Pending,
                Err(Halt::Moved) => {}
                Err(Halt::Ended(end)) => {
                    if let Err(end) = this.go_away(end) {
                        return Poll::Ready(this.part(cx, end));
                    }
                }
            }
        }
    }
}

impl Driving {
    /// Moves what can be moved on the WebSocket in use.
    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), Halt> {
        self.follow()?;
        if self.socket.is_none() {
            return self.wait_for_socket(cx);
        }
        loop {
            let is_more_there = self.take_in(cx)?;
            self.send(cx)?;
            if self.watch_the_clock(cx)? {
                continue;
            }
            if is_more_there {
                cx.waker().wake_by_ref();
            }
            return Ok(());
        }
    }

    /// Hands arrived messages to the session; returns whether there may be more.
    fn take_in(&mut self, cx: &mut Context<'_>) -> Result<bool, Halt> {
        let mut taken = 0;
        while taken < TAKE_AT_ONCE {
            let Some(socket) = &mut self.socket else {
                return Err(Halt::Moved);
            };
            match Pin::new(socket).poll_next(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Some(Ok(message))) => {
                    // An empty message is work as well.
                    taken += message.len().max(SMALLEST_WORK);
                    self.take(message)?;
                }
                Poll::Ready(Some(Err(error))) => return Err(self.lost(&in_words(&error))),
                Poll::Ready(None) => return Err(self.lost("the other side hung up")),
            }
        }
        Ok(true)
    }

    fn take(&mut self, message: Message) -> Result<(), Halt> {
        let message = match message {
            Message::Binary(message) => message,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(self.lost("the other side closed the WebSocket")),
            Message::Text(_) | Message::Frame(_) => {
                return Err(LinkEnd::Lost("the other side sent text".to_owned()).into());
            }
        };
        self.former = None;
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if self.paths_left != state.paths_left {
            return Err(Halt::Moved);
        }
        let received = state.session.handle_frame(message, now);
        if self.shows_doubt && !state.session.is_doubtful() {
            self.shows_doubt = false;
            self.shared.show(&Path::Up);
        }
        if std::mem::take(&mut state.is_probed) {
            self.shared.heard.notify_waiters();
        }
        match received.map_err(LinkEnd::Violation)? {
            Received::Data(lane) => state.wake_reader(lane),
            Received::Room(lane) => state.wake_writer(lane),
            Received::Nothing => {}
            Received::Closed { code, text } => {
                return Err(LinkEnd::ClosedByPeer { code, text }.into());
            }
        }
        Ok(())
    }

    /// Sends what the session has to say, then flushes once.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), Halt> {
        loop {
            let Some(socket) = &mut self.socket else {
                return Err(Halt::Moved);
            };
            match Pin::new(socket).poll_ready(cx) {
                Poll::Pending => {
                    self.is_blocked = true;
                    return self.await_rousing(cx);
                }
                Poll::Ready(Err(error)) => return Err(self.lost(&in_words(&error))),
                Poll::Ready(Ok(())) => self.is_blocked = false,
            }
            let Some(message) = self.next_message(cx)? else {
                return self.flush(cx);
            };
            if let Some(socket) = &mut self.socket {
                let started = Pin::new(socket).start_send(Message::Binary(message));
                started.map_err(|error| self.lost(&in_words(&error)))?;
            }
            self.is_dirty = true;
        }
    }

    /// The socket wakes the driver when it takes more; what makes it leave the socket has to wake it as well.
    fn await_rousing(&self, cx: &Context<'_>) -> Result<(), Halt> {
        let mut state = self.shared.lock();
        if self.paths_left != state.paths_left || state.abandoned.is_some() {
            return Err(Halt::Moved);
        }
        match &mut state.blocked_driver {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Ok(())
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), Halt> {
        let Some(socket) = self.socket.as_mut().filter(|_| self.is_dirty) else {
            return Ok(());
        };
        match Pin::new(socket).poll_flush(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.is_dirty = false;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(self.lost(&in_words(&error))),
        }
    }

    /// The session's next message; whoever waits for room is woken, and the driver for the next one.
    fn next_message(&mut self, cx: &Context<'_>) -> Result<Option<bytes::Bytes>, Halt> {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if self.paths_left != state.paths_left || state.abandoned.is_some() {
            return Err(Halt::Moved);
        }
        let message = state.session.poll_frame(now);
        // Also when nothing is left to send: the end of a repetition makes room.
        for lane in Lane::BOTH {
            state.wake_writer(lane);
        }
        if message.is_none() {
            match &mut state.driver {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        Ok(message)
    }

    /// Lets the session's time pass; returns whether it may have something to send now.
    fn watch_the_clock(&mut self, cx: &mut Context<'_>) -> Result<bool, Halt> {
        let due = self.due_at();
        if due < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Ok(false);
        }
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if self.paths_left != state.paths_left {
            return Err(Halt::Moved);
        }
        state.session.handle_timeout(now).map_err(LinkEnd::Silent)?;
        if state.session.is_doubtful() && !self.shows_doubt {
            self.shows_doubt = true;
            self.shared.show(&Path::Doubtful);
        }
        drop(state);
        if let Some((code, deadline)) = self.closing
            && Instant::now() >= deadline
        {
            return Err(LinkEnd::ClosedHere(code).into());
        }
        Ok(true)
    }

    /// When the clock matters next. Notes when this side began to close, which the other side must not
    /// be able to put off by reading nothing.
    fn due_at(&mut self) -> Instant {
        if let Some((_, deadline)) = self.closing {
            return deadline;
        }
        let state = self.shared.lock();
        if let Some(code) = state.session.closing_with() {
            let is_out = state.session.closed_with().is_some() && !self.is_dirty;
            drop(state);
            let deadline = Instant::now() + if is_out { LINGER } else { UNSENT };
            self.closing = Some((code, deadline));
            return deadline;
        }
        let timeout = if self.is_blocked {
            state.session.poll_timeout_when_blocked()
        } else {
            state.session.poll_timeout()
        };
        self.shared.instant(timeout)
    }

    /// The WebSocket's end: expected after our close frame, a loss before it.
    fn lost(&self, why: &str) -> Halt {
        Halt::Ended(match self.shared.lock().session.closed_with() {
            Some(code) => LinkEnd::ClosedHere(code),
            None => LinkEnd::Lost(why.to_owned()),
        })
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
