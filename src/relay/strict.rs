//! An HTTP/1 connection whose requests are read strictly before hyper sees a byte of them.
//!
//! hyper takes what can be taken: lines that end with LF alone, the same length twice, a length beside a
//! coding, a `#` in the target. Each is harmless by itself, and each is half of a disagreement with some
//! other program in the chain. Here such a request is refused, whole and with words, in its turn: in its
//! place hyper gets a request for [`REFUSED`], which the listener answers with what [`Watch::refusal`]
//! says; then the connection ends.
//!
//! Hands on exactly the bytes that came, or none of a request. Never answers by itself.

mod chunks;
mod head;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::chunks::{Broken, Chunks};
use self::head::{Head, Length};
use crate::forwarding::MAX_HEAD_BYTES;
use crate::link::tls::Stream;

pub(super) use self::head::Malformed;

/// The path of the request that stands for one that was refused.
pub(super) const REFUSED: &str = "/malformed-request";
const STAND_IN: &[u8] =
    b"GET /malformed-request HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n";

/// What the reading side of a connection and its requests tell each other.
#[derive(Debug, Default)]
pub(super) struct Watch {
    refusal: OnceLock<Malformed>,
    is_broken: AtomicBool,
    is_tunnel: AtomicBool,
    is_rested: AtomicBool,
    resting: AtomicWaker,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Strict<S = Stream> {
    inner: S,
    watch: Arc<Watch>,
    framing: Framing,
    /// What came and was not handed on: approved bytes, and then the beginning of a head.
    waiting: Vec<u8>,
    /// How much of `waiting` may be handed on.
    approved: usize,
    /// Whether closing the socket tells the other side all that there is to tell of the end.
    ends_by_closing: bool,
    rest: Rest,
}

/// Whether the connection is listened to while its first request is being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// It is.
    Never,
    /// Not once the request has come whole; of which nothing was handed on yet.
    Ahead,
    /// The same, with something handed on.
    Begun,
    /// It was asked for more, and does not listen.
    Asleep,
}

/// Where in which message the bytes are.
#[derive(Debug)]
enum Framing {
    /// In a head, of which so many bytes have been read.
    Head(Head, usize),
    /// In a body of which so many bytes are to come.
    Sized(u64),
    Chunked(Chunks),
    /// Behind a refused request: what comes is dropped.
    Over,
    /// Behind a body that cannot be read on: reading fails.
    Broken(Broken),
}

/// Why nothing more is approved.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    Head(Malformed),
    Body(Broken),
}

impl Watch {
    /// Why the connection's last request was refused.
    pub(super) fn refusal(&self) -> Option<Malformed> {
        self.refusal.get().copied()
    }

    /// Whether the body of the connection's last request could not be read to its end.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// Lets the connection listen to the other side again.
    pub(super) fn end_rest(&self) {
        self.is_rested.store(true, Ordering::Release);
        self.resting.wake();
    }

    /// What comes from now on is no HTTP: the caller is about to be told that the connection was upgraded.
    pub(super) fn becomes_tunnel(&self) {
        self.is_tunnel.store(true, Ordering::Release);
    }
}

impl<S> Strict<S> {
    pub(super) fn new(inner: S) -> (Self, Arc<Watch>) {
        let watch = Arc::<Watch>::default();
        let strict = Self {
            inner,
            watch: Arc::clone(&watch),
            framing: Framing::default(),
            waiting: Vec::new(),
            approved: 0,
            ends_by_closing: false,
            rest: Rest::Never,
        };
        (strict, watch)
    }

    /// Leaves the end of HTTP to the closing of the socket, which follows at once: for TCP alone, since TLS has a word of
    /// its own for it. A system call less for each connection.
    pub(super) const fn end_by_closing(&mut self) {
        self.ends_by_closing = true;
    }

    /// Does not read while the first request, if it has come whole, is being answered, until [`Watch::end_rest`]: a socket that
    /// is closed with its answer has then never been waited for.
    pub(super) const fn rest_during_first(&mut self) {
        self.rest = Rest::Ahead;
    }

    /// Whether the first request has come whole, and nothing of its answer has left.
    fn rests(&self) -> bool {
        let is_whole = matches!(self.framing, Framing::Head(_, 0)) && self.waiting.is_empty();
        let may_rest = matches!(self.rest, Rest::Begun | Rest::Asleep);
        may_rest && is_whole && !self.watch.is_rested.load(Ordering::Acquire)
    }

    /// The answer leaves: its end is followed by another request, or by the closing of the socket.
    fn end_rest(&mut self) {
        if std::mem::replace(&mut self.rest, Rest::Never) == Rest::Asleep {
            // hyper relies on being woken for what it asked for.
            self.watch.resting.wake();
        }
    }

    /// Notes that something is handed on.
    fn note_handed_on(&mut self) {
        if self.rest == Rest::Ahead {
            self.rest = Rest::Begun;
        }
    }

    /// Whether bytes pass without a look.
    fn is_tunnel(&self) -> bool {
        self.watch.is_tunnel.load(Ordering::Acquire)
    }

    /// Looks at what was read into `target` after `before`. In the common case, where it ends with a
    /// message or within a body, it stays there; else it waits for the rest of its head.
    fn look(&mut self, target: &mut ReadBuf<'_>, before: usize) {
        let new = &target.filled()[before..];
        let count = new.len();
        let (approved, refused) = if self.waiting.is_empty() {
            let (approved, refused) = self.framing.approve(new);
            if approved == count && refused.is_none() {
                return;
            }
            self.waiting.extend_from_slice(new);
            (approved, refused)
        } else {
            self.waiting.extend_from_slice(new);
            self.framing.approve(&self.waiting)
        };
        target.set_filled(before);
        self.approved = approved;
        if let Some(refused) = refused {
            self.waiting.truncate(approved);
            match refused {
                Refused::Head(malformed) => {
                    // There is no second: nothing is read after it.
                    let _ = self.watch.refusal.set(malformed);
                    self.waiting.extend_from_slice(STAND_IN);
                    self.approved = self.waiting.len();
                    self.framing = Framing::Over;
                }
                Refused::Body(broken) => {
                    self.watch.is_broken.store(true, Ordering::Release);
                    self.framing = Framing::Broken(broken);
                }
            }
        }
    }

    /// Hands on what waits, as far as it may.
    fn hand_on(&mut self, target: &mut ReadBuf<'_>) {
        let count = self.approved.min(target.remaining());
        target.put_slice(&self.waiting[..count]);
        self.waiting.drain(..count);
        self.approved -= count;
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }
}

impl Default for Framing {
    fn default() -> Self {
        Self::Head(Head::default(), 0)
    }
}

impl Framing {
    /// How many of these bytes may be handed on, and why none after them ever; what is not handed on is to
    /// come again, with more.
    fn approve(&mut self, bytes: &[u8]) -> (usize, Option<Refused>) {
        let mut approved = 0;
        while approved < bytes.len() {
            let rest = &bytes[approved..];
            match self.step(rest) {
                Ok(0) => break,
                Ok(count) => approved += count,
                Err(refused) => return (approved, Some(refused)),
            }
        }
        (approved, None)
    }

    /// One message's head, or as much of its body as is there; nothing while the head has no end.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Refused> {
        match self {
            Self::Head(head, read) => {
                let length = read_head(head, read, bytes).map_err(Refused::Head)?;
                let read = *read;
                let Some(length) = length else { return Ok(0) };
                *self = match length {
                    Length::Bytes(0) => Self::default(),
                    Length::Bytes(count) => Self::Sized(count),
                    Length::Chunked => Self::Chunked(Chunks::default()),
                };
                Ok(read)
            }
            Self::Sized(left) => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                if *left == 0 {
                    *self = Self::default();
                }
                Ok(taken)
            }
            Self::Chunked(chunks) => {
                let (taken, is_end) = chunks.read(bytes).map_err(Refused::Body)?;
                if is_end {
                    *self = Self::default();
                }
                Ok(taken)
            }
            Self::Over | Self::Broken(_) => Ok(0),
        }
    }
}

/// Reads the lines of a head that are there after the first `read` bytes; its body's length at its end.
fn read_head(head: &mut Head, read: &mut usize, bytes: &[u8]) -> Result<Option<Length>, Malformed> {
    while let Some(end) = memchr::memchr(b'\n', &bytes[*read..]) {
        let line = &bytes[*read..*read + end];
        let line = line.strip_suffix(b"\r").ok_or(Malformed::BareLineFeed)?;
        *read += end + 1;
        if *read > MAX_HEAD_BYTES {
            return Err(too_large(head));
        }
        if let Some(length) = head.line(line)? {
            return Ok(Some(length));
        }
    }
    match bytes.len() > MAX_HEAD_BYTES {
        true => Err(too_large(head)),
        false => Ok(None),
    }
}

const fn too_large(head: &Head) -> Malformed {
    match head.has_begun() {
        true => Malformed::HeadTooLarge,
        false => Malformed::TargetTooLong,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.is_tunnel() {
                this.approved = this.waiting.len();
            }
            if this.approved > 0 {
                this.hand_on(target);
                this.note_handed_on();
                return Poll::Ready(Ok(()));
            }
            if let Framing::Broken(broken) = this.framing {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, broken)));
            }
            if this.rests() {
                this.rest = Rest::Asleep;
                this.watch.resting.register(context.waker());
                // It may have ended in between.
                if this.rests() {
                    return Poll::Pending;
                }
            }
            let before = target.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(context, target))?;
            let count = target.filled().len() - before;
            if count == 0 && matches!(this.framing, Framing::Over) {
                // Who has said all may wait for the answer still; it is about to leave, and closes the connection.
                return Poll::Pending;
            }
            if count == 0 || this.is_tunnel() {
                return Poll::Ready(Ok(()));
            }
            if matches!(this.framing, Framing::Over) {
                // Read, so that the answer is not lost to a reset, and dropped.
                target.set_filled(before);
                continue;
            }
            this.look(target, before);
            if target.filled().len() > before {
                this.note_handed_on();
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.end_rest();
        Pin::new(&mut this.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.end_rest();
        Pin::new(&mut this.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A tunnel may end in one direction and go on in the other.
        if this.ends_by_closing && !this.is_tunnel() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}

impl From<Strict> for Stream {
    /// The connection below, of a tunnel. An agent says nothing before it knows that it has one.
    fn from(strict: Strict) -> Self {
        strict.inner
    }
}

#[cfg(test)]
mod tests;
