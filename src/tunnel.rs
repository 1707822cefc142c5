//! Copies bytes both ways between two upgraded streams: the WebSocket of a caller and that of an upstream.
//!
//! Knows nothing of WebSocket frames and never changes a byte. Each direction ends on its own
//! (half-close); a tunnel in which nothing moves for too long ends as a whole.

use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::capped::TooLong;

/// Bytes under way in each direction of one tunnel. WebSocket messages are small, and a thousand
/// tunnels should cost tens of megabytes, not hundreds.
const BUFFER_BYTES: usize = 16 * 1024;

/// How long the other direction may still stand idle once one has ended: a WebSocket whose caller has
/// gone says nothing more, and what is under way then takes a moment.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(5);

/// How a tunnel ended, and what it carried.
#[derive(Debug)]
pub struct Tunnelled {
    /// Bytes from the first stream to the second.
    pub forth: u64,
    /// Bytes from the second stream to the first.
    pub back: u64,
    /// Why it ended.
    pub end: TunnelEnd,
}

/// Why a tunnel ended.
#[derive(Debug)]
pub enum TunnelEnd {
    /// Both directions were closed in an orderly way.
    Closed,
    /// Nothing moved for as long as was allowed.
    Idle,
    /// This stream broke.
    Broken(Side, io::Error),
    /// A direction had more bytes than it may have.
    TooLong(TooLong),
}

/// One of the streams of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    First,
    /// The second.
    Second,
}

/// How many bytes have passed so far, for whoever asks while they pass.
#[derive(Debug, Clone, Copy)]
pub struct Passed<'a> {
    /// From the first stream to the second.
    pub forth: &'a AtomicU64,
    /// From the second stream to the first.
    pub back: &'a AtomicU64,
}

/// How many bytes may pass; nothing: any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// From the first stream to the second.
    pub forth: Option<u64>,
    /// From the second stream to the first.
    pub back: Option<u64>,
}

impl Bounds {
    /// None at all.
    pub const NONE: Self = Self {
        forth: None,
        back: None,
    };
}

/// Copies between both streams until both directions have ended, one breaks, or nothing has moved for `idle`.
pub async fn copy_both<A, B>(first: A, second: B, idle: Duration) -> Tunnelled
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (forth, back) = (AtomicU64::new(0), AtomicU64::new(0));
    let passed = Passed {
        forth: &forth,
        back: &back,
    };
    copy_within(first, second, idle, Bounds::NONE, passed).await
}

/// The same within bounds: the tunnel breaks off with the first byte beyond them, which does not pass. What passes is
/// added to `passed` as it does.
pub async fn copy_within<A, B>(
    first: A,
    second: B,
    idle: Duration,
    bounds: Bounds,
    passed: Passed<'_>,
) -> Tunnelled
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let forth = Meter::new(bounds.forth, passed.forth);
    let back = Meter::new(bounds.back, passed.back);
    let mut first = Metered::new(first, &forth);
    let mut second = Metered::new(second, &back);
    let copying =
        copy_bidirectional_with_sizes(&mut first, &mut second, BUFFER_BYTES, BUFFER_BYTES);
    // Both branches end the tunnel, so that what the other had under way is of no interest.
    let end = tokio::select! {
        copied = copying => match copied {
            Ok(_) => TunnelEnd::Closed,
            Err(error) => match forth.overrun().or_else(|| back.overrun()) {
                Some(too_long) => TunnelEnd::TooLong(too_long),
                None if first.has_broken => TunnelEnd::Broken(Side::First, error),
                None => TunnelEnd::Broken(Side::Second, error),
            },
        },
        () = still_for(idle, &forth, &back) => TunnelEnd::Idle,
    };
    Tunnelled {
        forth: forth.bytes(),
        back: back.bytes(),
        end,
    }
}

/// Ends when neither meter has moved for `idle`, or for a moment once one of them has ended.
async fn still_for(idle: Duration, forth: &Meter<'_>, back: &Meter<'_>) {
    loop {
        let is_half_closed = forth.has_ended() || back.has_ended();
        let limit = if is_half_closed {
            idle.min(HALF_CLOSED_IDLE)
        } else {
            idle
        };
        let deadline = forth.last_moved().max(back.last_moved()) + limit;
        if Instant::now() >= deadline {
            return;
        }
        // All of these can be dropped and begun again without loss.
        tokio::select! {
            () = tokio::time::sleep_until(deadline) => {}
            () = forth.ended.notified() => {}
            () = back.ended.notified() => {}
        }
    }
}

/// Counts the bytes that one stream yields, and remembers when it last did.
struct Meter<'a> {
    bytes: &'a AtomicU64,
    most: Option<u64>,
    has_overrun: AtomicBool,
    last_moved: Mutex<Instant>,
    has_ended: AtomicBool,
    ended: Notify,
}

impl<'a> Meter<'a> {
    fn new(most: Option<u64>, bytes: &'a AtomicU64) -> Self {
        Self {
            bytes,
            most,
            has_overrun: AtomicBool::new(false),
            last_moved: Mutex::new(Instant::now()),
            has_ended: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }

    fn end(&self) {
        self.add(0);
        self.has_ended.store(true, Ordering::Relaxed);
        self.ended.notify_one();
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    fn add(&self, count: usize) {
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        if let Ok(mut last_moved) = self.last_moved.lock() {
            *last_moved = Instant::now();
        }
    }

    /// Whether so many more may pass; if not, that is noted.
    fn admits(&self, count: usize) -> Result<(), TooLong> {
        match self.most {
            Some(most) if self.bytes() + count as u64 > most => {
                self.has_overrun.store(true, Ordering::Relaxed);
                Err(TooLong(most))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn overrun(&self) -> Option<TooLong> {
        let most = self
            .most
            .filter(|_| self.has_overrun.load(Ordering::Relaxed));
        most.map(TooLong)
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn last_moved(&self) -> Instant {
        self.last_moved
            .lock()
            .map_or_else(|poisoned| *poisoned.into_inner(), |moved| *moved)
    }
}

/// A stream whose reads are metered, and of which it is known that it broke.
struct Metered<'a, S> {
    stream: S,
    meter: &'a Meter<'a>,
    has_broken: bool,
}

impl<'a, S> Metered<'a, S> {
    const fn new(stream: S, meter: &'a Meter<'a>) -> Self {
        Self {
            stream,
            meter,
            has_broken: false,
        }
    }

    /// What the stream said, with a note where it is that it broke.
    fn noted<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.has_broken |= matches!(polled, Poll::Ready(Err(_)));
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let polled = self.noted(polled);
        let count = buffer.filled().len() - before;
        if let Err(too_long) = self.meter.admits(count) {
            buffer.set_filled(before);
            return Poll::Ready(Err(io::Error::other(too_long)));
        }
        match &polled {
            Poll::Ready(Ok(())) if count > 0 => self.meter.add(count),
            Poll::Ready(Ok(())) if buffer.remaining() > 0 => self.meter.end(),
            Poll::Ready(_) | Poll::Pending => {}
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.noted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.noted(polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_are_counted() {
        let (mut caller, mut upstream, tunnel) = tunnel(Duration::from_secs(60));
        caller.write_all(b"hello").await.unwrap();
        assert_eq!(read(&mut upstream, 5).await, b"hello");
        upstream.write_all(b"hi").await.unwrap();
        assert_eq!(read(&mut caller, 2).await, b"hi");
        drop((caller, upstream));
        let tunnelled = tunnel.await.unwrap();
        assert_eq!((tunnelled.forth, tunnelled.back), (5, 2));
    }

    #[tokio::test]
    async fn a_tunnel_breaks_off_where_more_is_sent_than_may_be() {
        let (mut caller, near) = duplex(64);
        let (far, mut upstream) = duplex(64);
        let bounds = Bounds {
            forth: Some(5),
            back: None,
        };
        let idle = Duration::from_secs(60);
        let tunnel = tokio::spawn(async move {
            let (forth, back) = (AtomicU64::new(0), AtomicU64::new(0));
            let passed = Passed {
                forth: &forth,
                back: &back,
            };
            copy_within(near, far, idle, bounds, passed).await
        });
        upstream.write_all(b"as much as one likes").await.unwrap();
        assert_eq!(read(&mut caller, 20).await, b"as much as one likes");
        caller.write_all(b"hello").await.unwrap();
        assert_eq!(read(&mut upstream, 5).await, b"hello");
        caller.write_all(b"!").await.unwrap();
        let mut heard = Vec::new();
        upstream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"");
        let tunnelled = tunnel.await.unwrap();
        assert_eq!((tunnelled.forth, tunnelled.back), (5, 20));
        assert!(matches!(tunnelled.end, TunnelEnd::TooLong(TooLong(5))));
    }

    #[tokio::test]
    async fn one_direction_may_end_before_the_other() {
        let (mut caller, mut upstream, tunnel) = tunnel(Duration::from_secs(60));
        caller.write_all(b"last words").await.unwrap();
        caller.shutdown().await.unwrap();
        let mut heard = Vec::new();
        upstream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
        upstream.write_all(b"answer").await.unwrap();
        assert_eq!(read(&mut caller, 6).await, b"answer");
        upstream.shutdown().await.unwrap();
        assert!(matches!(tunnel.await.unwrap().end, TunnelEnd::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_which_nothing_moves_ends_and_one_in_which_something_does_stays() {
        let (mut caller, mut upstream, tunnel) = tunnel(Duration::from_secs(60));
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(50)).await;
            caller.write_all(b"x").await.unwrap();
            assert_eq!(read(&mut upstream, 1).await, b"x");
        }
        assert!(!tunnel.is_finished());
        assert!(matches!(tunnel.await.unwrap().end, TunnelEnd::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_stays_silent_after_its_caller_has_gone_is_let_go_soon() {
        let (caller, _upstream, tunnel) = tunnel(Duration::from_secs(3600));
        let started = Instant::now();
        drop(caller);
        assert!(matches!(tunnel.await.unwrap().end, TunnelEnd::Idle));
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    fn tunnel(
        idle: Duration,
    ) -> (
        DuplexStream,
        DuplexStream,
        tokio::task::JoinHandle<Tunnelled>,
    ) {
        let (caller, near) = duplex(64);
        let (far, upstream) = duplex(64);
        (caller, upstream, tokio::spawn(copy_both(near, far, idle)))
    }

    async fn read(stream: &mut DuplexStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }
}
