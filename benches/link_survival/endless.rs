//! A transfer without end, beside which others are measured.
//!
//! In a thread of its own with as little of its own work as can be: whoever is measured is to wait for relay and agent,
//! not for another caller in the same loop.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// More than any measurement takes.
const BYTES: u64 = 1 << 50;
const BLOCK: usize = 64 * 1024;
/// How long it may stand still before something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which way it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Down,
    Up,
}

/// The transfer; dropping it ends it.
pub(crate) struct Endless {
    shared: Arc<Shared>,
    began: Instant,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    carried: AtomicU64,
}

impl Endless {
    /// Begins one, at an address whose paths begin with `prefix` and that wants a token.
    pub(crate) fn begin(
        direction: Direction,
        address: SocketAddr,
        prefix: &str,
        token: &str,
    ) -> Result<Self, Failure> {
        let request = match direction {
            Direction::Down => format!("GET {prefix}/bulk/{BYTES} HTTP/1.1\r\n"),
            Direction::Up => format!("POST {prefix}/sink HTTP/1.1\r\nContent-Length: {BYTES}\r\n"),
        };
        let head =
            format!("{request}Host: {address}\r\nRelay-Authorization: Bearer {token}\r\n\r\n");
        let connected = TcpStream::connect(address).and_then(|mut socket| {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.write_all(head.as_bytes())?;
            Ok(socket)
        });
        let socket = connected.map_err(Failure::because("begin a transfer"))?;
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        Ok(Self {
            shared,
            began: Instant::now(),
            thread: Some(thread::spawn(move || of_thread.carry(direction, socket))),
        })
    }

    /// Ends it; how many bytes a second it has carried.
    pub(crate) fn end(mut self) -> Result<f64, Failure> {
        let carried = self.shared.carried.load(Ordering::Relaxed);
        let rate = carried as f64 / self.began.elapsed().as_secs_f64();
        self.shared.is_over.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Ok(()))) if carried > 0 => Ok(rate),
            Some(Ok(Err(error))) => Err(Failure::because("carry a transfer on")(error)),
            Some(Ok(Ok(())) | Err(_)) | None => Err(Failure::new("a transfer came to nothing")),
        }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn carry(&self, direction: Direction, mut socket: TcpStream) -> io::Result<()> {
        let mut block = [7; BLOCK];
        while !self.is_over.load(Ordering::Relaxed) {
            let count = match direction {
                Direction::Down => socket.read(&mut block)?,
                Direction::Up => socket.write(&block)?,
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.carried.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}
