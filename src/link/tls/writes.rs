//! How a socket's writes go, for one who watches from outside: whether its reader reads.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

/// Kept by the stream that writes; read by others.
#[derive(Debug, Default)]
pub struct Writes {
    bytes: AtomicU64,
    is_blocked: AtomicBool,
}

impl Writes {
    /// Bytes that the system took so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the system takes no more until the other side has read some.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(count)) = polled {
            self.bytes.fetch_add(*count as u64, Ordering::Relaxed);
        }
        self.is_blocked
            .store(polled.is_pending(), Ordering::Relaxed);
    }
}
