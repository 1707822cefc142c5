//! Calls that came with `Expect: 100-continue` and wait for the agent's word before their body is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// The waiting calls of one link, by request id. Never more than the connection's calls in flight.
#[derive(Debug, Default, Clone)]
pub struct GoAheads {
    waiting: Arc<Mutex<HashMap<String, oneshot::Sender<()>>>>,
}

/// One call's place among the waiting. Forgotten when dropped.
#[derive(Debug)]
pub struct GoAhead {
    request: String,
    word: oneshot::Receiver<()>,
    waiting: GoAheads,
}

impl GoAheads {
    /// Lets a call wait for its go-ahead.
    #[must_use]
    pub fn expect(&self, request: &str) -> GoAhead {
        let (sender, word) = oneshot::channel();
        self.with(|waiting| waiting.insert(request.to_owned(), sender));
        GoAhead {
            request: request.to_owned(),
            word,
            waiting: self.clone(),
        }
    }

    /// Gives a call its go-ahead; one that no longer waits is no error.
    pub fn give(&self, request: &str) {
        if let Some(sender) = self.with(|waiting| waiting.remove(request)) {
            // The call may just have been answered; then nobody needs the word.
            let _ = sender.send(());
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, oneshot::Sender<()>>) -> T) -> T {
        act(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl GoAhead {
    /// Completes when the go-ahead is given, or can no longer be. Cancel-safe.
    pub async fn given(&mut self) {
        // An error means that the sender is gone with the link; whoever reads the body will see that.
        let _ = (&mut self.word).await;
    }
}

impl Drop for GoAhead {
    fn drop(&mut self) {
        self.waiting.with(|waiting| waiting.remove(&self.request));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_go_ahead_reaches_its_call_and_a_dropped_call_leaves_nothing() {
        let go_aheads = GoAheads::default();
        let mut one = go_aheads.expect("1");
        let other = go_aheads.expect("2");
        go_aheads.give("1");
        one.given().await;
        go_aheads.give("unknown");
        drop((one, other));
        assert!(go_aheads.with(|waiting| waiting.is_empty()));
    }
}
