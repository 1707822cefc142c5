//! Where calls hand in what is to be written, and where the thread that writes takes it from.
//!
//! Bounded: a call that has no room here is not begun, and each hands in two lines at most.
//!
//! Waking the other thread costs more than writing a line, so both sides wake each other once for many calls: two
//! tasks beside the calls carry the word, at the end of a turn of the runtime.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::chain::Head;
use super::entry::{Asked, Entry, Which};

/// Calls that may be under way or wait to be written, over all connections. Each holds its head of a few
/// hundred bytes, which it holds anyway while it is under way.
const MAX_CALLS: usize = 65_536;
/// A call that has lasted so long gets a line that says that it lasts.
const LASTING: Duration = Duration::from_secs(10);

/// The desk.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    bell: Condvar,
    /// The writer has tried to open the file.
    opened: Condvar,
    /// Something waits for the writer.
    handed_in: Notify,
    /// Something waits for the calls.
    written: Notify,
}

#[derive(Debug)]
struct State {
    /// Lines to be written, in their order.
    waiting: Vec<Note>,
    /// Calls whose lines are written, and who have not been woken yet.
    released: Vec<Arc<Entry>>,
    has_been_opened: bool,
    /// Calls under way that have no line yet, in the order in which they began.
    young: BTreeMap<u64, Arc<Entry>>,
    /// Calls under way or waiting.
    calls: usize,
    begun: u64,
    sleep: Sleep,
    is_stopping: bool,
    has_stopped: bool,
    health: Health,
}

/// How the writer sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    /// It is at work.
    Awake,
    /// It looks again before any call that begins now has lasted.
    Light,
    /// Nothing is under way, and it has no alarm.
    Deep,
}

/// A line to be written.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) entry: Arc<Entry>,
    pub(super) which: Which,
}

/// What the desk knows of the log.
#[derive(Debug, Clone)]
pub struct Health {
    /// How far the chain has come in the file.
    pub head: Option<Head>,
    /// Why nothing can be written, and since when.
    pub trouble: Option<Trouble>,
    /// Calls refused because nothing could be written, since the daemon started.
    pub refused: u64,
    /// Lines of a further target that it did not take, since the daemon started.
    pub not_sent: u64,
    /// Lines that wait.
    pub waiting: usize,
}

/// Why nothing can be written.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// Since when.
    pub since: SystemTime,
    /// Why, and what to do.
    pub why: String,
}

/// What the writer is to do next.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) notes: Vec<Note>,
    pub(super) is_stopping: bool,
}

/// Why a call is not begun: it could not be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the private side cannot write its audit log")]
pub struct Unavailable;

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                released: Vec::new(),
                has_been_opened: false,
                young: BTreeMap::new(),
                calls: 0,
                begun: 0,
                sleep: Sleep::Awake,
                is_stopping: false,
                has_stopped: false,
                health: Health {
                    head: None,
                    // Until the file has been opened.
                    trouble: Some(Trouble {
                        since: SystemTime::now(),
                        why: "the file has not been opened yet".to_owned(),
                    }),
                    refused: 0,
                    not_sent: 0,
                    waiting: 0,
                },
            }),
            bell: Condvar::new(),
            opened: Condvar::new(),
            handed_in: Notify::new(),
            written: Notify::new(),
        }
    }

    /// Takes a call in, if it can be written down.
    pub(super) fn begin(&self, asked: Asked) -> Result<(u64, Arc<Entry>), Unavailable> {
        let mut state = self.lock();
        if state.health.trouble.is_some() || state.has_stopped || state.calls >= MAX_CALLS {
            state.health.refused += 1;
            return Err(Unavailable);
        }
        let entry = Arc::new(Entry::new(asked));
        let number = state.begun;
        state.begun += 1;
        state.calls += 1;
        // Not from light sleep: a wake for each call that begins would cost as much as writing its line.
        if state.sleep == Sleep::Deep {
            self.wake(&mut state);
        }
        state.young.insert(number, Arc::clone(&entry));
        Ok((number, entry))
    }

    /// Hands in a line of a call.
    pub(super) fn hand_in(&self, number: u64, note: Note) {
        let mut state = self.lock();
        state.young.remove(&number);
        state.waiting.push(note);
        if state.sleep != Sleep::Awake {
            self.handed_in.notify_one();
        }
    }

    /// Wakes the writer for all that was handed in during a turn of the runtime, again and again.
    pub(super) async fn carry_to_writer(self: Arc<Self>) {
        loop {
            self.handed_in.notified().await;
            // Comes back after all that can be done now was done, and the sockets were looked at.
            tokio::task::yield_now().await;
            let mut state = self.lock();
            if state.sleep != Sleep::Awake && !state.waiting.is_empty() {
                self.wake(&mut state);
            }
        }
    }

    /// Wakes the calls whose lines were written, again and again.
    pub(super) async fn carry_to_calls(self: Arc<Self>) {
        loop {
            self.written.notified().await;
            self.wake_calls();
        }
    }

    /// Wakes the calls whose lines were written.
    pub(super) fn wake_calls(&self) {
        let released = std::mem::take(&mut self.lock().released);
        for entry in released {
            entry.wake();
        }
    }

    /// Waits until the file was opened, or could not be. Blocks.
    pub(super) fn wait_until_opened(&self, patience: Duration) {
        let state = self.lock();
        let waiting = |state: &mut State| !state.has_been_opened;
        // Later it opens all the same, and no call is taken before.
        drop(self.opened.wait_timeout_while(state, patience, waiting));
    }

    /// Waits for something to do, no longer than `alarm`.
    pub(super) fn wait(&self, alarm: Option<Duration>) -> Work {
        let mut state = self.lock();
        let until = alarm.map(|alarm| Instant::now() + alarm);
        let mut has_dozed = false;
        loop {
            let now = Instant::now();
            let lasting = state.lasting(now);
            if !state.waiting.is_empty()
                || lasting
                || state.is_stopping
                || until.is_some_and(|until| until <= now)
            {
                break;
            }
            let eldest = state.young.first_key_value();
            let aging = match eldest {
                Some((_, entry)) => Some(LASTING.saturating_sub(entry.age(now))),
                None => (!has_dozed).then_some(LASTING),
            };
            let alarm = until
                .map(|until| until - now)
                .into_iter()
                .chain(aging)
                .min();
            state = match alarm {
                Some(alarm) => {
                    state.sleep = Sleep::Light;
                    let waited = self.bell.wait_timeout(state, alarm);
                    let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    has_dozed = timeout.timed_out();
                    state
                }
                None => {
                    state.sleep = Sleep::Deep;
                    let woken = self.bell.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
            state.sleep = Sleep::Awake;
        }
        let now = Instant::now();
        while state.lasting(now)
            && let Some((_, entry)) = state.young.pop_first()
        {
            let which = Which::Open;
            state.waiting.push(Note { entry, which });
        }
        Work {
            notes: std::mem::take(&mut state.waiting),
            is_stopping: state.is_stopping,
        }
    }

    /// The lines of these calls are written, and so many of them need no place any more.
    pub(super) fn release(
        &self,
        written: impl Iterator<Item = Arc<Entry>>,
        calls: usize,
        head: Head,
        waiting: usize,
    ) {
        let mut state = self.lock();
        state.released.extend(written);
        self.written.notify_one();
        state.calls = state.calls.saturating_sub(calls);
        state.health.head = Some(head);
        state.health.waiting = waiting;
    }

    /// Takes calls in, or refuses them, from now on.
    pub(super) fn set_trouble(&self, trouble: Option<Trouble>, waiting: usize) {
        let mut state = self.lock();
        state.health.trouble = trouble;
        state.health.waiting = waiting;
        state.has_been_opened = true;
        self.opened.notify_all();
    }

    /// Counts lines that a further target did not take.
    pub(super) fn count_not_sent(&self, lines: u64) {
        self.lock().health.not_sent += lines;
    }

    /// What is known of the log now.
    pub(super) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    /// Lets the writer end once it has written what was handed in.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopping = true;
        self.wake(&mut state);
    }

    /// The writer has ended: nothing is taken in any more.
    pub(super) fn close(&self) {
        self.lock().has_stopped = true;
    }

    fn wake(&self, state: &mut State) {
        state.sleep = Sleep::Awake;
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether the eldest of the calls under way has lasted.
    fn lasting(&self, now: Instant) -> bool {
        let eldest = self.young.first_key_value();
        eldest.is_some_and(|(_, entry)| entry.age(now) >= LASTING)
    }
}
