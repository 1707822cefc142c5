//! The private side: a daemon that keeps outbound links and serves the calls that come down them.
//!
//! It opens no listening network socket, but for the one on a loopback address that `metrics.listen` may ask for. What it may reach is in its configuration and nowhere else;
//! what it remembers is in its state directory. Here is wiring only; the decisions are in the children.
//!
//! ```text
//!  admin ── command ──► supervisor ──► link_task, one per connection ──► link
//!                            │              │ arrival: control, or a call
//!                            ▼              ▼
//!                          state         serve: policy → credentials → upstream, audit
//! ```

pub mod accept;
pub mod addresses;
pub mod admin;
pub mod advice;
pub mod arrival;
pub mod audit;
pub mod command;
pub mod conditions;
pub mod config;
pub mod control;
pub mod credentials;
pub mod doctor;
pub mod expectations;
pub mod lifecycle;
pub mod link_task;
pub mod live;
pub mod metrics;
pub mod policy;
pub mod reload;
pub mod serve;
pub mod state;
pub mod status;
pub mod succession;
pub mod supervisor;
pub mod systemd;
pub mod transfer;
pub mod upstream;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::Request;
use http::header::ACCEPT;
use hyper::body::Incoming;
use tokio::sync::watch;

use self::admin::Admin;
use self::audit::Audit;
use self::command::Commands;
use self::config::AgentConfig;
use self::live::{Live, LiveError};
use self::reload::Reloader;
use self::state::{StateDirectory, StateError};
use self::succession::heir::{self, Heritage};
use self::supervisor::{Summary, Supervisor};
use crate::admin_socket::{AdminSocket, BindError};
use crate::disk::Disks;
use crate::logging::LogHandle;
use crate::metric::listener::MetricsListener;
use crate::passed_sockets::{self, PassedSocketError, PassedSockets};
use crate::problem::Problem;
use crate::shutdown::{Ended, Shutdown};

/// How long the last lines of the audit log may take: two writes and a sync.
const AUDIT_GRACE: Duration = Duration::from_secs(5);

/// The agent, built and not yet running.
pub struct Agent {
    live: Arc<Live>,
    socket: AdminSocket,
    metrics: Option<MetricsListener>,
    supervisor: Supervisor,
    admin: Admin,
    reloader: Arc<Reloader>,
    commands: Commands,
    summaries: watch::Receiver<Summary>,
    drain_timeout: Duration,
    shutdown: Shutdown,
    state: Arc<StateDirectory>,
    heritage: Option<Heritage>,
}

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The state directory.
    #[error(transparent)]
    State(StateError),
    /// The configuration has no mistakes, and cannot be put into force.
    #[error(transparent)]
    Live(LiveError),
    /// The admin socket.
    #[error("the admin socket cannot be set up")]
    Socket(#[source] BindError),
    /// The address of the metrics.
    #[error("could not listen on {address}, as metrics.listen says")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// systemd passed a socket that is not the configuration's.
    #[error(transparent)]
    PassedSocket(PassedSocketError),
    /// What a former process left.
    #[error("what the former process left cannot be used")]
    Heritage(#[source] io::Error),
}

impl Agent {
    /// Takes the state directory, takes or binds the admin socket and reads credentials; dials nothing yet. With a
    /// heritage, takes these over from the former process instead, step by step.
    /// Must be called within a runtime.
    ///
    /// # Errors
    /// [`BuildError`]; nothing is then left behind.
    pub fn build(
        config: &AgentConfig,
        config_file: Option<PathBuf>,
        mut passed: PassedSockets,
        log: LogHandle,
        shutdown: Shutdown,
        heritage: Option<Heritage>,
    ) -> Result<Self, BuildError> {
        let opened = match &heritage {
            None => StateDirectory::open(&config.state_dir),
            Some(_) => StateDirectory::open_beside(&config.state_dir),
        };
        let state = Arc::new(opened.map_err(BuildError::State)?);
        let machine = config.identity.machine();
        state.check_place(machine).map_err(BuildError::State)?;
        let audit = Audit::start(&config.audit);
        let named = reload::named_in(config);
        let live = Arc::new(Live::new(config, audit).map_err(BuildError::Live)?);
        let (path, group) = (&config.admin.socket, config.admin.group.as_deref());
        let socket = match &heritage {
            None => AdminSocket::take_or_bind(&mut passed, path, group),
            Some(heritage) => {
                let listener = heritage.listener().map_err(BuildError::Heritage)?;
                AdminSocket::inherit(listener, path, group)
            }
        };
        let socket = socket.map_err(BuildError::Socket)?;
        let metrics = config.metrics.listen.map(|address| {
            let bound = MetricsListener::bind(address);
            bound.map_err(|source| BuildError::Metrics { address, source })
        });
        let metrics = metrics.transpose()?;
        passed.all_taken().map_err(BuildError::PassedSocket)?;
        let (commands, received) = command::channel();
        let (supervisor, summaries) = Supervisor::new(
            Arc::clone(&state),
            Arc::clone(&live),
            shutdown.clone(),
            received,
            heritage.as_ref().map(Heritage::ticket),
        )
        .map_err(BuildError::State)?;
        let reloader = Reloader::new(Arc::clone(&live), log.clone(), config_file, config, named);
        let reloader = Arc::new(reloader);
        let audit = config
            .audit
            .enabled
            .then(|| config.audit.file.parent())
            .flatten();
        let directories = std::iter::once(config.state_dir.as_path()).chain(audit);
        let admin = Admin::new(admin::Inner {
            commands: commands.clone(),
            live: Arc::clone(&live),
            log,
            summary: summaries.clone(),
            shutdown: shutdown.clone(),
            drain_timeout: config.drain_timeout,
            reloader: Arc::clone(&reloader),
            disks: Disks::of(directories.map(Path::to_owned)),
            started_at: SystemTime::now(),
            ledger: Mutex::default(),
        });
        Ok(Self {
            live,
            socket,
            metrics,
            supervisor,
            admin,
            reloader,
            commands,
            summaries,
            drain_timeout: config.drain_timeout,
            shutdown,
            state,
            heritage,
        })
    }

    /// Runs until the shutdown drains; then lets calls in flight finish up to the configured time.
    pub async fn run(self) -> Ended {
        let Self {
            live,
            socket,
            metrics,
            supervisor,
            admin,
            reloader,
            commands,
            summaries,
            drain_timeout,
            shutdown,
            state,
            heritage,
        } = self;
        let signals = succession::signals();
        live.set_former(heritage.is_some());
        shutdown.spawn(supervisor.run());
        if let Some(heritage) = heritage {
            let accepted = heritage.accepted(&commands, &summaries);
            tokio::select! {
                accepted = accepted => match accepted {
                    Ok(former) => {
                        tokio::spawn(heir::succeed(former, state, Arc::clone(&live)));
                    }
                    Err(error) => {
                        tracing::error!(%error, "the former process did not hand over");
                        shutdown.start_drain();
                    }
                },
                // What was begun is not waited for: the former process sees that this one ends.
                () = shutdown.draining() => {}
            }
        }
        if passed_sockets::keep(&[socket.as_fd()]) {
            socket.hold();
        }
        shutdown.spawn(reloader.follow(shutdown.clone()));
        shutdown.spawn(admin.clone().follow(shutdown.clone()));
        if let Some(listener) = metrics {
            let admin = admin.clone();
            let page = move |request: Request<Incoming>| {
                let admin = admin.clone();
                async move {
                    let page = admin.metrics(request.headers().get(ACCEPT)).await;
                    page.unwrap_or_else(Problem::into_response)
                }
            };
            shutdown.spawn(listener.serve(page, shutdown.clone()));
        }
        let until = shutdown.clone();
        let handler = move |request, peer| admin.clone().answer(request, peer);
        let socket = Arc::new(socket);
        let served = Arc::clone(&socket);
        let serving = tokio::spawn(async move { served.serve(handler, &until).await });
        let reporting = tokio::spawn(systemd::report(
            summaries,
            commands.clone(),
            shutdown.clone(),
        ));
        tracing::info!("the agent runs");

        // Held to the end, by which the next process knows of it.
        let next = tokio::select! {
            // A hand-over that has begun is broken off: nobody is left to hand over from.
            () = shutdown.draining() => {
                systemd::stopping();
                tracing::info!(deadline = ?drain_timeout, "stopping: no new calls, those in flight may finish");
                None
            }
            successor = succession::successor(signals, &commands, &socket) => {
                let process = successor.process_id();
                serving.abort();
                socket.hold();
                reporting.abort();
                systemd::hand_over(process);
                let channel = successor.begin().await;
                tracing::info!(process, deadline = ?drain_timeout, "another process has taken over; calls in flight may finish here");
                Some(channel)
            }
        };
        let ended = tokio::select! {
            ended = shutdown.wait_all(drain_timeout) => ended,
            // Never ends, and only tells.
            never = systemd::tell_stopping(&shutdown, drain_timeout, &live), if next.is_none() => match never {},
        };
        // A disk that does not answer must not keep the agent from ending.
        let closing = tokio::task::spawn_blocking(move || live.calls.audit().stop());
        if tokio::time::timeout(AUDIT_GRACE, closing).await.is_err() {
            tracing::error!("the audit log could not be closed in time");
        }
        reporting.abort();
        // The status can be asked for until here. Dropping the socket removes its file.
        serving.abort();
        let _ = serving.await;
        match ended {
            Ended::Drained => tracing::info!("stopped"),
            Ended::Stopped => tracing::warn!("stopped before every call had finished"),
            Ended::Abandoned(tasks) => tracing::warn!(tasks, "stopped with tasks still at work"),
        }
        ended
    }
}
