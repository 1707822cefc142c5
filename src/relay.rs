//! The public side: connections, invitations and tokens, the agents' links, and callers' calls.
//!
//! [`Relay::build`] reads, opens and binds everything, so that whatever is wrong is told before
//! anything is served; [`Relay::run`] serves until the shutdown ends it. Wiring only: decides nothing.

pub mod activity;
pub mod api;
pub mod clock;
pub mod conditions;
pub mod config;
pub mod connections;
pub mod forward;
pub mod health;
mod housekeeping;
pub mod link_endpoint;
pub mod listener;
pub mod metrics;
mod network;
mod places;
pub mod record;
pub mod registry;
pub mod shared;
pub mod store;
mod strict;
pub mod tokens;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, OnceLock};

use self::api::{Api, Origin};
use self::config::{RelayConfig, TlsMode};
use self::connections::{Connections, PublicFace};
use self::forward::Forward;
use self::housekeeping::tell;
use self::link_endpoint::LinkEndpoint;
use self::listener::{Listener, ListenerLimits, Routes, STOPPED_TIMEOUT, Security};
use self::metrics::Metrics;
use self::registry::{Limits, Registry};
use self::shared::Shared;
use self::store::{Sharing, Store, StoreError};
use self::tokens::Tokens;
use crate::admin_socket::{AdminSocket, BindError, Peer};
use crate::atomic_file::{self, DirectoryError};
use crate::disk::Disks;
use crate::identity::IdentityError;
use crate::identity::key_file::{self, KeyFileError};
use crate::invitation::TlsPin;
use crate::link::tls::TlsError;
use crate::link::tls::server::ServerTls;
use crate::logging::LogHandle;
use crate::metric::listener::MetricsListener;
use crate::passed_sockets::{self, PassedSocketError, PassedSockets};
use crate::shutdown::{Ended, Shutdown};
use http::Request;
use http::header::ACCEPT;
use hyper::body::Incoming;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

/// A relay that is ready to serve.
pub struct Relay {
    shared: Arc<Shared>,
    admin: AdminSocket,
    forward: Forward,
    listeners: Vec<Listener>,
    metrics: Option<MetricsListener>,
}

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The state directory is not there, or others could read it.
    #[error("the state directory cannot be used")]
    StateDirectory(#[source] DirectoryError),
    /// The identity key could neither be read nor made.
    #[error("the relay's identity key cannot be used")]
    Identity(#[source] KeyFileError),
    /// The machine gives no random bytes.
    #[error("the relay cannot number its calls")]
    Random(#[source] IdentityError),
    /// Certificate or key cannot be used.
    #[error("TLS cannot be set up")]
    Tls(#[source] TlsError),
    /// The database could not be opened or read.
    #[error("the relay's database cannot be used")]
    Store(#[source] StoreError),
    /// An address could not be bound.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The admin socket could not be bound.
    #[error("could not open the admin socket")]
    AdminSocket(#[source] BindError),
    /// systemd passed a socket that is not the configuration's.
    #[error(transparent)]
    PassedSocket(PassedSocketError),
}

impl Relay {
    /// Checks the state directory, reads the state, takes the sockets that were passed and binds the others.
    /// Must be called within a runtime.
    ///
    /// # Errors
    /// What keeps it from starting; nothing is served then.
    pub async fn build(
        config: RelayConfig,
        mut passed: PassedSockets,
        log: LogHandle,
        shutdown: Shutdown,
    ) -> Result<Self, BuildError> {
        let state_dir = &config.state_dir;
        atomic_file::create_private_directory(state_dir).map_err(BuildError::StateDirectory)?;
        let sharing = if config.reuse_port {
            Sharing::WithSuccessor
        } else {
            Sharing::Alone
        };
        let store = Store::open_for(state_dir, sharing).map_err(BuildError::Store)?;
        let identity = key_file::load_or_create(&state_dir.join("identity.key"));
        let identity = Arc::new(identity.map_err(BuildError::Identity)?);
        let limits = Limits {
            calls_in_flight: config.limits.calls_per_connection,
            calls_waiting: config.limits.waiting_calls_per_connection,
            redial_grace: config.limits.redial_grace,
        };
        let records = store.connections().await.map_err(BuildError::Store)?;
        let registry = Arc::new(Registry::new(records, limits));
        let records = store.tokens().await.map_err(BuildError::Store)?;
        let tokens = Arc::new(Tokens::new(records));
        let (security, tls_pin) = security(&config)?;
        let face = PublicFace {
            url: config.public_url.clone(),
            tls_pin,
        };
        let connections = Connections::new(
            store.clone(),
            Arc::clone(&registry),
            Arc::clone(&tokens),
            Arc::clone(&identity),
            face,
            config.invitation_life,
        );
        let limits = ListenerLimits {
            sockets: config.limits.sockets,
            sockets_per_address: config.limits.sockets_per_address,
            head_timeout: config.limits.head_timeout,
            idle_timeout: config.limits.idle_timeout,
            stopped_timeout: STOPPED_TIMEOUT,
        };
        let tls = match &security {
            Security::Tls(tls) => Some(Arc::clone(tls)),
            Security::Balancer | Security::Plain => None,
        };
        let reuse_port = config.reuse_port;
        let (listener, address) = listen(&mut passed, config.listen, reuse_port, security, limits)?;
        let mut listeners = vec![listener];
        let mut plain_address = None;
        if let Some(address) = config.plain_listen {
            // All its callers are on this machine, and have its address.
            let limits = ListenerLimits {
                sockets_per_address: limits.sockets,
                ..limits
            };
            let (listener, bound) =
                listen(&mut passed, address, reuse_port, Security::Plain, limits)?;
            listeners.push(listener);
            plain_address = Some(bound);
        }
        let group = config.admin.group.as_deref();
        let admin = AdminSocket::take_or_bind(&mut passed, &config.admin.socket, group)
            .map_err(BuildError::AdminSocket)?;
        passed.all_taken().map_err(BuildError::PassedSocket)?;
        let metrics = config.metrics.listen.map(|address| {
            let bound = MetricsListener::bind(address);
            bound.map_err(|source| BuildError::Listen { address, source })
        });
        let metrics_listener = metrics.transpose()?;
        let shared = Arc::new(Shared {
            identity,
            registry,
            tokens,
            connections,
            store,
            log,
            metrics: Metrics::default(),
            disks: Disks::of([config.state_dir.clone()]),
            ledger: Mutex::default(),
            tls,
            shutdown,
            successor: OnceLock::new(),
            started_at: clock::now(),
            address,
            plain_address,
            config,
        });
        Ok(Self {
            forward: Forward::new(Arc::clone(&shared)).map_err(BuildError::Random)?,
            shared,
            admin,
            listeners,
            metrics: metrics_listener,
        })
    }

    /// What its parts share, with the addresses that were bound.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Serves until the shutdown drains, then lets calls under way finish within `drain_timeout`.
    pub async fn run(self) -> Ended {
        let Self {
            shared,
            mut admin,
            forward,
            mut listeners,
            metrics,
        } = self;
        if !shared.config.reuse_port {
            hold(&mut admin, &mut listeners);
        }
        let shutdown = shared.shutdown.clone();
        // It lets a listener with TLS look at its certificate. Without one it means nothing, and must not end the relay.
        let _hangup = signal(SignalKind::hangup());
        let api = Api::new(Arc::clone(&shared));
        // Not through the shutdown: these end with it and are not waited for.
        let admin = tokio::spawn(serve_admin(admin, api.clone(), shutdown.clone()));
        let housekeeping = tokio::spawn(housekeeping::run(Arc::clone(&shared)));
        let following = shared.config.reuse_port.then(|| {
            let following = tokio::spawn(housekeeping::follow_the_store(Arc::clone(&shared)));
            AbortOnDropHandle::new(following)
        });
        if let Some(listener) = metrics {
            let shared = Arc::clone(&shared);
            let page = move |request: Request<Incoming>| {
                let shared = Arc::clone(&shared);
                async move { health::metrics(&shared, request.headers().get(ACCEPT)).await }
            };
            shutdown.spawn(listener.serve(page, shutdown.clone()));
        }
        let looked_after = Arc::clone(&shared);
        let looking = tokio::spawn(async move { health::follow(&looked_after).await });
        let routes = Arc::new(Routes {
            forward,
            link: LinkEndpoint::new(Arc::clone(&shared)),
            shared: Arc::clone(&shared),
            api,
        });
        let is_held = listeners.iter().any(Listener::is_held);
        for listener in listeners {
            let (routes, shared) = (Arc::clone(&routes), Arc::clone(&shared));
            let (shutdown, address) = (shutdown.clone(), shared.address);
            tokio::spawn(async move {
                let listening = shared.metrics.listening();
                listener.run(Arc::clone(&routes), &shutdown).await;
                drop(listening);
                if is_held {
                    routes.link.has_no_successor();
                } else {
                    routes.link.look_for_successor(address).await;
                }
                if let Some(successor) = routes.link.successor() {
                    let _ = shared.successor.set(successor);
                }
            });
        }
        let watchdog = tokio::spawn(housekeeping::watchdog());
        log_start(&shared);
        tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
        shutdown.draining().await;
        tell(&[NotifyState::Stopping]);
        let ended = tokio::select! {
            ended = shutdown.wait_all(shared.config.drain_timeout) => ended,
            // Never ends, and only tells.
            never = housekeeping::tell_stopping(&shared) => match never {},
        };
        housekeeping.abort();
        drop(following);
        looking.abort();
        housekeeping::note_last_seen(&shared).await;
        shutdown.stop_now();
        // It has been told to stop; what is left to do is to remove its file.
        let _ = admin.await;
        watchdog.abort();
        shared.store.close().await;
        tracing::info!(?ended, "stopped");
        ended
    }
}

/// Who ends TLS in front of the public listener, and the pin that invitations carry for it.
fn security(config: &RelayConfig) -> Result<(Security, Option<TlsPin>), BuildError> {
    let tls = match &config.tls {
        TlsMode::Files { certificate, key } => ServerTls::from_files(certificate, key),
        TlsMode::SelfSigned => {
            let directory = config.state_dir.join("tls");
            atomic_file::create_private_directory(&directory)
                .map_err(BuildError::StateDirectory)?;
            ServerTls::self_signed(&directory, config.public_url.host())
        }
        TlsMode::Off if config.public_url.is_tls() => return Ok((Security::Balancer, None)),
        TlsMode::Off => return Ok((Security::Plain, None)),
    };
    let tls = tls.map_err(BuildError::Tls)?;
    let pin = tls.pin();
    Ok((Security::Tls(Arc::new(tls)), pin))
}

fn listen(
    passed: &mut PassedSockets,
    address: SocketAddr,
    reuse_port: bool,
    security: Security,
    limits: ListenerLimits,
) -> Result<(Listener, SocketAddr), BuildError> {
    let failed = |source| BuildError::Listen { address, source };
    let listener = match passed.take_tcp(address) {
        Some(socket) => Listener::passed(socket, security, limits),
        None => Listener::bind(address, reuse_port, security, limits),
    };
    let listener = listener.map_err(failed)?;
    let bound = listener.local_address().map_err(failed)?;
    Ok((listener, bound))
}

/// Lets systemd keep the sockets over a restart. Not beside another process on the same address: the system
/// would lead connections to a socket on which nobody accepts.
fn hold(admin: &mut AdminSocket, listeners: &mut [Listener]) {
    let mut sockets: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
    sockets.push(admin.as_fd());
    if passed_sockets::keep(&sockets) {
        admin.hold();
        listeners.iter_mut().for_each(Listener::hold);
    }
}

async fn serve_admin(socket: AdminSocket, api: Api, shutdown: Shutdown) {
    let handler = move |request: Request<Incoming>, peer: Peer| {
        let api = api.clone();
        async move {
            let origin = Origin::AdminSocket { uid: peer.uid };
            api.respond(request, origin).await
        }
    };
    socket.serve(handler, &shutdown).await;
}

fn log_start(shared: &Shared) {
    let config = &shared.config;
    tracing::info!(
        address = %shared.address,
        plain = shared.plain_address.map(tracing::field::display),
        public_url = %config.public_url,
        admin_socket = %config.admin.socket.display(),
        identity = %shared.identity.public_key(),
        connections = shared.registry.list().len(),
        "the relay is serving"
    );
    match &config.tls {
        TlsMode::Files { .. } => {}
        TlsMode::SelfSigned => tracing::warn!(
            "FOR A TRIAL ONLY: the certificate is self-signed; agents pin its key, but callers cannot \
             verify it; set [tls] mode = \"files\" with a certificate of an authority before production"
        ),
        TlsMode::Off if shared.address.ip().is_loopback() => {}
        TlsMode::Off => tracing::warn!(
            "TLS is off: tokens and calls cross the network up to this relay in the clear"
        ),
    }
}

#[cfg(test)]
mod tests;
