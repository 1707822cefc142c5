//! The end of a program in two steps: first it drains, then it stops.
//!
//! *Draining* means: take nothing new, finish what is under way. *Stopping* means: let go of everything
//! now. Every long-lived task holds a [`Shutdown`] and is spawned through it, so that the end can wait
//! for all of them. Never aborts a task: each ends by itself at the next await on [`Shutdown::stopping`].

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long tasks get to notice that all is stopping, before the program ends without them.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// Tells every task how far the end has come, and knows every task. Clones are the same shutdown.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    stopping: CancellationToken,
    tasks: TaskTracker,
    began: Arc<OnceLock<SystemTime>>,
}

/// A program that drains: what it still waits for, and for how long. Part of the stable status formats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// Since when it takes nothing new.
    pub since: String,
    /// When it ends at the latest.
    pub until: String,
    /// Calls that are still under way. It ends with the last of them.
    pub calls_under_way: usize,
}

/// How the end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every task finished what it was doing.
    Drained,
    /// The deadline passed or a second signal came; the tasks then let go.
    Stopped,
    /// Even after stopping, this many tasks were still there.
    Abandoned(usize),
}

impl Shutdown {
    /// A shutdown that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task that the end waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Completes once nothing new is to be taken. Cancel-safe.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + 'static {
        self.draining.clone().cancelled_owned()
    }

    /// Whether nothing new is to be taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Completes once everything is to be let go. Cancel-safe.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stopping.clone().cancelled_owned()
    }

    /// What is waited for, once this drains: `calls_under_way`, and no longer than `deadline`.
    #[must_use]
    pub fn draining_for(&self, deadline: Duration, calls_under_way: usize) -> Option<Draining> {
        let began = *self.began.get()?;
        let in_words = |time| humantime::format_rfc3339_seconds(time).to_string();
        Some(Draining {
            since: in_words(began),
            until: in_words(began + deadline),
            calls_under_way,
        })
    }

    /// Begins to drain. Calling it again changes nothing.
    pub fn start_drain(&self) {
        self.began.get_or_init(SystemTime::now);
        self.draining.cancel();
    }

    /// Stops at once.
    pub fn stop_now(&self) {
        self.began.get_or_init(SystemTime::now);
        self.draining.cancel();
        self.stopping.cancel();
    }

    /// Waits until every task has ended, after draining began. When `deadline` passes or
    /// [`stop_now`](Self::stop_now) is called meanwhile, tasks are told to stop and get a short grace.
    pub async fn wait_all(&self, deadline: Duration) -> Ended {
        self.start_drain();
        self.tasks.close();
        tokio::select! {
            // All three are cancel-safe: they only observe.
            biased;
            () = self.tasks.wait() => return Ended::Drained,
            () = self.stopping() => {}
            () = tokio::time::sleep(deadline) => self.stop_now(),
        }
        match tokio::time::timeout(STOP_GRACE, self.tasks.wait()).await {
            Ok(()) => Ended::Stopped,
            Err(_) => Ended::Abandoned(self.tasks.len()),
        }
    }
}

impl Draining {
    /// What it waits for, in words: `2 calls are under way; it ends with the last, at … at the latest`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let until = &self.until;
        match self.calls_under_way {
            0 => format!("no call is under way; it ends at {until} at the latest"),
            1 => format!("1 call is under way; it ends with that one, at {until} at the latest"),
            calls => format!(
                "{calls} calls are under way; it ends with the last one, at {until} at the latest"
            ),
        }
    }
}

/// Lets SIGTERM and SIGINT begin the drain; the second of either stops at once.
///
/// The signals are caught from the moment this returns. Must be called within a runtime.
///
/// # Errors
/// When the system refuses a signal handler.
pub fn watch_signals(shutdown: &Shutdown) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = shutdown.clone();
    // Not spawned as one of the tasks: it has no end of its own that could be waited for.
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                // Both are cancel-safe, as their documentation says.
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if shutdown.is_draining() {
                tracing::warn!(signal = name, "stopping at once");
                return shutdown.stop_now();
            }
            tracing::info!(signal = name, "draining; the signal again stops at once");
            shutdown.start_drain();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn tasks_under_way_are_waited_for() {
        let shutdown = Shutdown::new();
        let task = shutdown.spawn(async {
            tokio::time::sleep(DEADLINE / 2).await;
            "finished"
        });
        assert_eq!(shutdown.wait_all(DEADLINE).await, Ended::Drained);
        assert_eq!(task.await.unwrap(), "finished");
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_stops_what_has_not_drained() {
        let shutdown = Shutdown::new();
        let stopping = shutdown.stopping();
        shutdown.spawn(stopping);
        assert_eq!(shutdown.wait_all(DEADLINE).await, Ended::Stopped);
    }

    #[test]
    fn what_is_waited_for_is_known_from_the_first_moment_of_the_drain_on() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.draining_for(DEADLINE, 2), None);
        shutdown.start_drain();
        let first = shutdown.draining_for(DEADLINE, 2).unwrap();
        shutdown.stop_now();
        assert_eq!(shutdown.draining_for(DEADLINE, 2), Some(first.clone()));
        let time = |text: &str| humantime::parse_rfc3339(text).unwrap();
        assert_eq!(time(&first.since) + DEADLINE, time(&first.until));
        let words = first.in_words();
        assert!(words.starts_with("2 calls are under way") && words.contains(&first.until));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_never_lets_go_is_abandoned() {
        let shutdown = Shutdown::new();
        shutdown.spawn(std::future::pending::<()>());
        assert_eq!(shutdown.wait_all(DEADLINE).await, Ended::Abandoned(1));
    }

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_stops() {
        let shutdown = Shutdown::new();
        watch_signals(&shutdown).unwrap();
        let patience = |future| tokio::time::timeout(DEADLINE, future);
        raise(Signal::SIGTERM).unwrap();
        patience(shutdown.draining()).await.unwrap();
        assert!(!shutdown.stopping.is_cancelled());
        raise(Signal::SIGINT).unwrap();
        tokio::time::timeout(DEADLINE, shutdown.stopping())
            .await
            .unwrap();
    }
}
