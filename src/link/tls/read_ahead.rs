//! Reads a socket in large pieces for a reader that asks for small ones.
//!
//! rustls asks for 4 KiB at a time, which is four system calls for each full TLS record. This gives
//! it a record and more for one, and holds memory only while there is something in it, so that an idle link has none.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::writes::Writes;

/// How much is read at once: four full TLS records, which is a full frame of a link, and the head of the next.
const READ_SIZE: usize = 68 * 1024;
/// A reader that asks for as much as a full TLS record gets it without a copy.
const LARGE_ENOUGH: usize = 16 * 1024;
/// How much [`ReadAhead::look`] reads: an ordinary request's head.
const LOOK_SIZE: usize = 2 * 1024;

/// See the module. Writes go through untouched, and are counted if someone watches.
#[derive(Debug)]
pub struct ReadAhead<S> {
    inner: S,
    buffer: Vec<u8>,
    /// How much of `buffer` was handed on.
    taken: usize,
    /// Whether the last read filled what it was given, so that a large one is worth its buffer.
    is_busy: bool,
    writes: Option<Arc<Writes>>,
    /// Only to be dropped with the socket.
    kept: Option<Box<dyn Any + Send + Sync>>,
}

impl<S> ReadAhead<S> {
    /// Reads from `inner`.
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            buffer: Vec::new(),
            taken: 0,
            is_busy: false,
            writes: None,
            kept: None,
        }
    }

    pub(super) const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Counts what is written from now on.
    pub fn watch_writes(&mut self) -> Arc<Writes> {
        Arc::clone(self.writes.get_or_insert_default())
    }

    /// Keeps something as long as the socket is open, whatever becomes of what reads it.
    pub(super) fn keep(&mut self, something: Box<dyn Any + Send + Sync>) {
        self.kept = Some(something);
    }

    fn note_write(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Some(writes) = &self.writes {
            writes.note(&polled);
        }
        polled
    }

    fn hand_on(&mut self, target: &mut ReadBuf<'_>) {
        let rest = &self.buffer[self.taken..];
        let count = rest.len().min(target.remaining());
        target.put_slice(&rest[..count]);
        self.taken += count;
    }
}

impl<S: AsyncRead + Unpin> ReadAhead<S> {
    /// Waits for the first `enough` bytes, or the end, and shows what is there; reading gives them again.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn look(&mut self, enough: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.taken < enough {
            self.buffer.reserve(LOOK_SIZE);
            if self.inner.read_buf(&mut self.buffer).await? == 0 {
                break;
            }
        }
        Ok(&self.buffer[self.taken..])
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.taken < this.buffer.len() {
            this.hand_on(target);
            return Poll::Ready(Ok(()));
        }
        if !this.is_busy || target.remaining() >= LARGE_ENOUGH {
            this.buffer = Vec::new();
            this.taken = 0;
            let room = target.remaining();
            ready!(Pin::new(&mut this.inner).poll_read(cx, target))?;
            this.is_busy = room > 0 && target.remaining() == 0;
            return Poll::Ready(Ok(()));
        }
        this.buffer.clear();
        this.buffer.reserve(READ_SIZE);
        this.taken = 0;
        let Poll::Ready(outcome) = poll_read_buf(Pin::new(&mut this.inner), cx, &mut this.buffer)
        else {
            this.buffer = Vec::new();
            return Poll::Pending;
        };
        outcome?;
        this.is_busy = this.buffer.len() > target.remaining();
        this.hand_on(target);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.note_write(polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.note_write(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn every_byte_arrives_once_and_in_order_whatever_the_sizes() {
        let (mut writer, reader) = tokio::io::duplex(300_000);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move { writer.write_all(&sent).await });
        let mut reader = ReadAhead::new(reader);
        let mut received = Vec::new();
        let mut buffer = vec![0; 4096];
        loop {
            let most = 1 + received.len() % 4096;
            let count = reader.read(&mut buffer[..most]).await.unwrap();
            if count == 0 {
                break;
            }
            received.extend_from_slice(&buffer[..count]);
        }
        writing.await.unwrap().unwrap();
        assert!(received == expected);
    }

    #[tokio::test]
    async fn what_was_looked_at_is_read_all_the_same() {
        let (mut writer, reader) = tokio::io::duplex(300_000);
        let mut reader = ReadAhead::new(reader);
        let writing = tokio::spawn(async move {
            for piece in [&b"P"[..], b"RI", b" and more"] {
                writer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        assert!(reader.look(3).await.unwrap().starts_with(b"PRI"));
        let mut all = String::new();
        reader.read_to_string(&mut all).await.unwrap();
        writing.await.unwrap();
        assert_eq!(all, "PRI and more");
        assert!(
            reader.look(3).await.unwrap().is_empty(),
            "the end is not waited for"
        );
    }

    #[tokio::test]
    async fn writes_are_counted_and_one_that_is_not_taken_is_told() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut near = ReadAhead::new(near);
        let writes = near.watch_writes();
        near.write_all(b"12345678").await.unwrap();
        assert_eq!((writes.bytes(), writes.is_blocked()), (8, false));
        let mut more = std::pin::pin!(near.write_all(b"90"));
        assert!(more.as_mut().now_or_never().is_none());
        assert!(writes.is_blocked());
        far.read_exact(&mut [0; 8]).await.unwrap();
        more.await.unwrap();
        assert_eq!((writes.bytes(), writes.is_blocked()), (10, false));
    }

    #[tokio::test]
    async fn an_idle_reader_holds_no_buffer() {
        let (mut writer, reader) = tokio::io::duplex(300_000);
        let mut reader = ReadAhead::new(reader);
        writer.write_all(&[1; 10_000]).await.unwrap();
        let mut buffer = [0; 4096];
        let mut left = 10_000;
        while left > 0 {
            left -= reader.read(&mut buffer).await.unwrap();
        }
        let idle = std::future::poll_fn(|cx| {
            let mut target = ReadBuf::new(&mut buffer);
            Poll::Ready(
                Pin::new(&mut reader)
                    .poll_read(cx, &mut target)
                    .is_pending(),
            )
        });
        assert!(idle.await);
        assert_eq!(reader.buffer.capacity(), 0);
    }
}
