//! The sockets that nobody listens to during their first call, and the end of their rest.
//!
//! One timer for all that begin to rest within a while: one for each socket would cost more than what the rest saves. Never
//! keeps a socket open, but a few bytes of what it shared.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::relay::strict::Watch;

/// A rest is over after this at the latest: the relay then begins to listen whether the caller is still there. Most calls are over
/// by then, and have never waited for the socket; nobody minds that a call which nobody wants any more lasts so much longer.
const REST: Duration = Duration::from_millis(100);
/// Sockets that begin to rest within that time. More do not rest: 40,000 a second is more than one relay accepts.
const MOST: usize = 4096;

/// The sockets of one listener that rest.
#[derive(Debug, Default)]
pub(super) struct Rests(Mutex<Vec<Arc<Watch>>>);

impl Rests {
    /// Ends the rest of a socket in time. Tells whether it will; where not, the socket must not rest. Must be called within a
    /// runtime.
    pub(super) fn end_in_time(self: &Arc<Self>, watch: &Arc<Watch>) -> bool {
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if resting.len() >= MOST {
            return false;
        }
        if resting.is_empty() {
            let rests = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(REST).await;
                rests.end_all();
            });
        }
        resting.push(Arc::clone(watch));
        true
    }

    fn end_all(&self) {
        let resting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for watch in resting {
            watch.end_rest();
        }
    }
}
