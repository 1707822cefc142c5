//! The relay's public socket: accept, TLS, HTTP/1.1 and HTTP/2, and which part answers a path.
//!
//! Bound first, then run until the drain: no new sockets then, and those that are open end when
//! their calls have. Every wait for a stranger has a deadline, and sockets are bounded.

mod complaints;
mod connection;
mod host;
mod refusal;
mod rests;
mod socket;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpSocket;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tracing::{error, info, warn};

use self::complaints::Complaints;
use self::rests::Rests;
use self::socket::Socket;
use super::api::Api;
use super::forward::Forward;
use super::link_endpoint::LinkEndpoint;
use super::places::Places;
use super::shared::Shared;
use crate::error_chain::chain;
use crate::forwarding::ForwardedValues;
use crate::link::tls::LateTcp;
use crate::link::tls::server::ServerTls;
use crate::shutdown::Shutdown;

/// How often certificate files are looked at: renewals come days before the end.
const LOOK_AT_CERTIFICATES: Duration = Duration::from_secs(5);
/// The pause after a failed accept: nearly always a lack of file descriptors, which takes a moment to mend.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Connections that the kernel holds for the relay; it has its own limit too (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// How long a socket that takes no more requests may stay open with nothing to do: several round trips
/// of a bad path, for a caller to confirm the end as HTTP/2 has it, or to fetch what is left.
pub const STOPPED_TIMEOUT: Duration = Duration::from_secs(10);

/// A vanished caller is noticed after about a minute and a half, however quiet its answer.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;

/// What bounds the sockets of strangers.
#[derive(Debug, Clone, Copy)]
pub struct ListenerLimits {
    /// Sockets open at once, links among them; more wait in the kernel's queue.
    pub sockets: usize,
    /// Sockets open at once from one address; more are closed.
    pub sockets_per_address: usize,
    /// How long TLS may take, and then the head of the first request.
    pub head_timeout: Duration,
    /// How long a socket may stay open without a new request, and one that takes no more with an
    /// answer of which nothing is read.
    pub idle_timeout: Duration,
    /// How long one that takes no more may stay open with nothing to do.
    pub stopped_timeout: Duration,
}

/// The parts that answer, by path.
pub struct Routes {
    /// `/c/…`.
    pub forward: Forward,
    /// `/v1/link`.
    pub link: LinkEndpoint,
    /// What all share; here, what was counted.
    pub shared: Arc<Shared>,
    /// Everything else.
    pub api: Api,
}

/// A bound socket that does not answer yet.
pub struct Listener {
    /// Not tokio's, which would make each socket known to the poller before anything has to be waited for.
    tcp: AsyncFd<TcpListener>,
    security: Security,
    limits: ListenerLimits,
    /// Whether systemd keeps it open for the next start.
    is_held: bool,
}

/// Who ends TLS in front of a listener.
#[derive(Clone)]
pub enum Security {
    /// The relay itself.
    Tls(Arc<ServerTls>),
    /// A load balancer, which callers reach over https.
    Balancer,
    /// Nobody: callers on this machine.
    Plain,
}

impl Security {
    /// The scheme that callers use.
    const fn scheme(&self) -> &'static str {
        match self {
            Self::Tls(_) | Self::Balancer => "https",
            Self::Plain => "http",
        }
    }
}

impl Listener {
    /// Binds the address. Port 0 takes a free one. With `reuse_port` another process of the same user may
    /// listen there too, and the system spreads new connections over them.
    ///
    /// # Errors
    /// What the system says: the address is in use, or not ours.
    pub fn bind(
        address: SocketAddr,
        reuse_port: bool,
        security: Security,
        limits: ListenerLimits,
    ) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // What a former relay left in TIME-WAIT does not keep this one out.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(reuse_port)?;
        socket.bind(address)?;
        let tcp = socket.listen(BACKLOG)?.into_std()?;
        prepare(&tcp)?;
        Ok(Self {
            tcp: watched(tcp)?,
            security,
            limits,
            is_held: false,
        })
    }

    /// Uses a socket that systemd bound, and that it keeps open while the relay is restarted: who connects
    /// then waits for the next start. Must be called within a runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn passed(
        socket: TcpListener,
        security: Security,
        limits: ListenerLimits,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        prepare(&socket)?;
        Ok(Self {
            tcp: watched(socket)?,
            security,
            limits,
            is_held: true,
        })
    }

    /// Notes that systemd keeps the socket.
    pub const fn hold(&mut self) {
        self.is_held = true;
    }

    /// Whether it stays open when the relay ends, so that a connection to it says nothing of a successor.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.is_held
    }

    /// Where the listener is bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.tcp.get_ref().local_addr()
    }

    /// Answers until the drain begins; sockets that are open then go on in tasks of their own, which
    /// `shutdown` waits for.
    pub async fn run(self, routes: Arc<Routes>, shutdown: &Shutdown) {
        if let Security::Tls(tls) = &self.security {
            let link = routes.link.clone();
            shutdown.spawn(renew_certificates(Arc::clone(tls), link, shutdown.clone()));
        }
        let all = Arc::new(Semaphore::new(self.limits.sockets));
        let places = Places::new(self.limits.sockets, self.limits.sockets_per_address);
        let complaints = Arc::<Complaints>::default();
        let rests = Arc::<Rests>::default();
        let mut forwarded = ForwardedValues::new(self.security.scheme());
        let mut draining = std::pin::pin!(shutdown.draining());
        loop {
            let next = async {
                let place = Arc::clone(&all).acquire_owned().await;
                let accepting = self.tcp.async_io(Interest::READABLE, TcpListener::accept);
                (place, accepting.await)
            };
            let (place, accepted) = tokio::select! {
                // A socket that was accepted is never lost: accepting is the last step.
                next = next => next,
                () = &mut draining => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let of_address = match places.take(peer.ip()) {
                        Ok(place) => place,
                        Err(why) => {
                            routes.shared.metrics.sockets_turned_away.hit();
                            complaints.turned_away(peer, why);
                            continue;
                        }
                    };
                    let socket = Socket {
                        tcp: LateTcp::new(tcp),
                        peer,
                        place: Box::new((place, of_address)),
                        complaints: Arc::clone(&complaints),
                        forwarded: forwarded.of(peer.ip()),
                        security: self.security.clone(),
                        limits: self.limits,
                        rests: Arc::clone(&rests),
                        routes: Arc::clone(&routes),
                        shutdown: shutdown.clone(),
                    };
                    // Boxed here, for a task's future is moved several times on its way.
                    shutdown.spawn(Box::pin(socket.serve()));
                }
                Err(error) => {
                    routes.shared.metrics.accepts_failed.hit();
                    warn!(%error, "no socket could be accepted");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.get_ref().as_fd()
    }
}

/// Sets on the listener what every accepted socket then has without a system call of its own (Linux
/// hands these options down, tcp(7)): small writes leave at once, vanished peers are noticed.
fn prepare(listener: &TcpListener) -> io::Result<()> {
    let listener = SockRef::from(listener);
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE_IDLE)
        .with_interval(KEEP_ALIVE_INTERVAL)
        .with_retries(KEEP_ALIVE_PROBES);
    listener.set_tcp_nodelay(true)?;
    listener.set_tcp_keepalive(&keep_alive)
}

/// Lets the runtime watch the listener.
#[expect(
    deprecated,
    reason = "what takes its place is unsafe, for descriptors that change; the standard library's listener keeps its one open"
)]
fn watched(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    AsyncFd::with_interest(listener, Interest::READABLE)
}

async fn renew_certificates(tls: Arc<ServerTls>, link: LinkEndpoint, shutdown: Shutdown) {
    let mut draining = std::pin::pin!(shutdown.draining());
    // Without it, they are looked at a little later.
    let mut hangup = signal(SignalKind::hangup()).ok();
    loop {
        tokio::select! {
            // All only wait.
            () = tokio::time::sleep(LOOK_AT_CERTIFICATES) => {}
            () = hung_up(hangup.as_mut()) => {}
            () = &mut draining => return,
        }
        match tls.reload_if_changed() {
            Ok(true) => {
                info!("the new certificate is in use");
                link.certificate_changed();
            }
            Ok(false) => {}
            Err(error) => {
                error!(error = %chain(&error), "the new certificate cannot be used; the former stays in use");
            }
        }
    }
}

/// The next SIGHUP, which `systemctl reload` sends.
async fn hung_up(signals: Option<&mut Signal>) {
    match signals {
        Some(signals) => _ = signals.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
