//! A live link: its driver, the server on its inward lane, and what is said on its outward lane.
//!
//! When it is dropped, whatever the reason, the link is closed and the calls on it end.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Event;
use super::retirement::RetirementPlace;
use super::rotating::Means;
use crate::agent::arrival::{Arrivals, Gate};
use crate::agent::control::{self, ControlMessage, TellError};
use crate::agent::live::Live;
use crate::agent::state::{ConnectionRecord, Standing};
use crate::agent::succession::TICKET_HOLDS;
use crate::error_chain::chain;
use crate::link::http2::{self, LaneClient};
use crate::link::path::Path;
use crate::link::{Link, LinkEnd, LinkHandle};
use crate::name::Name;
use crate::protocol::CloseCode;
use crate::protocol::handshake::{LEAVE, SUCCESSION, Ticket};
use crate::protocol::rotation::ROTATE;
use crate::shutdown::Shutdown;

/// Why the calls end on a link that the agent has moved away from, and that is then cut.
const MOVED_AND_CUT: &str = "the WebSocket was lost after the agent had moved to another link";

/// How long the relay may take to answer that the agent takes leave: calls pass meanwhile, and not longer, since
/// the time to finish those under way runs.
const LEAVE_TAKING: Duration = Duration::from_secs(2);

/// How long the relay may take to answer that another process comes: who is not answered by then tries later.
const ANNOUNCING: Duration = Duration::from_secs(5);

/// A control message on its way.
type Telling = Pin<Box<dyn Future<Output = (ControlMessage, Result<(), TellError>)> + Send>>;

pub(super) struct Online {
    /// Closes the link and knows how it is.
    pub(super) handle: LinkHandle,
    /// What the relay knows of this side's deactivation.
    pub(super) relay_knows_deactivated: bool,
    /// What a new identity key needs of this link; nothing when the relay does not know how.
    pub(super) means: Option<Means>,
    /// Whether calls pass.
    pub(super) gate: Arc<Gate>,
    driver: Option<JoinHandle<LinkEnd>>,
    server: Option<AbortOnDropHandle<()>>,
    messages: mpsc::Receiver<ControlMessage>,
    outward: LaneClient,
    telling: Option<Telling>,
    /// Whether the relay lets an announced process of this agent link beside this one.
    knows_successions: bool,
    path: watch::Receiver<Path>,
    /// Lets the inward lane finish what it has and take nothing new.
    retiring: CancellationToken,
    /// Whether the relay could not be told something: then this link is closed, and the next one tells.
    has_failed_to_tell: bool,
}

impl Online {
    /// Sets a new link to work. `told` is what the handshake told the relay of this side.
    pub(super) fn begin(
        link: Link,
        connection: &Name,
        told: bool,
        live: &Arc<Live>,
        shutdown: &Shutdown,
    ) -> Self {
        let (sender, messages) = control::queue();
        let gate = Arc::new(Gate::default());
        let outward = LaneClient::new(link.outward);
        let knows_rotation = link.peer.has(ROTATE);
        let means = link
            .transcript
            .filter(|_| knows_rotation)
            .map(|transcript| Means {
                outward: outward.clone(),
                transcript,
            });
        let arrivals = Arrivals::new(
            connection,
            Arc::clone(&gate),
            sender,
            Arc::clone(live),
            outward.clone(),
        );
        let (inward, draining) = (link.inward, shutdown.draining());
        let retiring = CancellationToken::new();
        let retired = retiring.clone().cancelled_owned();
        let knows_successions = link.peer.has(SUCCESSION);
        let relay = link.peer.has(LEAVE).then(|| outward.clone());
        let server = tokio::spawn(async move {
            // Boxed, for it would be moved seven times on its way into a task of its own.
            let service = hyper::service::service_fn(move |request| {
                Box::pin(arrivals.clone().answer(request))
            });
            let ending = async {
                tokio::select! {
                    // Both only wait.
                    () = draining => take_leave(relay).await,
                    () = retired => {}
                }
            };
            if let Err(error) = http2::serve(inward, service, ending).await {
                tracing::debug!(error = %chain(&error), "the inward lane ended");
            }
        });
        Self {
            path: link.handle.path(),
            retiring,
            handle: link.handle,
            relay_knows_deactivated: told,
            means,
            gate,
            driver: Some(shutdown.spawn(link.driver.run())),
            server: Some(AbortOnDropHandle::new(server)),
            messages,
            outward,
            telling: None,
            knows_successions,
            has_failed_to_tell: false,
        }
    }

    /// Cancel-safe: every future is kept here until it has ended. What the relay said comes before
    /// the end of the link, so that a removal is not taken for an accident.
    pub(super) async fn next_event(&mut self) -> Event {
        loop {
            return tokio::select! {
                biased;
                Some(message) = self.messages.recv() => Event::Told(message),
                (message, result) = optional(&mut self.telling) => {
                    self.telling = None;
                    // A try on a lane that is dead fails at once, so that tries without end would keep
                    // the end of the link from ever being seen.
                    self.has_failed_to_tell = result.is_err();
                    if result.is_err() && self.has_link_ended() {
                        // How the link ended says more: the relay may have closed it as it was told to.
                        continue;
                    }
                    Event::Delivered(message, result)
                }
                end = optional(&mut self.driver) => {
                    self.driver = None;
                    Event::LinkEnded(end.unwrap_or(LinkEnd::ClosedHere(CloseCode::Internal)))
                }
                Ok(()) = self.path.changed() => Event::PathChanged(self.path.borrow_and_update().clone()),
                _ = optional(&mut self.server) => {
                    self.server = None;
                    Event::Served
                }
            };
        }
    }

    /// Whether the link has come to its end, and nobody has been told so far.
    fn has_link_ended(&self) -> bool {
        self.driver.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// What is known of the WebSocket now.
    pub(super) fn path(&self) -> Path {
        self.path.borrow().clone()
    }

    /// Whether the link has no WebSocket now.
    pub(super) fn is_away(&self) -> bool {
        self.path.borrow().is_away()
    }

    /// Whether an answer of the relay is overdue.
    pub(super) fn is_doubtful(&self) -> bool {
        *self.path.borrow() == Path::Doubtful
    }

    /// Whether the link can go on over another WebSocket.
    pub(super) fn is_resumable(&self) -> bool {
        self.handle.session().is_some()
    }

    /// Another link takes new calls; this one ends when those under way have ended, or it loses its
    /// WebSocket: nobody dials for it any more.
    pub(super) fn retire(mut self, place: RetirementPlace, shutdown: &Shutdown) {
        self.retiring.cancel();
        let ending = async move {
            loop {
                match self.next_event().await {
                    Event::Served => self
                        .handle
                        .close(CloseCode::Superseded, "the agent has moved"),
                    Event::PathChanged(path) if path.is_away() => {
                        self.handle.abandon(MOVED_AND_CUT);
                    }
                    Event::LinkEnded(_) => return,
                    Event::Told(_)
                    | Event::Delivered(..)
                    | Event::PathChanged(_)
                    | Event::Order(_)
                    | Event::Dialled(_)
                    | Event::Rotated(_)
                    | Event::RotationDue
                    | Event::WaitOver
                    | Event::Draining
                    | Event::Stopping => {}
                }
            }
        };
        let stopping = shutdown.stopping();
        shutdown.spawn(async move {
            tokio::select! {
                // Whatever comes first ends the link, by dropping it.
                () = ending => {}
                () = place.over() => {}
                () = stopping => {}
            }
        });
    }

    /// Tells the relay what it does not know of this side yet, one message at a time.
    pub(super) fn tell_what_changed(&mut self, record: &ConnectionRecord) {
        if self.telling.is_some() || self.has_failed_to_tell {
            return;
        }
        let message = match record.standing {
            Standing::RemovedHere => ControlMessage::Removed,
            Standing::Kept if record.deactivated != self.relay_knows_deactivated => {
                ControlMessage::State {
                    deactivated: record.deactivated,
                }
            }
            Standing::Kept | Standing::Ended { .. } => return,
        };
        let outward = self.outward.clone();
        self.telling = Some(Box::pin(async move {
            let result = control::tell(&outward, &message).await;
            (message, result)
        }));
    }

    /// Tells the relay that another process of this agent comes; nothing when the relay would not let it link.
    pub(super) fn announcing(
        &self,
        ticket: Ticket,
    ) -> Option<impl Future<Output = Result<(), TellError>> + Send + use<>> {
        let outward = self.knows_successions.then(|| self.outward.clone())?;
        Some(async move {
            let within = TICKET_HOLDS;
            let message = ControlMessage::Succession { ticket, within };
            let telling = control::tell(&outward, &message);
            let told = tokio::time::timeout(ANNOUNCING, telling).await;
            told.unwrap_or(Err(TellError::Silent))
        })
    }

    /// When the relay was last heard.
    pub(super) fn last_seen(&self) -> SystemTime {
        last_seen(&self.handle)
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        // Closing a link that is closed changes nothing.
        self.handle
            .close(CloseCode::Internal, "the agent let go of the link");
    }
}

/// Lets a relay that knows of it hold back new calls, before this side refuses them.
async fn take_leave(relay: Option<LaneClient>) {
    let Some(outward) = relay else { return };
    let telling = control::tell(&outward, &ControlMessage::Leave);
    match tokio::time::timeout(LEAVE_TAKING, telling).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = %chain(&error), "no leave was taken"),
        Err(_) => tracing::debug!("the relay did not answer that the agent takes leave"),
    }
}

/// The next event of a link that may not be there. Cancel-safe.
pub(super) async fn next_event_of(online: &mut Option<Box<Online>>) -> Event {
    match online {
        Some(online) => online.next_event().await,
        None => pending().await,
    }
}

/// When the other side of a live link was last heard.
pub(in crate::agent) fn last_seen(handle: &LinkHandle) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(handle.stats().quiet).unwrap_or(now)
}

/// Waits for a future that may not be there.
async fn optional<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
