//! The runtime's side: writes the lines of each of its turns, or leaves them to the thread, and watches that one.
//!
//! Never waits for the pen, and never writes where the disk was slow a moment ago.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::writer::Progress;
use super::{Desk, Hand, Hang, Sleep, State, hanging};

/// How often it is looked whether the thread's write has come back, as a part of the time after which it hangs.
const LOOKS: u32 = 5;

impl Desk {
    /// Writes all that was handed in during a turn of the runtime, again and again.
    pub(in super::super) async fn write_turns(self: Arc<Self>) {
        loop {
            self.handed_in.notified().await;
            if self.nothing_waits() {
                // The last call of the turn has written for all.
                continue;
            }
            // Comes back after all that can be done now was done, and the sockets were looked at.
            tokio::task::yield_now().await;
            self.write_turn();
        }
    }

    /// Writes all that was handed in, or leaves it to the thread. On the runtime alone.
    pub(super) fn write_turn(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        if state.waiting.is_empty() {
            return;
        }
        let writer = match state.runtime_may_write(now) {
            true => state.take_pen(Hand::Runtime, now),
            false => None,
        };
        let Some(mut writer) = writer else {
            self.leave_to_thread(&mut state);
            return;
        };
        drop(state);
        let progress = writer.go_on(self, Hand::Runtime);
        let mut state = self.lock();
        state.lay_down(writer);
        if progress == Progress::Left || state.pen.is_left_to_thread {
            self.leave_to_thread(&mut state);
        } else if state.thread_oversleeps() {
            self.wake(&mut state);
        }
        drop(state);
        self.wake_calls();
    }

    /// The pen lies, the runtime may take it, and the thread has no alarm, so that it leaves it alone.
    #[cfg(test)]
    pub(in super::super) fn is_the_runtimes(&self) -> bool {
        let state = self.lock();
        let is_free = state.pen.writer.is_some() && state.pen.alarm.is_none();
        is_free && state.runtime_may_write(Instant::now())
    }

    fn nothing_waits(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    fn leave_to_thread(&self, state: &mut State) {
        state.pen.is_left_to_thread = true;
        self.left.notify_one();
        self.wake(state);
    }

    /// Wakes the calls whose lines the thread has written, again and again.
    pub(in super::super) async fn carry_to_calls(self: Arc<Self>) {
        loop {
            self.written.notified().await;
            self.wake_calls();
        }
    }

    /// Watches that what was left to the thread is written; while it is not, calls are refused.
    pub(in super::super) async fn watch_thread(self: Arc<Self>) {
        loop {
            self.left.notified().await;
            while let Some(held) = self.held_by_thread() {
                if held >= self.patience.hanging {
                    self.refuse_while_it_hangs(held);
                }
                tokio::time::sleep(self.patience.hanging / LOOKS).await;
            }
        }
    }

    /// How long the thread has been at its write, or has not come to it.
    fn held_by_thread(&self) -> Option<Duration> {
        let state = self.lock();
        match state.pen.held {
            Some((Hand::Thread, since)) => Some(since.elapsed()),
            Some((Hand::Runtime, _)) | None => {
                state.pen.is_left_to_thread.then_some(Duration::ZERO)
            }
        }
    }

    fn refuse_while_it_hangs(&self, held: Duration) {
        let mut state = self.lock();
        // Since the pen was looked at, the write may have come back.
        let is_held = matches!(state.pen.held, Some((Hand::Thread, since)) if since.elapsed() >= self.patience.hanging);
        if !is_held || state.health.trouble.is_some() {
            return;
        }
        let told = hanging(held);
        state.pen.hang = Some(Hang {
            told: told.clone(),
            refused_before: state.health.refused,
        });
        state.health.trouble = Some(told);
        state.health.write_failures += 1;
        state.health.waiting = state.waiting.len().max(1);
        drop(state);
        tracing::error!(
            seconds = held.as_secs(),
            "a write to the audit log does not come back: no call is taken until it does; look at its disk"
        );
    }
}

impl State {
    fn runtime_may_write(&self, now: Instant) -> bool {
        self.health.trouble.is_none()
            && !self.is_stopping
            && !self.pen.is_left_to_thread
            && self.pen.runtime_from.is_some_and(|from| from <= now)
    }

    /// Whether the thread sleeps longer than what the runtime has just written allows.
    fn thread_oversleeps(&self) -> bool {
        let alarm = self.pen.alarm;
        match self.sleep {
            Sleep::Awake => false,
            Sleep::Until(until) => alarm.is_some_and(|alarm| alarm < until),
            Sleep::Deep => alarm.is_some() || self.pen.is_told,
        }
    }
}
