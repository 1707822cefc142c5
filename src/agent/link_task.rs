//! One task per connection: dials, keeps the link, dials again when its WebSocket is lost or in doubt, until
//! the relay refuses for good.
//!
//! Owns the connection's record and its [`Phase`]; everything that happens to the connection arrives
//! here as one [`Event`]. Knows nothing of other connections, and nothing of how calls are answered.

mod activity;
mod keeping;
mod linking;
mod online;
mod order;
mod retirement;
mod rotating;
mod succession;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{Notify, mpsc, watch};

use self::activity::{Activity, DialFailure};
use self::keeping::Removals;
use self::online::Online;
pub(in crate::agent) use self::online::last_seen;
pub use self::order::{LinkTaskEnds, Order, Snapshot, TaskEnd};
use self::retirement::Retirement;
use self::rotating::{Outcome, RotateFailure, Rotating};
use crate::agent::command::Removal;
use crate::agent::control::{ControlMessage, TellError};
use crate::agent::lifecycle::{Happening, Phase};
use crate::agent::live::Live;
use crate::agent::state::{ConnectionRecord, HeldKey, Standing, StateDirectory};
use crate::agent::status::{ConnectionStatus, LinkFacts};
use crate::backoff::Redial;
use crate::error_chain::chain;
use crate::identity::PublicKey;
use crate::link::LinkEnd;
use crate::link::client::Connected;
use crate::link::path::Path;
use crate::protocol::CloseCode;
use crate::protocol::handshake::Ticket;
use crate::shutdown::Shutdown;

/// Orders that may wait: administrators give them one at a time.
const ORDER_QUEUE_LENGTH: usize = 8;

/// All that can happen to a connection.
enum Event {
    /// The supervisor asks for something.
    Order(Order),
    /// The dial ended.
    Dialled(Result<(Connected, HeldKey), DialFailure>),
    /// A new identity key has come about, or not.
    Rotated(Result<Outcome, RotateFailure>),
    /// A new identity key may be due.
    RotationDue,
    /// Something is known of the link's WebSocket.
    PathChanged(Path),
    /// The relay told something.
    Told(ControlMessage),
    /// The relay was told something, or could not be.
    Delivered(ControlMessage, Result<(), TellError>),
    /// The inward lane ended; no call is under way any more.
    Served,
    /// The link is gone.
    LinkEnded(LinkEnd),
    /// The wait between two dials is over.
    WaitOver,
    /// Nothing new is to be taken.
    Draining,
    /// Everything is to be let go.
    Stopping,
}

/// The task, before it runs.
pub struct LinkTask {
    record: ConnectionRecord,
    phase: Phase,
    facts: LinkFacts,
    /// The live link, also while it has no WebSocket.
    online: Option<Box<Online>>,
    /// What is done to get a link, or another WebSocket for the one there is.
    activity: Activity,
    redial: Redial,
    /// When the WebSocket in use came up.
    path_since: Instant,
    /// Whether the relay asked the link to move.
    is_moving: bool,
    draining: bool,
    state: Arc<StateDirectory>,
    live: Arc<Live>,
    shutdown: Shutdown,
    orders: mpsc::Receiver<Order>,
    snapshot: watch::Sender<Snapshot>,
    /// Poked whenever the snapshot changes.
    changed: Arc<Notify>,
    /// What the relay was told of this side in the handshake under way.
    dialled_deactivated: bool,
    /// Whether the relay said last that another agent with this identity holds the link.
    is_copy: bool,
    removals: Removals,
    rotating: Rotating,
    /// Keys that the relay has refused since the last link: others are tried first.
    refused_keys: Vec<PublicKey>,
    /// Holds the links that another took the place of.
    retirement: Retirement,
    /// What the relay is shown until the first link is up, when this process takes over from another.
    succeeds: Option<Ticket>,
    /// Whether nothing is dialled, because another process does.
    gives_way: bool,
}

impl LinkTask {
    /// A task for a connection; it first waits for `delay`, which is zero but after a defect.
    #[must_use]
    pub fn new(
        record: ConnectionRecord,
        delay: Duration,
        state: Arc<StateDirectory>,
        live: Arc<Live>,
        shutdown: Shutdown,
        changed: Arc<Notify>,
    ) -> (Self, LinkTaskEnds) {
        let (order_sender, orders) = mpsc::channel(ORDER_QUEUE_LENGTH);
        let facts = LinkFacts::default();
        let phase = match &record.standing {
            Standing::Ended { why, at } => {
                let at = SystemTime::UNIX_EPOCH + Duration::from_secs(*at);
                Phase::ended(why.clone(), at)
            }
            Standing::Kept | Standing::RemovedHere if delay.is_zero() => Phase::begin(),
            Standing::Kept | Standing::RemovedHere => Phase::Waiting {
                until: SystemTime::now() + delay,
                why: "its task failed and was started anew".to_owned(),
                failures: 0,
            },
        };
        let (snapshot, snapshots) = watch::channel(Snapshot {
            status: ConnectionStatus::of(&record, &phase, &facts),
            relay_url: record.relay_url.clone(),
            tls_pin: record.tls_pin,
            handle: None,
        });
        let task = Self {
            record,
            phase,
            facts,
            online: None,
            activity: Activity::Idle,
            redial: Redial::new(),
            path_since: Instant::now(),
            is_moving: false,
            draining: false,
            state,
            live,
            shutdown,
            orders,
            snapshot,
            changed,
            dialled_deactivated: false,
            is_copy: false,
            removals: Removals::default(),
            rotating: Rotating::new(),
            refused_keys: Vec::new(),
            retirement: Retirement::new(),
            succeeds: None,
            gives_way: false,
        };
        let ends = LinkTaskEnds {
            orders: order_sender,
            snapshot: snapshots,
        };
        (task, ends)
    }

    /// Runs until the daemon stops or the connection is removed.
    pub async fn run(mut self) -> TaskEnd {
        self.begin_activity();
        loop {
            self.publish();
            let event = self.next_event().await;
            if let Some(end) = self.handle(event).await {
                self.publish();
                return end;
            }
            if let Some(online) = &mut self.online {
                online.tell_what_changed(&self.record);
            }
        }
    }

    /// Every branch is cancel-safe: what it waits for is kept in `self`.
    async fn next_event(&mut self) -> Event {
        tokio::select! {
            biased;
            () = self.shutdown.stopping() => Event::Stopping,
            () = self.shutdown.draining(), if !self.draining => Event::Draining,
            order = self.orders.recv() => order.map_or(Event::Stopping, Event::Order),
            // What the relay said, and how the link ended, before another dial.
            event = online::next_event_of(&mut self.online) => event,
            event = self.activity.next_event() => event,
            event = self.rotating.next_event() => event,
        }
    }

    async fn handle(&mut self, event: Event) -> Option<TaskEnd> {
        match event {
            Event::Order(Order::SetDeactivated { deactivated, reply }) => {
                let answer = self.set_deactivated(deactivated).await;
                let _ = reply.send(answer);
                None
            }
            Event::Order(Order::Remove { reply }) => self.remove(reply).await,
            Event::Order(Order::Rotate { reply }) => {
                self.rotate(reply);
                None
            }
            Event::Rotated(outcome) => {
                self.rotated(outcome);
                None
            }
            Event::RotationDue => {
                self.rotation_due();
                None
            }
            Event::Order(Order::Adopt { record }) => {
                self.adopt(*record);
                None
            }
            Event::Order(Order::Announce { ticket, reply }) => {
                self.announce(ticket, reply);
                None
            }
            Event::Order(Order::CallOff) => {
                self.call_off();
                None
            }
            #[cfg(test)]
            Event::Order(Order::Fail { reply }) => {
                drop(reply);
                panic!("as a test asked for")
            }
            Event::Dialled(Ok((connected, key))) => {
                self.dialled(connected);
                self.key_proven(&key);
                None
            }
            Event::Dialled(Err(error)) => self.dial_failed(&error).await,
            Event::PathChanged(path) => self.path_changed(path),
            Event::Told(ControlMessage::State { deactivated }) => {
                tracing::info!(connection = %self.record.name, deactivated, "the public side changed the connection's state");
                self.set_deactivated_there(deactivated);
                None
            }
            Event::Told(ControlMessage::Move { within }) => {
                self.move_within(within);
                None
            }
            Event::Told(ControlMessage::Duplicate { address }) => {
                self.note_duplicate(address);
                None
            }
            // Only agents say this, and the reader of the inward lane does not know it.
            Event::Told(
                ControlMessage::Continue { .. }
                | ControlMessage::Leave
                | ControlMessage::Succession { .. },
            ) => None,
            Event::Told(ControlMessage::Removed) => {
                self.close_link(CloseCode::Removed, "removed");
                self.refused("the public side removed this connection".to_owned())
                    .await
            }
            Event::Delivered(message, Ok(())) => self.delivered(message).await,
            Event::Delivered(_, Err(error)) => {
                self.not_delivered(&error);
                None
            }
            Event::LinkEnded(end) => self.link_ended(end).await,
            Event::Served => self.served(),
            Event::WaitOver => {
                self.wait_over();
                None
            }
            Event::Draining => self.drain(),
            Event::Stopping => {
                self.close_link(CloseCode::Draining, "the agent is stopping");
                self.step(Happening::Stopping);
                Some(TaskEnd::Stopped)
            }
        }
    }

    async fn delivered(&mut self, message: ControlMessage) -> Option<TaskEnd> {
        match message {
            ControlMessage::State { deactivated } => {
                if let Some(online) = &mut self.online {
                    online.relay_knows_deactivated = deactivated;
                }
                None
            }
            // Sent by the calls' own code, or by the relay alone.
            ControlMessage::Continue { .. }
            | ControlMessage::Leave
            | ControlMessage::Succession { .. }
            | ControlMessage::Move { .. }
            | ControlMessage::Duplicate { .. } => None,
            ControlMessage::Removed => {
                self.close_link(CloseCode::Removed, "removed on the private side");
                self.forget(Removal::Done).await
            }
        }
    }

    /// A new link tells what this one could not: the handshake and the next try carry the state.
    fn not_delivered(&mut self, error: &TellError) {
        tracing::warn!(connection = %self.record.name, error = %chain(error), "the public side could not be told");
        self.answer_removal(Ok(Removal::RelayNotToldYet));
        self.close_link(CloseCode::Internal, "a control message was not confirmed");
    }

    /// The inward lane ended: after a drain that is the end of the link, else a fault in it.
    fn served(&mut self) -> Option<TaskEnd> {
        if self.draining {
            self.close_link(CloseCode::Draining, "the agent is stopping");
        } else {
            self.close_link(CloseCode::Protocol, "the inward lane ended");
        }
        None
    }

    fn drain(&mut self) -> Option<TaskEnd> {
        self.draining = true;
        // The inward lane takes leave and refuses new calls by itself, and ends with the last of the others. A dial that is
        // under way goes on: the relay may have left the old WebSocket for it already.
        if let Some(online) = &self.online
            && (!online.is_away() || self.has_calls())
        {
            return None;
        }
        self.step(Happening::Stopping);
        Some(TaskEnd::Stopped)
    }

    fn set_deactivated_there(&mut self, deactivated: bool) {
        self.facts.deactivated_there = deactivated;
        self.update_gate();
    }

    /// Lets calls pass, or not, from the next one on.
    fn update_gate(&self) {
        if let Some(online) = &self.online {
            online.gate.set(&self.record, self.facts.deactivated_there);
        }
    }

    fn close_link(&self, code: CloseCode, text: &str) {
        if let Some(online) = &self.online {
            online.handle.close(code, text);
        }
    }

    fn note_last_seen(&mut self) {
        if let Some(online) = &self.online {
            self.facts.last_seen = Some(online.last_seen());
        }
    }

    fn step(&mut self, happening: Happening) {
        match self.phase.after(happening, SystemTime::now()) {
            Ok(phase) => self.phase = phase,
            Err(error) => tracing::error!(connection = %self.record.name, %error, "ignored"),
        }
    }

    fn status(&self) -> ConnectionStatus {
        ConnectionStatus::of(&self.record, &self.phase, &self.facts)
    }

    fn publish(&self) {
        let handle = self.online.as_ref().map(|online| online.handle.clone());
        self.snapshot.send_replace(Snapshot {
            status: self.status(),
            relay_url: self.record.relay_url.clone(),
            tls_pin: self.record.tls_pin,
            handle,
        });
        self.changed.notify_one();
    }
}
