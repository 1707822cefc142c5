//! What comes down one link: calls, which pass while the connection is active, and control messages.
//!
//! Decides nothing about a call but whether its connection lets calls pass; [`crate::agent::serve`]
//! answers it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::agent::control::{self, ControlMessage};
use crate::agent::live::Live;
use crate::agent::serve::{ControlAnswer, LinkOwner};
use crate::agent::state::{ConnectionRecord, Standing};
use crate::body::Body;
use crate::link::http2::LaneClient;

/// Whether calls of one connection pass. Shut until it is set.
#[derive(Debug, Default)]
pub struct Gate(AtomicBool);

/// Answers what comes down one link. Clones belong to the same link.
#[derive(Clone)]
pub struct Arrivals {
    live: Arc<Live>,
    owner: Arc<dyn LinkOwner>,
}

/// The link's end of what the calls' code wants to know and say.
struct Owner {
    gate: Arc<Gate>,
    messages: mpsc::Sender<ControlMessage>,
    outward: LaneClient,
}

impl Gate {
    /// Opens or shuts the gate, from the next call on.
    pub fn set(&self, record: &ConnectionRecord, deactivated_there: bool) {
        let open = match record.standing {
            Standing::Kept => !record.deactivated && !deactivated_there,
            Standing::RemovedHere | Standing::Ended { .. } => false,
        };
        self.0.store(open, Ordering::Relaxed);
    }

    /// Whether calls pass now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Arrivals {
    /// Answers for one link: what the relay tells goes to `messages`.
    #[must_use]
    pub fn new(
        gate: Arc<Gate>,
        messages: mpsc::Sender<ControlMessage>,
        live: Arc<Live>,
        outward: LaneClient,
    ) -> Self {
        let owner = Owner {
            gate,
            messages,
            outward,
        };
        Self {
            live,
            owner: Arc::new(owner),
        }
    }

    /// Answers one request. Never fails: what goes wrong becomes the answer.
    ///
    /// # Errors
    /// None.
    pub async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        if control::is_control(&request) {
            return Ok(self.owner.control(request).await);
        }
        let parts = self.live.parts();
        let upstream = request
            .uri()
            .authority()
            .and_then(|authority| parts.upstream_name(authority.as_str()));
        let response = self.live.calls.handle(&self.owner, request).await;
        self.live.metrics.count_call(upstream, response.status());
        Ok(response)
    }
}

impl LinkOwner for Owner {
    fn is_active(&self) -> bool {
        self.gate.is_open()
    }

    fn control(&self, request: Request<Incoming>) -> ControlAnswer {
        let messages = self.messages.clone();
        Box::pin(async move { control::receive(request, &messages).await })
    }

    fn go_ahead(&self, request_id: &str) {
        let (outward, request) = (self.outward.clone(), request_id.to_owned());
        // Ends within the deadline of every control message.
        tokio::spawn(async move {
            let message = ControlMessage::Continue { request };
            if let Err(error) = control::tell(&outward, &message).await {
                tracing::debug!(error = %crate::error_chain::chain(&error), "a go-ahead was not delivered");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::state::tests::example;

    #[test]
    fn calls_pass_only_while_both_sides_want_them() {
        let gate = Gate::default();
        assert!(!gate.is_open());
        let mut record = example("acme_to_widgets");
        let mut open = |here, there, standing| {
            record.deactivated = here;
            record.standing = standing;
            gate.set(&record, there);
            gate.is_open()
        };
        assert!(open(false, false, Standing::Kept));
        assert!(!open(true, false, Standing::Kept));
        assert!(!open(false, true, Standing::Kept));
        assert!(!open(false, false, Standing::RemovedHere));
    }
}
