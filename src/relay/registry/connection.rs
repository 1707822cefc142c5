//! One connection in memory: its record, its link if there is one, its calls under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::link_slot::Live;
use super::{Limits, LinkRefusal};
use crate::identity::ConnectionId;
use crate::name::Name;
use crate::relay::record::{ConnectionRecord, State};

/// One connection in memory. Shared by every call, link and admin that has to do with it.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    name: Name,
    limits: Limits,
    calls: Arc<Semaphore>,
    /// Ticks when the record changes, for the link that tells the far side.
    changes: watch::Sender<()>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    record: Arc<ConnectionRecord>,
    link: LinkState,
    last_seen_at: Option<u64>,
    /// Whether `last_seen_at` is newer than what the store holds.
    seen_since_stored: bool,
}

#[derive(Debug)]
enum LinkState {
    /// Never linked since the relay started, or lost at that moment.
    Down(Option<Instant>),
    /// An agent has proven itself and its link is being set up.
    Reserved,
    /// The link carries calls.
    Up(Arc<Live>),
}

/// Whether the agent can be reached. Apart from the connection's state.
#[derive(Debug, Clone)]
pub enum LinkStatus {
    /// Linked.
    Online(Arc<Live>),
    /// Lost a moment ago; the agent is expected back.
    Reconnecting,
    /// Not linked.
    Offline,
}

/// A call's place among those under way; given back when dropped.
#[derive(Debug)]
pub struct CallPermit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Connection {
    pub(super) fn new(record: ConnectionRecord, limits: Limits) -> Self {
        Self {
            id: record.id,
            name: record.name.clone(),
            limits,
            calls: Arc::new(Semaphore::new(limits.calls_in_flight)),
            changes: watch::Sender::new(()),
            inner: Mutex::new(Inner {
                last_seen_at: record.last_seen_at,
                record: Arc::new(record),
                link: LinkState::Down(None),
                seen_since_stored: false,
            }),
        }
    }

    /// Names it for machines.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Names it for people.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Everything durable about it.
    #[must_use]
    pub fn record(&self) -> Arc<ConnectionRecord> {
        Arc::clone(&self.inner().record)
    }

    /// Whether it may be used.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner().record.state()
    }

    /// The link, when it is up.
    #[must_use]
    pub fn live(&self) -> Option<Arc<Live>> {
        match &self.inner().link {
            LinkState::Up(live) => Some(Arc::clone(live)),
            LinkState::Down(_) | LinkState::Reserved => None,
        }
    }

    /// Whether the agent can be reached, for people.
    #[must_use]
    pub fn link_status(&self) -> LinkStatus {
        match &self.inner().link {
            LinkState::Up(live) => LinkStatus::Online(Arc::clone(live)),
            LinkState::Reserved => LinkStatus::Reconnecting,
            LinkState::Down(Some(lost)) if lost.elapsed() < self.limits.redial_grace => {
                LinkStatus::Reconnecting
            }
            LinkState::Down(_) => LinkStatus::Offline,
        }
    }

    /// When the agent was last linked, in seconds since 1970; `now` while it is.
    #[must_use]
    pub fn last_seen_at(&self, now: u64) -> Option<u64> {
        let inner = self.inner();
        match inner.link {
            LinkState::Up(_) => Some(now),
            LinkState::Down(_) | LinkState::Reserved => inner.last_seen_at,
        }
    }

    /// A place for one more call; `None` when as many as may be are under way.
    #[must_use]
    pub fn begin_call(&self) -> Option<CallPermit> {
        let permit = Arc::clone(&self.calls).try_acquire_owned();
        permit.ok().map(CallPermit)
    }

    /// Calls under way.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.limits
            .calls_in_flight
            .saturating_sub(self.calls.available_permits())
    }

    /// Waits until no call is under way. New ones are held off only while this looks.
    pub async fn calls_finished(&self) {
        let all = u32::try_from(self.limits.calls_in_flight).unwrap_or(u32::MAX);
        // The semaphore is never closed; were it, nothing would be under way.
        let _ = self.calls.acquire_many(all).await;
    }

    /// Tells of every change to the record from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// What is to be stored about when the agent was last linked, once.
    pub(in crate::relay) fn take_last_seen(&self, now: u64) -> Option<(ConnectionId, u64)> {
        let mut inner = self.inner();
        if matches!(inner.link, LinkState::Up(_)) {
            inner.last_seen_at = Some(now);
            return Some((self.id, now));
        }
        let changed = std::mem::take(&mut inner.seen_since_stored);
        inner
            .last_seen_at
            .filter(|_| changed)
            .map(|at| (self.id, at))
    }

    pub(super) fn set_record(&self, record: ConnectionRecord) {
        self.inner().record = Arc::new(record);
        self.changes.send_replace(());
    }

    pub(super) fn reserve(&self) -> Result<(), LinkRefusal> {
        let mut inner = self.inner();
        if let Some(removed) = inner.record.removed {
            return Err(LinkRefusal::Removed { at: removed.at });
        }
        match inner.link {
            LinkState::Down(_) => inner.link = LinkState::Reserved,
            LinkState::Reserved | LinkState::Up(_) => return Err(LinkRefusal::AlreadyLinked),
        }
        Ok(())
    }

    /// The link is up, unless the connection was removed meanwhile.
    pub(super) fn link_up(&self, live: Arc<Live>) -> Result<(), LinkRefusal> {
        let mut inner = self.inner();
        if let Some(removed) = inner.record.removed {
            return Err(LinkRefusal::Removed { at: removed.at });
        }
        inner.link = LinkState::Up(live);
        Ok(())
    }

    pub(super) fn link_down(&self, now: u64) {
        let mut inner = self.inner();
        if matches!(inner.link, LinkState::Up(_)) {
            inner.last_seen_at = Some(now);
            inner.seen_since_stored = true;
        }
        inner.link = LinkState::Down(Some(Instant::now()));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
