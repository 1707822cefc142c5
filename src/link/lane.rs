//! A lane as a byte stream, and the session that lanes and driver share.
//!
//! Reading and writing only touch the session's memory; the driver moves bytes to and from the
//! WebSocket. While the driver is not being polled writes gather, so the frames of many callers leave in one write.

use std::io;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::LinkStats;
use super::path::Path;
use super::websocket::Socket;
use crate::protocol::CloseCode;
use crate::protocol::frame::Lane;
use crate::protocol::handshake::SessionGrant;
use crate::session::Session;

/// One lane of a link. Ends with an error when the link does.
pub struct LaneStream {
    shared: Arc<Shared>,
    lane: Lane,
}

/// What the lanes, the driver and the handles of one link share.
pub(super) struct Shared {
    state: Mutex<State>,
    began: Instant,
    /// The session's name and how long it is kept, where it can be resumed.
    pub(super) grant: Option<SessionGrant>,
    /// What is known of the WebSocket.
    pub(super) path: watch::Sender<Path>,
    /// Notified when anything is heard while `is_probed`.
    pub(super) heard: Notify,
}

/// The session, and who waits for what. Locked for moments only, never across an await.
pub(super) struct State {
    pub(super) session: Session,
    /// Woken when the session may have something to send.
    pub(super) driver: Option<Waker>,
    /// The same driver while its WebSocket takes nothing: woken only when it is to leave it or to end.
    pub(super) blocked_driver: Option<Waker>,
    readers: [Option<Waker>; 2],
    writers: [Option<Waker>; 2],
    has_ended: bool,
    /// How many WebSockets were left: tells the driver whether the one it holds is still in use.
    pub(super) paths_left: u64,
    /// The WebSocket to go on with.
    pub(super) next: Option<Socket>,
    /// Why the session is over without a word of the other side.
    pub(super) abandoned: Option<String>,
    /// Somebody waits for a sign of life.
    pub(super) is_probed: bool,
}

impl Shared {
    pub(super) fn new(session: Session, grant: Option<SessionGrant>) -> Arc<Self> {
        let began = Instant::now();
        let state = State {
            session,
            driver: None,
            blocked_driver: None,
            readers: [None, None],
            writers: [None, None],
            has_ended: false,
            paths_left: 0,
            next: None,
            abandoned: None,
            is_probed: false,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            began,
            grant,
            path: watch::Sender::new(Path::Up),
            heard: Notify::new(),
        })
    }

    /// Lets everybody know what is known of the WebSocket.
    pub(super) fn show(&self, path: &Path) {
        self.path.send_if_modified(|shown| {
            let is_news = shown != path;
            if is_news {
                shown.clone_from(path);
            }
            is_news
        });
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session's time.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// The runtime's time at which the session's time is `at`.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.began + at
    }

    pub(super) fn close(&self, code: CloseCode, text: String) {
        let mut state = self.lock();
        state.session.close(code, text);
        state.rouse_driver();
    }

    pub(super) fn stats(&self) -> LinkStats {
        let age = self.now();
        let state = self.lock();
        LinkStats {
            age,
            quiet: age.saturating_sub(state.session.last_heard()),
            round_trip: state.session.round_trip(),
            traffic: Lane::BOTH.map(|lane| state.session.traffic(lane)),
        }
    }

    /// Lets every reader and writer know that the link is over.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        for lane in Lane::BOTH {
            state.wake_reader(lane);
            state.wake_writer(lane);
        }
    }
}

impl State {
    pub(super) fn wake_reader(&mut self, lane: Lane) {
        if let Some(waker) = self.readers[lane.index()].take() {
            waker.wake();
        }
    }

    pub(super) fn wake_writer(&mut self, lane: Lane) {
        if self.session.room(lane) == 0 && !self.has_ended {
            return;
        }
        if let Some(waker) = self.writers[lane.index()].take() {
            waker.wake();
        }
    }

    /// Whether the session can go on over another WebSocket.
    pub(super) fn goes_on(&self) -> bool {
        !self.has_ended && self.abandoned.is_none() && self.session.closing_with().is_none()
    }

    /// The driver uses its WebSocket no more.
    pub(super) fn leave(&mut self) {
        self.paths_left += 1;
        self.next = None;
        self.rouse_driver();
    }

    /// Wakes the driver also when its WebSocket takes nothing.
    pub(super) fn rouse_driver(&mut self) {
        self.wake_driver();
        if let Some(waker) = self.blocked_driver.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }
}

impl LaneStream {
    pub(super) fn new(shared: &Arc<Shared>, lane: Lane) -> Self {
        Self {
            shared: Arc::clone(shared),
            lane,
        }
    }

    /// Waits until there is something to read or the link is over, without a buffer.
    pub async fn readable(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.session.is_readable(self.lane) || state.has_ended {
                return Poll::Ready(());
            }
            state.readers[self.lane.index()] = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn write<S>(&self, cx: &Context<'_>, slices: &[S]) -> Poll<io::Result<usize>>
    where
        S: Deref<Target = [u8]>,
    {
        let mut state = self.shared.lock();
        if state.has_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut written = 0;
        for slice in slices {
            let taken = state.session.write(self.lane, slice);
            written += taken;
            if taken < slice.len() {
                break;
            }
        }
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            state.writers[self.lane.index()] = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.wake_driver();
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for LaneStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if state.session.is_readable(self.lane) {
            let due_before = state.session.poll_timeout();
            let now = self.shared.now();
            while buffer.remaining() > 0 {
                let bytes = state.session.read(self.lane, buffer.remaining(), now);
                if bytes.is_empty() {
                    break;
                }
                buffer.put_slice(&bytes);
            }
            // An acknowledgement may now be due sooner than the driver thinks.
            if state.session.poll_timeout() < due_before || state.session.wants_ack(self.lane) {
                state.wake_driver();
            }
            return Poll::Ready(Ok(()));
        }
        if state.has_ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        state.readers[self.lane.index()] = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for LaneStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, &[bytes])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The driver was woken by the write and never waits for more.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A lane lives as long as its link; whoever wants it gone closes the link.
        Poll::Ready(Ok(()))
    }
}
