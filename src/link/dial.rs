//! The one dialer: from this machine to a relay, directly or through a proxy, up to TLS.
//!
//! Redeeming, linking and diagnosing all use it, so that what one of them says of the way holds for
//! the others. Each hop fails in its own words.

mod proxy;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

pub use self::proxy::ProxyError;
use super::tls::client::ClientTls;
use super::tls::{ReadAhead, Stream, TlsError};
use crate::invitation::{RelayUrl, TlsPin};
use crate::secret::Secret;

/// How long one address may take to answer: three lost SYN packets (RFC 6298: 1, 2 and 4 s).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(7);
/// How long looking a name up may take: two tries of the usual resolver.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a proxy may take to open its tunnel; it makes a TCP connection of its own meanwhile.
const PROXY_TIMEOUT: Duration = Duration::from_secs(20);
/// How long TLS may take.
const TLS_TIMEOUT: Duration = Duration::from_secs(15);
/// Addresses of one name that are tried, so that a name with hundreds does not hold the dialer for long.
const MAX_ADDRESSES: usize = 8;
/// The kernel asks an idle peer for a sign of life after this, as a last resort below the session's own keep-alive.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Which proxy to go through.
pub enum ProxySetting {
    /// What `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    Environment,
    /// None, whatever the environment says.
    None,
    /// This one: `http://[user:password@]host:port` or `socks5://…`.
    Url(Secret<String>),
}

/// Makes connections to relays.
pub struct Dialer {
    proxies: Option<Matcher>,
    tls: ClientTls,
}

/// Where on the way it failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("the name {host} cannot be looked up")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// No address answered.
    #[error("{host} port {port} cannot be reached")]
    Connect {
        /// Who was to be reached.
        host: String,
        /// Its port.
        port: u16,
        /// What the last address said.
        #[source]
        source: io::Error,
    },
    /// The proxy was not reached, or said nothing.
    #[error("the proxy {proxy} does not answer")]
    ProxyUnreachable {
        /// The proxy, without its password.
        proxy: String,
        /// Why.
        #[source]
        source: Box<Self>,
    },
    /// The proxy was reached and does not open the way.
    #[error("the proxy {proxy} does not open the way to {target}")]
    Proxy {
        /// The proxy, without its password.
        proxy: String,
        /// The relay's host and port.
        target: String,
        /// What the proxy said.
        #[source]
        source: ProxyError,
    },
    /// TLS with the relay did not come about.
    #[error("TLS with {host} failed")]
    Tls {
        /// The relay.
        host: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// A step took too long.
    #[error("{step} took more than {} s", .after.as_secs())]
    TimedOut {
        /// Which step, in words.
        step: &'static str,
        /// How long it was given.
        after: Duration,
    },
}

impl Dialer {
    /// A dialer with these settings. The environment is read now, not at each dial.
    #[must_use]
    pub fn new(proxy: &ProxySetting, tls: ClientTls) -> Self {
        let proxies = match proxy {
            ProxySetting::Environment => Some(Matcher::from_env()),
            ProxySetting::None => None,
            ProxySetting::Url(url) => Some(Matcher::builder().all(url.expose().clone()).build()),
        };
        Self { proxies, tls }
    }

    /// The proxy on the way to a relay, as `host:port`, if there is one.
    #[must_use]
    pub fn proxy_for(&self, relay: &RelayUrl) -> Option<String> {
        self.intercept(relay)
            .map(|intercept| proxy::name(&intercept))
    }

    /// Connects to a relay, TLS included when its URL says so. With a pin, the relay's key must be the pinned one.
    ///
    /// # Errors
    /// [`DialError`] naming the hop.
    pub async fn connect(
        &self,
        relay: &RelayUrl,
        pin: Option<TlsPin>,
    ) -> Result<Stream, DialError> {
        let tcp = match self.intercept(relay) {
            Some(intercept) => connect_through(&intercept, relay).await?,
            None => connect_directly(relay.host(), relay.port()).await?,
        };
        prepare(&tcp);
        if !relay.is_tls() {
            return Ok(Stream::Plain(ReadAhead::new(tcp.into())));
        }
        let host = relay.host();
        within("TLS", TLS_TIMEOUT, self.tls.connect(host, pin, tcp))
            .await?
            .map_err(|source| DialError::Tls {
                host: host.to_owned(),
                source,
            })
    }

    fn intercept(&self, relay: &RelayUrl) -> Option<Intercept> {
        let scheme = if relay.is_tls() { "https" } else { "http" };
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(relay.authority())
            .path_and_query("/");
        self.proxies.as_ref()?.intercept(&uri.build().ok()?)
    }
}

/// Connects to the first address of a name that answers.
///
/// # Errors
/// [`DialError::Resolve`], [`DialError::Connect`] or [`DialError::TimedOut`].
pub async fn connect_directly(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let looking_up = tokio::net::lookup_host((host, port));
    let addresses: Vec<SocketAddr> = within("looking the name up", RESOLVE_TIMEOUT, looking_up)
        .await?
        .map_err(|source| DialError::Resolve {
            host: host.to_owned(),
            source,
        })?
        .take(MAX_ADDRESSES)
        .collect();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(DialError::Connect {
        host: host.to_owned(),
        port,
        source: last,
    })
}

async fn connect_through(intercept: &Intercept, relay: &RelayUrl) -> Result<TcpStream, DialError> {
    let target = match relay.host() {
        host if host.contains(':') => format!("[{host}]:{}", relay.port()),
        host => format!("{host}:{}", relay.port()),
    };
    let unreachable = |source| DialError::ProxyUnreachable {
        proxy: proxy::name(intercept),
        source,
    };
    let opening = proxy::open(intercept, &target);
    let opened = within("opening the way through the proxy", PROXY_TIMEOUT, opening).await;
    let opened = opened.map_err(|error| unreachable(Box::new(error)))?;
    opened.map_err(|error| match error {
        proxy::OpenError::Reach(error) => unreachable(error),
        proxy::OpenError::Refused(source) => DialError::Proxy {
            proxy: proxy::name(intercept),
            target,
            source,
        },
    })
}

/// Small writes leave at once; a dead peer is noticed by the kernel too. Failing that, all still works.
fn prepare(tcp: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE);
    if let Err(error) = tcp
        .set_nodelay(true)
        .and_then(|()| SockRef::from(tcp).set_tcp_keepalive(&keepalive))
    {
        tracing::debug!(%error, "a socket option was refused");
    }
}

async fn within<F: Future>(
    step: &'static str,
    after: Duration,
    future: F,
) -> Result<F::Output, DialError> {
    tokio::time::timeout(after, future)
        .await
        .map_err(|_| DialError::TimedOut { step, after })
}
