//! Where calls hand in what is to be written, and where the pen lies: the writer, which one side holds at a time.
//!
//! Bounded: a call that has no room here is not begun, and each hands in two lines at most.
//!
//! # Who writes
//!
//! A line takes some 2 µs to write, and waking another thread and being woken by it twenty times as much. So the
//! runtime itself writes, once for all lines of one of its turns, or at once where nobody else is about to hand in a
//! line ([`turn`]), while that is safe: the log is well, and the last write came back soon. A thread ([`thread`]) does all that may take its time: opening, rotating,
//! syncing, trying again, and the lines of calls that last.
//!
//! A slow disk must not hold up the links, which live on the runtime. After a write that took [`SLOW`], or a sync
//! that did not come back within a second, the thread writes for a spell: a second, and twice as long each time the disk
//! is slow again, up to [`LONGEST_SPELL`]. Links so stand still for one write now and then, on a slow disk once a minute at most.
//! A disk that hangs mostly shows in a sync first.
//!
//! Whoever does not hang says so. The thread's write has not come back after [`HANGING`]: the runtime refuses calls until
//! it does. The runtime's own write has not: the thread says in the log why the agent stands still, so that whoever finds
//! it ended by a watchdog knows. Both end by themselves when the disk answers.

mod thread;
mod turn;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

pub(super) use thread::Work;

use super::chain::Head;
use super::entry::{Asked, Entry, Which};
use super::health::{Health, Trouble};
use super::stopwatch::Stopwatch;
use super::writer::Writer;

/// Calls that may be under way or wait to be written, over all connections. Each holds its head of a few
/// hundred bytes, which it holds anyway while it is under way.
const MAX_CALLS: usize = 65_536;
/// A call that has lasted so long gets a line that says that it lasts.
const LASTING: Duration = Duration::from_secs(10);
/// A write to the page cache takes microseconds; one that takes so long waits for the disk. A link that stands still so
/// long is not noticed.
const SLOW: Duration = Duration::from_millis(20);
/// How long the thread writes after a slow write: one that waited for what some other program wrote says little.
const SPELL: Duration = Duration::from_secs(1);
/// How long it writes where that happens again and again. A disk that was not slow for so long is trusted again.
const LONGEST_SPELL: Duration = Duration::from_secs(60);
/// A write that has not come back after this hangs: disks that spin up, and arrays that fail over, take less.
const HANGING: Duration = Duration::from_secs(5);

/// The desk.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    patience: Patience,
    /// For the thread.
    bell: Condvar,
    /// The thread has tried to open the file.
    opened: Condvar,
    /// Lines wait for the end of the runtime's turn.
    handed_in: Notify,
    /// Something was left to the thread.
    left: Notify,
    /// The thread has written lines of calls that wait for that.
    written: Notify,
}

/// What is slow, and what hangs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) slow: Duration,
    pub(super) spell: Duration,
    pub(super) longest_spell: Duration,
    pub(super) hanging: Duration,
}

/// Who holds the pen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    /// At the end of one of its turns.
    Runtime,
    /// Whenever that is not safe.
    Thread,
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
    /// Calls under way whose `open` was handed in.
    lasting: BTreeMap<u64, Arc<Entry>>,
    /// Calls under way or waiting.
    calls: usize,
    begun: u64,
    sleep: Sleep,
    is_stopping: bool,
    has_stopped: bool,
    health: Health,
    pen: Pen,
}

/// Where the pen is.
#[derive(Debug)]
struct Pen {
    /// The writer, while nobody holds it.
    writer: Option<Box<Writer>>,
    /// Who holds it, and since when, or since the last batch of lines.
    held: Option<(Hand, Instant)>,
    /// When the thread is to take it next.
    alarm: Option<Instant>,
    /// The thread is to take it now.
    is_left_to_thread: bool,
    /// From when on the runtime may write; never without.
    runtime_from: Option<Instant>,
    /// How long the thread wrote after the last slow write, if there was one.
    spell: Option<Duration>,
    /// Calls are refused because the thread's write does not come back.
    hang: Option<Hang>,
    /// The thread has said that the runtime's write does not come back.
    is_told: bool,
}

/// A write of the thread that does not come back.
#[derive(Debug, Clone)]
pub(super) struct Hang {
    pub(super) told: Trouble,
    /// Calls refused before it.
    pub(super) refused_before: u64,
}

/// How the thread sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sleep {
    /// It is at work.
    Awake,
    /// It looks again at this time, before any call that begins now has lasted.
    Until(Instant),
    /// Nothing is under way, and it has no alarm.
    Deep,
}

/// A line to be written.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) entry: Arc<Entry>,
    pub(super) which: Which,
}

/// Lines that are in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    /// How many, and how long.
    pub(super) lines: u64,
    pub(super) bytes: u64,
    /// Calls that need no place any more.
    pub(super) ended: usize,
    /// Lines that wait still.
    pub(super) waiting: usize,
    /// The chain with them.
    pub(super) head: Head,
}

/// Why a call is not begun: it could not be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the private side cannot write its audit log")]
pub struct Unavailable;

impl Patience {
    pub(super) const USUAL: Self = Self {
        slow: SLOW,
        spell: SPELL,
        longest_spell: LONGEST_SPELL,
        hanging: HANGING,
    };

    /// How long the thread writes this time, when it wrote for so long last, and the disk was well for so long since.
    pub(super) fn spell_after(&self, last: Option<Duration>, well_for: Duration) -> Duration {
        match last {
            Some(last) if well_for < self.longest_spell => (last * 2).min(self.longest_spell),
            Some(_) | None => self.spell,
        }
    }
}

impl Desk {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                released: Vec::new(),
                has_been_opened: false,
                young: BTreeMap::new(),
                lasting: BTreeMap::new(),
                calls: 0,
                begun: 0,
                sleep: Sleep::Awake,
                is_stopping: false,
                has_stopped: false,
                health: Health::unopened(),
                pen: Pen {
                    writer: None,
                    held: None,
                    alarm: None,
                    is_left_to_thread: false,
                    runtime_from: None,
                    spell: None,
                    hang: None,
                    is_told: false,
                },
            }),
            patience,
            bell: Condvar::new(),
            opened: Condvar::new(),
            handed_in: Notify::new(),
            left: Notify::new(),
            written: Notify::new(),
        }
    }

    /// Takes a call in, if it can be written down.
    pub(super) fn begin(&self, asked: Asked) -> Result<(u64, Arc<Entry>), Unavailable> {
        let mut state = self.lock();
        let is_closed = state.is_stopping || state.has_stopped;
        if state.health.trouble.is_some() || is_closed || state.calls >= MAX_CALLS {
            state.health.refused += 1;
            return Err(Unavailable);
        }
        let entry = Arc::new(Entry::new(asked));
        let number = state.begun;
        state.begun += 1;
        state.calls += 1;
        // Not from light sleep: a wake for each call that begins would cost more than writing its line.
        if state.sleep == Sleep::Deep {
            self.wake(&mut state);
        }
        state.young.insert(number, Arc::clone(&entry));
        Ok((number, entry))
    }

    /// Hands in a line of a call. Writes it at once where no other call is under way that could hand in one.
    pub(super) fn hand_in(&self, number: u64, note: Note) {
        let mut state = self.lock();
        let known = state.young.remove(&number);
        let known = known.or_else(|| state.lasting.remove(&number));
        // Of a call that was cut off by the end of the log that has its line already.
        let Some(entry) = known else { return };
        if note.which == Which::Open {
            state.lasting.insert(number, entry);
        }
        let is_first = state.waiting.is_empty();
        state.waiting.push(note);
        if state.young.is_empty() {
            // No other line can come in this turn: to wait for its end would cost a look at the sockets and two wakes.
            drop(state);
            self.write_turn();
        } else if is_first {
            // All others of this turn come along.
            self.handed_in.notify_one();
        }
    }

    /// Wakes the calls whose lines were written.
    pub(super) fn wake_calls(&self) {
        let released = std::mem::take(&mut self.lock().released);
        for entry in released {
            entry.wake();
        }
    }

    /// These lines are in the file.
    pub(super) fn release(
        &self,
        hand: Hand,
        written: impl Iterator<Item = Arc<Entry>>,
        batch: Batch,
    ) {
        let mut state = self.lock();
        state.released.extend(written);
        // The runtime wakes them itself, as soon as it has laid down the pen.
        if hand == Hand::Thread {
            self.written.notify_one();
        }
        state.calls = state.calls.saturating_sub(batch.ended);
        let health = &mut state.health;
        health.head = Some(batch.head);
        health.waiting = batch.waiting;
        health.lines_written += batch.lines;
        health.bytes_written += batch.bytes;
        if let Some((_, since)) = &mut state.pen.held {
            *since = Instant::now();
        }
    }

    /// How long the last write has waited for the disk. After a slow one the thread writes for a while.
    pub(super) fn took(&self, hand: Hand, stopwatch: &Stopwatch) {
        let Some(took) = stopwatch.waited(self.patience.slow) else {
            return;
        };
        let spell = self.mistrust();
        if let Some(spell) = spell
            && hand == Hand::Runtime
        {
            tracing::warn!(
                ?took,
                "a write to the audit log was slow; for the next {spell:?} a thread of its own writes it"
            );
        }
    }

    /// The disk is slow: the thread writes for a while. Tells for how long, if it did not do so already.
    pub(super) fn mistrust(&self) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.lock();
        state.health.slow_writes += 1;
        let pen = &mut state.pen;
        let from = pen.runtime_from?;
        let spell = self
            .patience
            .spell_after(pen.spell, now.saturating_duration_since(from));
        pen.spell = Some(spell);
        pen.runtime_from = Some(now + spell);
        (from <= now).then_some(spell)
    }

    /// The log is open, and taken calls in from now on. `runtime_may` write, unless each write waits for the disk.
    pub(super) fn well(&self, runtime_may: bool) {
        let mut state = self.lock();
        state.health.trouble = None;
        state.health.waiting = 0;
        let now = Instant::now();
        state.pen.runtime_from = match (runtime_may, state.pen.runtime_from) {
            (false, _) => None,
            (true, from) => from.or(Some(now)),
        };
        state.open(&self.opened);
    }

    /// Refuses calls from now on.
    pub(super) fn unwell(&self, trouble: Trouble, waiting: usize) {
        let mut state = self.lock();
        state.pen.hang = None;
        state.health.trouble = Some(trouble);
        state.health.waiting = waiting;
        state.health.write_failures += 1;
        state.open(&self.opened);
    }

    /// The end of a hang, if there was one: calls are taken again.
    pub(super) fn take_hang(&self) -> Option<Hang> {
        let mut state = self.lock();
        let hang = state.pen.hang.take()?;
        state.health.trouble = None;
        Some(hang)
    }

    /// Waits until the file was opened, or could not be. Blocks.
    pub(super) fn wait_until_opened(&self, patience: Duration) {
        let state = self.lock();
        let waiting = |state: &mut State| !state.has_been_opened;
        // Later it opens all the same, and no call is taken before.
        drop(self.opened.wait_timeout_while(state, patience, waiting));
    }

    /// Counts lines that a further target did not take.
    pub(super) fn count_not_sent(&self, lines: u64) {
        self.lock().health.not_sent += lines;
    }

    /// What is known of the log now.
    pub(super) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    /// Lets the thread end once it has written what was handed in.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopping = true;
        self.wake(&mut state);
    }

    /// The thread has ended: nothing is taken in any more.
    pub(super) fn close(&self) {
        self.lock().has_stopped = true;
    }

    /// Nobody holds the pen, or is about to.
    #[cfg(test)]
    pub(super) fn pen_lies(&self) -> bool {
        let state = self.lock();
        state.pen.writer.is_some() && !state.pen.is_left_to_thread
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
    fn open(&mut self, opened: &Condvar) {
        self.has_been_opened = true;
        opened.notify_all();
    }

    /// Whether the eldest of the calls under way has lasted.
    fn has_lasting(&self, now: Instant) -> bool {
        let eldest = self.young.first_key_value();
        eldest.is_some_and(|(_, entry)| entry.age(now) >= LASTING)
    }

    /// Takes the pen, with all that waits.
    fn take_pen(&mut self, hand: Hand, now: Instant) -> Option<Box<Writer>> {
        let mut writer = self.pen.writer.take()?;
        self.pen.held = Some((hand, now));
        self.pen.is_told = false;
        writer.take_in(&mut self.waiting);
        Some(writer)
    }

    /// Lays the pen down.
    fn lay_down(&mut self, writer: Box<Writer>) {
        self.pen.alarm = writer.alarm();
        self.pen.held = None;
        self.pen.writer = Some(writer);
    }
}

/// The trouble of a write that does not come back.
fn hanging(for_so_long: Duration) -> Trouble {
    let since = SystemTime::now();
    Trouble {
        since: since.checked_sub(for_so_long).unwrap_or(since),
        why: format!(
            "a write to it has not come back for {} seconds; look at its disk, and at what the kernel says of it",
            for_so_long.as_secs().max(1)
        ),
    }
}
