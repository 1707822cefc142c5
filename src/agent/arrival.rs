//! What comes down one link: calls, which pass while the connection is active, and control messages.
//!
//! Decides nothing about a call but whether its connection lets calls pass; [`crate::agent::serve`]
//! answers it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, mpsc};

use crate::agent::control::{self, ControlMessage};
use crate::agent::live::Live;
use crate::agent::serve::{ControlAnswer, LinkOwner};
use crate::agent::state::{ConnectionRecord, Standing};
use crate::body::Body;
use crate::link::http2::LaneClient;
use crate::name::Name;

/// Go-aheads of one link that may be under way at once. Each takes a round trip; a call whose go-ahead
/// finds no place goes on all the same, a second later, as with a service that never says it.
const GO_AHEADS: usize = 128;

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
    connection: Arc<str>,
    gate: Arc<Gate>,
    messages: mpsc::Sender<ControlMessage>,
    outward: LaneClient,
    go_aheads: Places,
}

/// Tasks that may be under way at once.
struct Places(Arc<Semaphore>);

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
    /// Answers for one link of this connection: what the relay tells goes to `messages`.
    #[must_use]
    pub fn new(
        connection: &Name,
        gate: Arc<Gate>,
        messages: mpsc::Sender<ControlMessage>,
        live: Arc<Live>,
        outward: LaneClient,
    ) -> Self {
        let owner = Owner {
            connection: connection.as_str().into(),
            gate,
            messages,
            outward,
            go_aheads: Places::new(GO_AHEADS),
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
        if self.live.awaits_audit() {
            Box::pin(self.live.audit_is_free()).await;
        }
        let meter = self.live.metrics.begin(&request);
        let response = self.live.calls.handle(&self.owner, request).await;
        meter.end(&response);
        Ok(response)
    }
}

impl LinkOwner for Owner {
    fn connection(&self) -> &Arc<str> {
        &self.connection
    }

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
        let has_place = self.go_aheads.spawn(async move {
            let message = ControlMessage::Continue { request };
            if let Err(error) = control::tell(&outward, &message).await {
                tracing::debug!(error = %crate::error_chain::chain(&error), "a go-ahead was not delivered");
            }
        });
        if !has_place {
            tracing::debug!("a go-ahead was not sent, since too many are under way");
        }
    }
}

impl Places {
    fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Runs the task if there is a place for it; tells whether there was.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else {
            return false;
        };
        tokio::spawn(async move {
            task.await;
            drop(place);
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::state::tests::example;

    #[tokio::test]
    async fn no_more_tasks_run_at_once_than_there_are_places() {
        let places = Places::new(2);
        let (release, released) = tokio::sync::watch::channel(false);
        let task = || {
            let mut released = released.clone();
            async move { drop(released.wait_for(|it| *it).await) }
        };
        assert!(places.spawn(task()));
        assert!(places.spawn(task()));
        assert!(!places.spawn(task()));
        release.send_replace(true);
        while places.0.available_permits() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(places.spawn(task()));
    }

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
