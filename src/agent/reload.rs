//! A new configuration while links and calls go on: when someone asks for it, on SIGHUP, and when a file of it
//! has changed.
//!
//! Taken whole or not at all: one that has mistakes changes nothing, and is told in log and status until
//! another is in force. Calls under way keep what admitted them. One reload at a time.

mod files;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use self::files::FileWatch;
use super::config::AgentConfig;
use super::live::{Live, ReloadError};
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
    /// Which files the configuration in force was read from.
    read_from: watch::Sender<Vec<PathBuf>>,
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
    /// For what was made of `config`, which was read from `file` or from where it is looked for.
    #[must_use]
    pub fn new(
        live: Arc<Live>,
        log: LogHandle,
        file: Option<PathBuf>,
        config: &AgentConfig,
    ) -> Self {
        let (read_from, _) = watch::channel(files_of(config, file.as_deref()));
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
        match self.live.reload(self.file.clone()).await {
            Ok(config) => {
                self.log.set_level(config.log.level);
                self.set_refused(None);
                self.read_from
                    .send_replace(files_of(&config, self.file.as_deref()));
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
                // What was refused for a file that came newly is mended there.
                let sources = AgentConfig::sources(self.file.as_deref());
                self.read_from.send_modify(|files| {
                    files.extend(sources);
                    files.sort();
                    files.dedup();
                });
                Err(error)
            }
        }
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

/// Every file that the configuration was read from or names.
fn files_of(config: &AgentConfig, file: Option<&Path>) -> Vec<PathBuf> {
    let mut files = AgentConfig::sources(file);
    let of_upstreams = config.upstreams.iter();
    let authorities = of_upstreams.filter_map(|upstream| upstream.ca_file.as_ref());
    files.extend(config.network.ca_file.iter().chain(authorities).cloned());
    files
}

impl Fixed {
    fn of(config: &AgentConfig) -> Self {
        Self(vec![
            ("state_dir", config.state_dir.display().to_string()),
            ("drain_timeout", format!("{:?}", config.drain_timeout)),
            ("admin.socket", config.admin.socket.display().to_string()),
            ("admin.group", format!("{:?}", config.admin.group)),
            ("log.format", format!("{:?}", config.log.format)),
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
