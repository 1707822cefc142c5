//! A new configuration while links and calls go on: when someone asks for it, on SIGHUP, and when a file of it
//! has changed.
//!
//! Taken whole or not at all: one that has mistakes changes nothing, and is told in log and status until
//! another is in force. Calls under way keep what admitted them. One reload at a time.
//!
//! A file that is written in place may be read while half of it is missing. So what has less in it is put into force
//! only once its files have settled, and a file that has become empty never by itself; who asks for a reload gets it at once.

mod files;
mod notes;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use self::files::FileWatch;
pub use self::notes::{Notes, Refused, Withdrawn, Withheld};
use self::notes::{SETTLED_AFTER, Settling};
use super::config::AgentConfig;
use super::credentials::Credentials;
use super::live::{Live, ReloadError, Withdrawal};
use crate::config_file::{Look, Looks};
use crate::error_chain::chain;
use crate::logging::LogHandle;
use crate::shutdown::Shutdown;

/// Reloads the configuration.
pub struct Reloader {
    live: Arc<Live>,
    log: LogHandle,
    /// Where the configuration is read from, if someone named a place.
    file: Option<PathBuf>,
    fixed: Fixed,
    /// Whether the configuration in force does without its file, as where each service has one of its own beside it.
    is_without_file: AtomicBool,
    one_at_a_time: tokio::sync::Mutex<()>,
    notes: Mutex<Notes>,
    /// Which files the configuration stands in, and what else it needs, as they were before they were read.
    read_from: watch::Sender<Looks>,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// How many upstreams there are now.
    pub upstreams: usize,
    /// Keys that changed and count from the next start on.
    pub needs_restart: Vec<String>,
    /// What is gone.
    pub withdrawal: Option<Withdrawal>,
}

/// Why the configuration is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Somebody asked for it.
    Asked,
    /// Its files have changed, or have settled.
    Files,
}

/// What became of it.
enum Outcome {
    InForce(Reloaded),
    Withheld,
}

/// The keys of the configuration that take effect at the start only, with their values as text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fixed(Vec<(&'static str, String)>);

impl Reloader {
    /// For what was made of `config`, which was read from `file` or from where it is looked for; what it names was
    /// like `named` before it was read.
    #[must_use]
    pub fn new(
        live: Arc<Live>,
        log: LogHandle,
        file: Option<PathBuf>,
        config: &AgentConfig,
        named: Looks,
    ) -> Self {
        let mut looks = config.read_from.clone();
        looks.extend(named);
        let (read_from, _) = watch::channel(looks);
        let is_without_file = AtomicBool::new(blank_file(file.as_deref()).is_some());
        Self {
            live,
            log,
            file,
            fixed: Fixed::of(config),
            is_without_file,
            one_at_a_time: tokio::sync::Mutex::default(),
            notes: Mutex::default(),
            read_from,
        }
    }

    /// Reads the configuration again and puts it into force, if all of it can be used.
    ///
    /// # Errors
    /// [`ReloadError`]; the former configuration then stays in force, and [`notes`](Self::notes) say so.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        match self.take(Cause::Asked).await? {
            Outcome::InForce(reloaded) => Ok(reloaded),
            // Never for who asks.
            Outcome::Withheld => Err(ReloadError::BrokenOff),
        }
    }

    async fn take(&self, cause: Cause) -> Result<Outcome, ReloadError> {
        let _one = self.one_at_a_time.lock().await;
        // All of it is looked at before it is read: what changes in between is noticed afterwards.
        let watched: Vec<PathBuf> = self.read_from.borrow().keys().cloned().collect();
        let sources = AgentConfig::sources(self.file.as_deref());
        let mut seen = Look::at_each(watched.into_iter().chain(sources));
        match self.replace(&mut seen, cause).await {
            Ok(Some((config, named, withdrawal))) => {
                self.log.configure(config.log.level);
                let mut looks = config.read_from.clone();
                looks.extend(named);
                self.read_from.send_replace(looks);
                let reloaded = Reloaded {
                    upstreams: config.upstreams.len(),
                    needs_restart: self.fixed.changed(&Fixed::of(&config)),
                    withdrawal,
                };
                self.note_in_force(cause, &reloaded);
                Ok(Outcome::InForce(reloaded))
            }
            Ok(None) => {
                self.read_from.send_replace(seen);
                Ok(Outcome::Withheld)
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the configuration was not reloaded; the former one stays in force");
                let why = chain(&error).to_string();
                let at = SystemTime::now();
                self.change_notes(|notes| notes.refuse(at, why));
                // What was refused for a file that is new, or missing, is mended there.
                self.read_from.send_replace(seen);
                Err(error)
            }
        }
    }

    /// Reads the configuration and puts it into force, unless it is withheld. What it needs is added to `seen`, and told
    /// as far as it is to be watched when all is well.
    async fn replace(
        &self,
        seen: &mut Looks,
        cause: Cause,
    ) -> Result<Option<(AgentConfig, Looks, Option<Withdrawal>)>, ReloadError> {
        let file = self.file.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let config = AgentConfig::read(file.as_deref()).map_err(ReloadError::Mistakes)?;
            Ok((config, blank_file(file.as_deref())))
        });
        let (config, blank) = reading.await.map_err(|_| ReloadError::BrokenOff)??;
        let named = named_in(&config);
        seen.extend(named.clone());
        // Once they are there they are looked at by who uses them; until then nobody else does.
        seen.extend(Look::at_each(
            config.upstreams.iter().flat_map(Credentials::files),
        ));
        let withdrawal = Withdrawal::of(&self.live.parts().upstreams, &config.upstreams);
        if let (Some(withdrawal), Cause::Files) = (&withdrawal, cause) {
            if let Some(file) = &blank
                && !self.is_without_file.load(Ordering::Acquire)
            {
                return Err(ReloadError::Blank(file.clone(), withdrawal.clone()));
            }
            if !self.has_settled(withdrawal, seen) {
                return Ok(None);
            }
        }
        let config = self.live.replace(config).await?;
        self.is_without_file
            .store(blank.is_some(), Ordering::Release);
        Ok(Some((config, named, withdrawal)))
    }

    /// Whether these files have been like this for long enough; notes and tells it when this is seen first.
    fn has_settled(&self, withdrawal: &Withdrawal, seen: &Looks) -> bool {
        let now = (Instant::now(), SystemTime::now());
        let settling = self.change_notes(|notes| notes.settle(withdrawal, seen, now));
        if settling == Settling::Begins {
            tracing::warn!(
                within = ?SETTLED_AFTER,
                "the configuration's files have less in them: {withdrawal}; that is put into force unless they change; `agent reload` does it at once"
            );
        }
        settling == Settling::Over
    }

    fn note_in_force(&self, cause: Cause, reloaded: &Reloaded) {
        let Reloaded {
            upstreams,
            needs_restart,
            withdrawal,
        } = reloaded;
        tracing::info!(upstreams, ?needs_restart, "the configuration was reloaded");
        if let Some(withdrawal) = withdrawal {
            tracing::warn!("the configuration that is now in force has less in it: {withdrawal}");
        }
        let parts = self.live.parts();
        let upstreams = parts.upstreams.iter().map(|it| it.name.as_str());
        let upstreams: Vec<_> = upstreams.collect();
        let (by_itself, at) = (cause == Cause::Files, SystemTime::now());
        self.change_notes(|notes| notes.take(by_itself, withdrawal.as_ref(), &upstreams, at));
    }

    /// What became of the configurations that were looked at lately.
    #[must_use]
    pub fn notes(&self) -> Notes {
        self.change_notes(|notes| notes.clone())
    }

    fn change_notes<T>(&self, change: impl FnOnce(&mut Notes) -> T) -> T {
        change(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reloads on SIGHUP, and when a file of the configuration has changed, until the agent stops. Must be
    /// called within a runtime.
    pub async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP does not reload the configuration; `agent reload` does");
                None
            }
        };
        let mut read_from = self.read_from.subscribe();
        let files = read_from.borrow_and_update().clone();
        let mut watched = match FileWatch::new(files) {
            Ok(watched) => Some(watched),
            Err(error) => {
                tracing::warn!(%error, "changes of the configuration are not noticed; `agent reload` tells of them");
                None
            }
        };
        loop {
            let settled_at = self.notes().withheld.map(|withheld| withheld.settled_at);
            let (why, cause) = tokio::select! {
                // All of them are cancel-safe: they only wait, and what came stays until it is asked for again.
                () = shutdown.draining() => return,
                () = next(hangup.as_mut()) => ("SIGHUP", Cause::Asked),
                () = changed(watched.as_mut()) => ("a file has changed", Cause::Files),
                () = reached(settled_at) => ("the files have settled", Cause::Files),
                Ok(()) = read_from.changed() => {
                    let files = read_from.borrow_and_update().clone();
                    if let Some(watched) = &mut watched {
                        watched.look_at(files);
                    }
                    continue;
                }
            };
            tracing::info!(cause = why, "the configuration is read again");
            // What became of it is in log and status.
            let _ = self.take(cause).await;
        }
    }
}

/// Without a signal, never.
async fn next(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => {
            if signal.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

/// Without a watch, never.
async fn changed(watched: Option<&mut FileWatch>) {
    match watched {
        Some(watched) => watched.changed().await,
        None => std::future::pending().await,
    }
}

/// Without a time, never.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The configuration's file, where it has nothing in it or is not there; `file` if someone named one.
fn blank_file(file: Option<&Path>) -> Option<PathBuf> {
    let main = AgentConfig::sources(file).into_iter().next()?;
    let is_blank = match fs::read_to_string(&main) {
        Ok(text) => text.trim().is_empty(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    is_blank.then_some(main)
}

/// How the files are that a configuration names and that nobody looks at later. To be asked before it is put into force.
#[must_use]
pub fn named_in(config: &AgentConfig) -> Looks {
    let of_upstreams = config.upstreams.iter();
    let authorities = of_upstreams.filter_map(|upstream| upstream.ca_file.as_ref());
    Look::at_each(config.network.ca_file.iter().chain(authorities).cloned())
}

impl Fixed {
    fn of(config: &AgentConfig) -> Self {
        Self(vec![
            ("state_dir", config.state_dir.display().to_string()),
            (
                "identity.bind_to_machine",
                format!("{:?}", config.identity.bind_to_machine),
            ),
            ("drain_timeout", format!("{:?}", config.drain_timeout)),
            ("admin.socket", config.admin.socket.display().to_string()),
            ("admin.group", format!("{:?}", config.admin.group)),
            ("log.format", format!("{:?}", config.log.format)),
            ("metrics.listen", format!("{:?}", config.metrics.listen)),
            ("audit", format!("{:?}", config.audit)),
        ])
    }

    fn changed(&self, now: &Self) -> Vec<String> {
        self.0
            .iter()
            .zip(&now.0)
            .filter(|(before, after)| before != after)
            .map(|((key, _), _)| (*key).to_owned())
            .collect()
    }
}
