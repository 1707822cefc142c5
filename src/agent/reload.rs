//! A new configuration while links and calls go on: when someone asks for it, on SIGHUP, and when a file of it
//! has changed.
//!
//! Taken whole or not at all: one that has mistakes changes nothing, and is told in log and status until
//! another is in force. Calls under way keep what admitted them. One reload at a time.

mod files;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use self::files::FileWatch;
use super::config::AgentConfig;
use super::credentials::Credentials;
use super::live::{Live, ReloadError};
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
    one_at_a_time: tokio::sync::Mutex<()>,
    refused: Mutex<Option<Refused>>,
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
}

/// A configuration that was looked at last and is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: SystemTime,
    /// Every mistake, with file, key and remedy.
    pub why: String,
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
        Self {
            live,
            log,
            file,
            fixed: Fixed::of(config),
            one_at_a_time: tokio::sync::Mutex::default(),
            refused: Mutex::default(),
            read_from,
        }
    }

    /// Reads the configuration again and puts it into force, if all of it can be used.
    ///
    /// # Errors
    /// [`ReloadError`]; the former configuration then stays in force, and [`refused`](Self::refused) says so.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _one = self.one_at_a_time.lock().await;
        // All of it is looked at before it is read: what changes in between is noticed afterwards.
        let watched: Vec<PathBuf> = self.read_from.borrow().keys().cloned().collect();
        let sources = AgentConfig::sources(self.file.as_deref());
        let mut seen = Look::at_each(watched.into_iter().chain(sources));
        match self.replace(&mut seen).await {
            Ok((config, named)) => {
                self.log.configure(config.log.level);
                self.set_refused(None);
                let mut looks = config.read_from.clone();
                looks.extend(named);
                self.read_from.send_replace(looks);
                let upstreams = config.upstreams.len();
                let needs_restart = self.fixed.changed(&Fixed::of(&config));
                tracing::info!(upstreams, ?needs_restart, "the configuration was reloaded");
                Ok(Reloaded {
                    upstreams,
                    needs_restart,
                })
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "the configuration was not reloaded; the former one stays in force");
                self.set_refused(Some(Refused {
                    at: SystemTime::now(),
                    why: chain(&error).to_string(),
                }));
                // What was refused for a file that is new, or missing, is mended there.
                self.read_from.send_replace(seen);
                Err(error)
            }
        }
    }

    /// Reads the configuration and puts it into force. What it needs is added to `seen`, and told as far as it is to be
    /// watched when all is well.
    async fn replace(&self, seen: &mut Looks) -> Result<(AgentConfig, Looks), ReloadError> {
        let file = self.file.clone();
        let reading = tokio::task::spawn_blocking(move || AgentConfig::read(file.as_deref()));
        let read = reading.await.map_err(|_| ReloadError::BrokenOff)?;
        let config = read.map_err(ReloadError::Mistakes)?;
        let named = named_in(&config);
        seen.extend(named.clone());
        // Once they are there they are looked at by who uses them; until then nobody else does.
        seen.extend(Look::at_each(
            config.upstreams.iter().flat_map(Credentials::files),
        ));
        Ok((self.live.replace(config).await?, named))
    }

    /// The configuration that was looked at last, if it is not in force.
    #[must_use]
    pub fn refused(&self) -> Option<Refused> {
        let refused = self.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_refused(&self, refused: Option<Refused>) {
        let mut place = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *place = refused;
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
            let cause = tokio::select! {
                // All of them are cancel-safe: they only wait, and what came stays until it is asked for again.
                () = shutdown.draining() => return,
                () = next(hangup.as_mut()) => "SIGHUP",
                () = changed(watched.as_mut()) => "a file has changed",
                Ok(()) = read_from.changed() => {
                    let files = read_from.borrow_and_update().clone();
                    if let Some(watched) = &mut watched {
                        watched.look_at(files);
                    }
                    continue;
                }
            };
            tracing::info!(cause, "the configuration is read again");
            // What became of it is in log and status.
            let _ = self.reload().await;
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
