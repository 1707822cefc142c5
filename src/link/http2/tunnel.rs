//! A tunnel through a lane, once a CONNECT was granted: a byte stream each way on one HTTP/2 stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::FRAME_SIZE;

/// See the module. Dropped before its end, it ends the tunnel on the other side too.
#[derive(Debug)]
pub struct LaneTunnel {
    outgoing: SendStream<Bytes>,
    incoming: RecvStream,
    /// What has arrived and was not read yet.
    unread: Bytes,
}

impl LaneTunnel {
    pub(super) const fn new(outgoing: SendStream<Bytes>, incoming: RecvStream) -> Self {
        Self {
            outgoing,
            incoming,
            unread: Bytes::new(),
        }
    }

    /// Waits for bytes to read; there are none at the end.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.incoming.poll_data(cx)) {
                Some(Ok(data)) => self.unread = data,
                None => break,
                Some(Err(error)) => match error.reason() {
                    // The other side dropped its end.
                    Some(Reason::NO_ERROR | Reason::CANCEL) => break,
                    _ => return Poll::Ready(Err(io::Error::other(error))),
                },
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the other side takes some bytes, at most as many as are wanted.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<usize>> {
        self.outgoing.reserve_capacity(wanted);
        loop {
            match self.outgoing.capacity() {
                0 => match ready!(self.outgoing.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                },
                room => return Poll::Ready(Ok(room.min(wanted))),
            }
        }
    }
}

impl AsyncRead for LaneTunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_unread(cx))?;
        let count = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..count]);
        this.unread.advance(count);
        // Makes room for as much again. Fails only where the stream has ended meanwhile.
        let _ = this.incoming.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for LaneTunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let this = self.get_mut();
        let wanted = bytes.len().min(FRAME_SIZE as usize);
        let room = ready!(this.poll_room(cx, wanted))?;
        let data = Bytes::copy_from_slice(&bytes[..room]);
        let sent = this.outgoing.send_data(data, false);
        Poll::Ready(sent.map(|()| room).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is the connection's, which sends it without being asked.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.get_mut().outgoing.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
