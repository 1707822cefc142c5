//! A TCP socket of which the runtime's poller learns only when something is to be waited for.
//!
//! A caller's first request mostly lies there when its socket is accepted, and the answer mostly fits in the socket's
//! buffer. A call on a connection of its own so needs no poller at all, which is two system calls less, and what the runtime
//! keeps for each socket that it watches. Reads and writes are tried; the first that would have to wait registers. They count
//! in the task's share of a turn as those of other sockets do: who sends without a pause holds up nobody else.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::poll_proceed;

/// See the module.
#[derive(Debug)]
pub struct LateTcp(State);

#[derive(Debug)]
enum State {
    /// Never waited for. It may be one that blocks: each call says that it must not.
    New(std::net::TcpStream),
    /// Known to the poller.
    Registered(TcpStream),
    /// It could not be registered, and is closed.
    Lost,
}

impl LateTcp {
    /// A socket that nobody has told the poller of.
    #[must_use]
    pub const fn new(socket: std::net::TcpStream) -> Self {
        Self(State::New(socket))
    }

    /// Whether nothing was waited for until now.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        matches!(self.0, State::New(_))
    }

    /// The socket itself, unless it is lost.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            State::New(socket) => Some(socket.as_fd()),
            State::Registered(socket) => Some(socket.as_fd()),
            State::Lost => None,
        }
    }

    /// The socket, once the poller knows it.
    fn registered(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        if self.is_new()
            && let State::New(socket) = std::mem::replace(&mut self.0, State::Lost)
        {
            socket.set_nonblocking(true)?;
            self.0 = State::Registered(TcpStream::from_std(socket)?);
        }
        match &mut self.0 {
            State::Registered(socket) => Ok(Pin::new(socket)),
            State::New(_) | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl From<TcpStream> for LateTcp {
    fn from(socket: TcpStream) -> Self {
        Self(State::Registered(socket))
    }
}

/// Reads what is there; nothing where that would wait.
fn read_now(socket: &std::net::TcpStream, target: &mut [u8]) -> Option<io::Result<usize>> {
    let read = recv(socket.as_raw_fd(), target, MsgFlags::MSG_DONTWAIT);
    now(read.map_err(io::Error::from))
}

/// Writes what there is room for; nothing where that would wait.
fn write_now(socket: &std::net::TcpStream, slices: &[IoSlice<'_>]) -> Option<io::Result<usize>> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    now(SockRef::from(socket).send_vectored_with_flags(slices, flags.bits()))
}

fn now(outcome: io::Result<usize>) -> Option<io::Result<usize>> {
    let waits = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
    match outcome {
        Err(error) if waits.contains(&error.kind()) => None,
        outcome => Some(outcome),
    }
}

impl AsyncRead for LateTcp {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let State::New(socket) = &this.0 {
            let share = ready!(poll_proceed(cx));
            if let Some(read) = read_now(socket, buffer.initialize_unfilled()) {
                share.made_progress();
                return Poll::Ready(read.map(|count| buffer.advance(count)));
            }
        }
        this.registered()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for LateTcp {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let State::New(socket) = &this.0 {
            let share = ready!(poll_proceed(cx));
            if let Some(written) = write_now(socket, &[IoSlice::new(bytes)]) {
                share.made_progress();
                return Poll::Ready(written);
            }
        }
        this.registered()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let State::New(socket) = &this.0 {
            let share = ready!(poll_proceed(cx));
            if let Some(written) = write_now(socket, slices) {
                share.made_progress();
                return Poll::Ready(written);
            }
        }
        this.registered()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is the system's.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            State::New(socket) => Poll::Ready(socket.shutdown(std::net::Shutdown::Write)),
            State::Registered(socket) => Pin::new(socket).poll_shutdown(cx),
            State::Lost => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The two ends of a connection: one that blocks, and one to be tried.
    fn pair() -> (std::net::TcpStream, LateTcp) {
        pair_after(b"")
    }

    /// The same, after this was said and has come.
    fn pair_after(said: &[u8]) -> (std::net::TcpStream, LateTcp) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, _) = listener.accept().unwrap();
        far.write_all(said).unwrap();
        let mut there = vec![0; said.len()];
        while !said.is_empty() && near.peek(&mut there).unwrap() < said.len() {}
        (far, LateTcp::new(near))
    }

    #[tokio::test]
    async fn what_is_there_is_read_and_what_has_room_is_written_without_the_poller() {
        let (mut far, mut near) = pair_after(b"hello");
        let mut room = [0; 5];
        near.read_exact(&mut room).await.unwrap();
        assert_eq!(&room, b"hello");
        near.write_all(b"and").await.unwrap();
        let pieces = [IoSlice::new(b" good"), IoSlice::new(b"bye")];
        assert_eq!(near.write_vectored(&pieces).await.unwrap(), 8);
        assert!(near.is_new());
        near.shutdown().await.unwrap();
        let mut said = String::new();
        far.read_to_string(&mut said).unwrap();
        assert_eq!(said, "and goodbye");
    }

    #[tokio::test]
    async fn what_is_not_there_yet_is_waited_for() {
        let (mut far, mut near) = pair();
        let mut room = [0; 5];
        assert!(near.read(&mut room).now_or_never().is_none());
        assert!(!near.is_new());
        far.write_all(b"hello").unwrap();
        near.read_exact(&mut room).await.unwrap();
        assert_eq!(&room, b"hello");
        drop(far);
        assert_eq!(near.read(&mut room).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn who_has_always_more_to_say_or_to_take_lets_others_have_their_turn() {
        let said = vec![1; 4096];
        let (_far, mut near) = pair_after(&said);
        let mut byte = [0];
        let reads = async { while near.read(&mut byte).await.is_ok_and(|count| count > 0) {} };
        tokio::select! {
            biased;
            () = reads => panic!("it has read on until it had to wait"),
            () = std::future::ready(()) => {}
        }
        assert!(near.is_new(), "it did not have to wait");
        let writes = async { while near.write(b"a").await.is_ok() {} };
        assert!(writes.now_or_never().is_none());
        assert!(near.is_new(), "nor did it here");
    }

    #[tokio::test]
    async fn more_than_the_socket_takes_is_written_as_it_is_read() {
        const LENGTH: usize = 64 * 1024 * 1024;
        let (mut far, mut near) = pair();
        let reading = std::thread::spawn(move || io::copy(&mut far, &mut io::sink()));
        near.write_all(&vec![1; LENGTH]).await.unwrap();
        assert!(!near.is_new());
        drop(near);
        assert_eq!(reading.join().unwrap().unwrap(), LENGTH as u64);
    }
}
