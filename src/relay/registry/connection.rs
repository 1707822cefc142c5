//! One connection in memory: its record, its link if there is one, its calls under way.

mod slots;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::Limits;
use super::link_slot::Live;
use super::succession::Succession;
use crate::identity::ConnectionId;
use crate::name::Name;
use crate::protocol::handshake::{SessionId, Ticket};
use crate::relay::housekeeping::LAST_SEEN_EVERY;
use crate::relay::record::{ConnectionRecord, State};

/// How many seconds after a duplicate the next one is told: a machine that does not wait before it tries
/// again must fill neither the log nor the link.
const DUPLICATE_AGAIN_AFTER: u64 = 10;

/// One connection in memory. Shared by every call, link and admin that has to do with it.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    name: Name,
    limits: Limits,
    calls: Arc<Semaphore>,
    under_way: Arc<AtomicUsize>,
    /// Places for calls that wait for the link.
    waiting: Arc<Semaphore>,
    /// The place of one agent that came while another is linked.
    newcomer: Arc<Semaphore>,
    /// Ticks when the record changes, for the link that tells the far side.
    changes: watch::Sender<()>,
    /// Ticks when the link comes, goes, or changes its path, for calls that wait for it.
    link_changes: watch::Sender<()>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    record: Arc<ConnectionRecord>,
    link: LinkState,
    last_seen_at: Option<u64>,
    /// Whether `last_seen_at` is newer than what the store holds.
    seen_since_stored: bool,
    /// How many slots were given out.
    slots: u64,
    /// Whose slot the connection's link is.
    current: u64,
    succession: Succession,
    duplicate: Option<Duplicate>,
}

/// Another machine that came with the agent's identity while its link was live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// When it last came, in seconds since 1970.
    pub at: u64,
    /// From where.
    pub address: SocketAddr,
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
    /// Lost, or without a WebSocket, since a moment ago, or about to end; the agent is expected back.
    Reconnecting,
    /// Not linked.
    Offline,
}

/// A call's place among those under way; given back when dropped.
#[derive(Debug)]
pub struct CallPermit {
    #[expect(dead_code, reason = "held for its drop")]
    place: OwnedSemaphorePermit,
    under_way: Arc<AtomicUsize>,
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    pub(super) fn new(record: ConnectionRecord, limits: Limits, now: u64) -> Self {
        // Linked when the relay was last stopped, so far as is known: its agent comes back within moments.
        let was_linked = record.last_seen_at.is_some_and(|at| {
            Duration::from_secs(now.saturating_sub(at)) <= limits.redial_grace + LAST_SEEN_EVERY
        });
        Self {
            id: record.id,
            name: record.name.clone(),
            limits,
            calls: Arc::new(Semaphore::new(limits.calls_in_flight)),
            under_way: Arc::default(),
            waiting: Arc::new(Semaphore::new(limits.calls_waiting)),
            newcomer: Arc::new(Semaphore::new(1)),
            changes: watch::Sender::new(()),
            link_changes: watch::Sender::new(()),
            inner: Mutex::new(Inner {
                last_seen_at: record.last_seen_at,
                record: Arc::new(record),
                link: LinkState::Down(was_linked.then(Instant::now)),
                seen_since_stored: false,
                slots: 0,
                current: 0,
                succession: Succession::default(),
                duplicate: None,
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

    /// The link, when there is one, also while it has no WebSocket.
    #[must_use]
    pub fn live(&self) -> Option<Arc<Live>> {
        match &self.inner().link {
            LinkState::Up(live) => Some(Arc::clone(live)),
            LinkState::Down(_) | LinkState::Reserved => None,
        }
    }

    /// The link whose session has this name; also a former one, while its last calls end.
    #[must_use]
    pub fn link_with(&self, session: SessionId) -> Option<Arc<Live>> {
        let former = self.inner().succession.former();
        let mut links = self.live().into_iter().chain(former);
        links.find(|live| live.handle.session() == Some(session))
    }

    /// The agent announces another process of its own.
    pub fn announce(&self, ticket: Ticket, within: Duration) {
        self.inner().succession.announce(ticket, within);
    }

    /// The other machine that last came with the agent's identity, if any has since the relay started.
    #[must_use]
    pub fn duplicate(&self) -> Option<Duplicate> {
        self.inner().duplicate
    }

    /// Another machine came with the agent's identity. Whether that is worth telling: not when one came
    /// moments ago.
    pub fn note_duplicate(&self, at: u64, address: SocketAddr) -> bool {
        let now = Duplicate { at, address };
        let former = self.inner().duplicate.replace(now);
        former.is_none_or(|former| at.saturating_sub(former.at) >= DUPLICATE_AGAIN_AFTER)
    }

    /// Ticks when the link comes, goes, or changes its path, from now on.
    #[must_use]
    pub fn link_changes(&self) -> watch::Receiver<()> {
        self.link_changes.subscribe()
    }

    /// The link's path has changed.
    pub fn link_changed(&self) {
        self.link_changes.send_replace(());
    }

    /// The place of an agent that came while another is linked, until it is known whether that one lives;
    /// `None` when a newcomer has it.
    #[must_use]
    pub fn begin_probe(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.newcomer).try_acquire_owned().ok()
    }

    /// A place for one more call that waits for the link; `None` when as many as may be are waiting.
    #[must_use]
    pub fn begin_waiting(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.waiting).try_acquire_owned().ok()
    }

    /// Calls that wait for the link.
    #[must_use]
    pub fn calls_waiting(&self) -> usize {
        self.limits
            .calls_waiting
            .saturating_sub(self.waiting.available_permits())
    }

    /// Whether the agent can be reached, for people.
    #[must_use]
    pub fn link_status(&self) -> LinkStatus {
        let inner = self.inner();
        match &inner.link {
            LinkState::Up(live) if live.takes_calls() => LinkStatus::Online(Arc::clone(live)),
            LinkState::Up(_) => match inner.succession.former() {
                // Its successor was cut, and perhaps it is no more.
                Some(former) if former.takes_calls() => LinkStatus::Online(former),
                Some(_) | None => LinkStatus::Reconnecting,
            },
            LinkState::Reserved => LinkStatus::Reconnecting,
            LinkState::Down(Some(lost)) if lost.elapsed() < self.limits.redial_grace => {
                LinkStatus::Reconnecting
            }
            LinkState::Down(_) => LinkStatus::Offline,
        }
    }

    /// Whether calls can be sent to the agent now.
    #[must_use]
    pub fn is_online(&self) -> bool {
        matches!(self.link_status(), LinkStatus::Online(_))
    }

    /// When the agent was last linked, in seconds since 1970; `now` while it is.
    #[must_use]
    pub fn last_seen_at(&self, now: u64) -> Option<u64> {
        let inner = self.inner();
        match &inner.link {
            LinkState::Up(live) => Some(Inner::heard_at(live, now)),
            LinkState::Down(_) | LinkState::Reserved => inner.last_seen_at,
        }
    }

    /// A place for one more call; `None` when as many as may be are under way.
    #[must_use]
    pub fn begin_call(&self) -> Option<CallPermit> {
        let place = Arc::clone(&self.calls).try_acquire_owned().ok()?;
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let under_way = Arc::clone(&self.under_way);
        Some(CallPermit { place, under_way })
    }

    /// Calls under way. Not by the free places: who waits until there is no call takes those.
    #[must_use]
    pub fn calls_in_flight(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
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
        if let LinkState::Up(live) = &inner.link {
            let at = Inner::heard_at(live, now);
            inner.last_seen_at = Some(at);
            return Some((self.id, at));
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
        // Calls that wait for the link may have to be refused now.
        self.link_changed();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// When the agent of the link was last heard, in seconds since 1970.
    fn heard_at(live: &Live, now: u64) -> u64 {
        if live.handle.is_away() {
            now.saturating_sub(live.handle.stats().quiet.as_secs())
        } else {
            now
        }
    }
}
