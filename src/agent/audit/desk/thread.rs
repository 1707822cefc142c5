//! The thread's side: takes the pen when something is left to it, when an alarm is due, or when a call lasts, and
//! says so when the runtime's own write does not come back.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use super::super::entry::Which;
use super::super::writer::Writer;
use super::{Desk, Hand, LASTING, Note, Sleep, State};

/// What the thread is to do next.
pub(in super::super) struct Work {
    pub(in super::super) writer: Box<Writer>,
    pub(in super::super) is_stopping: bool,
}

impl Desk {
    /// Lays the pen down, and waits for something to do with it. Blocks.
    pub(in super::super) fn wait(&self, writer: Box<Writer>) -> Work {
        let mut state = self.lock();
        state.lay_down(writer);
        let mut has_dozed = false;
        loop {
            let now = Instant::now();
            if state.is_due(now)
                && let Some(writer) = self.take_for_thread(&mut state, now)
            {
                return Work {
                    writer,
                    is_stopping: state.is_stopping,
                };
            }
            if let Some((Hand::Runtime, since)) = state.pen.held
                && now.saturating_duration_since(since) >= self.patience.hanging
                && !state.pen.is_told
            {
                state.pen.is_told = true;
                state.health.write_failures += 1;
                drop(state);
                tracing::error!(
                    seconds = now.saturating_duration_since(since).as_secs(),
                    "the agent stands still: a write to the audit log does not come back; look at its disk. Where a watchdog ends the agent now, this is why"
                );
                state = self.lock();
                continue;
            }
            state = self.sleep(state, now, &mut has_dozed);
        }
    }

    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        now: Instant,
        has_dozed: &mut bool,
    ) -> MutexGuard<'a, State> {
        let eldest = state.young.first_key_value();
        let aging = match eldest {
            Some((_, entry)) => Some(now + LASTING.saturating_sub(entry.age(now))),
            None => (!*has_dozed).then_some(now + LASTING),
        };
        let until = match state.pen.held {
            // All else is looked at when it lays the pen down, which then rings.
            Some((Hand::Runtime, _)) if state.pen.is_told => None,
            Some((Hand::Runtime, since)) => Some(since + self.patience.hanging),
            Some((Hand::Thread, _)) | None => aging.into_iter().chain(state.pen.alarm).min(),
        };
        let mut state = match until {
            Some(until) => {
                state.sleep = Sleep::Until(until);
                let wait = until.saturating_duration_since(now);
                let waited = self.bell.wait_timeout(state, wait);
                let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                *has_dozed = timeout.timed_out();
                state
            }
            None => {
                state.sleep = Sleep::Deep;
                let woken = self.bell.wait(state);
                woken.unwrap_or_else(PoisonError::into_inner)
            }
        };
        state.sleep = Sleep::Awake;
        state
    }

    fn take_for_thread(&self, state: &mut State, now: Instant) -> Option<Box<Writer>> {
        if state.pen.writer.is_none() {
            // Until the runtime lays it down, which then rings.
            state.pen.is_left_to_thread = true;
            return None;
        }
        while state.has_lasting(now)
            && let Some((number, entry)) = state.young.pop_first()
        {
            state.lasting.insert(number, Arc::clone(&entry));
            let which = Which::Open;
            state.waiting.push(Note { entry, which });
        }
        if state.is_stopping {
            state.cut_off();
        }
        state.pen.is_left_to_thread = false;
        state.take_pen(Hand::Thread, now)
    }
}

impl State {
    /// Whether the thread is to take the pen.
    fn is_due(&self, now: Instant) -> bool {
        self.pen.is_left_to_thread
            || self.is_stopping
            || self.has_lasting(now)
            || self.pen.alarm.is_some_and(|alarm| alarm <= now)
    }

    /// Ends the calls that are under way still, since the log ends: each has its line before the last one.
    fn cut_off(&mut self) {
        let cut = [&mut self.young, &mut self.lasting].map(std::mem::take);
        for entry in cut.into_iter().flat_map(BTreeMap::into_values) {
            // One that has just ended, and has not come to hand it in, keeps its own end.
            entry.end(entry.given_up());
            let which = Which::End;
            self.waiting.push(Note { entry, which });
        }
    }
}
