//! One new connection to an upstream: name, TCP, TLS, HTTP/1.1.
//!
//! Goes where the configuration says and nowhere else: neither proxies of the environment nor a
//! caller's headers have a say, and a name leads to the addresses that the configuration allows.

use std::fmt;
use std::path::Path;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::pool::Connection;
use crate::agent::addresses::{Addresses, ReachError};
use crate::body::Body;
use crate::link::tls::TlsError;
use crate::link::tls::client::{ClientTls, Purpose};

/// The largest head of an answer: policies and cookies of single sign-on make some large, and the
/// lane takes twice as much.
const MAX_ANSWER_HEAD_BYTES: usize = 64 * 1024;

/// Why there is no connection to an upstream. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured address cannot be used.
    #[error("{0} is not an http or https address")]
    Address(Uri),
    /// No TCP connection to an address that the upstream may have.
    #[error(transparent)]
    Reach(ReachError),
    /// No TLS on it, or no certificates to judge it by.
    #[error("TLS could not be set up")]
    Tls(#[source] TlsError),
    /// The connection broke before HTTP began.
    #[error("HTTP could not begin")]
    Http(#[source] hyper::Error),
}

/// Where an upstream is.
pub(super) struct Origin {
    host: Box<str>,
    port: u16,
    authority: Box<str>,
    tls: Option<ClientTls>,
    addresses: Addresses,
}

/// TLS settings that upstreams share: reading the system's roots takes time, and memory each time.
pub(super) struct SharedTls<'a> {
    network_ca: Option<&'a Path>,
    without_own_ca: Option<ClientTls>,
}

impl<'a> SharedTls<'a> {
    /// Trusts the system's roots and those in this file.
    pub(super) const fn new(network_ca: Option<&'a Path>) -> Self {
        Self {
            network_ca,
            without_own_ca: None,
        }
    }

    fn client(&mut self, own_ca: Option<&Path>) -> Result<ClientTls, ConnectError> {
        if own_ca.is_some() {
            let files = self.network_ca.into_iter().chain(own_ca);
            return ClientTls::new(files, Purpose::Upstream).map_err(ConnectError::Tls);
        }
        if let Some(client) = &self.without_own_ca {
            return Ok(client.clone());
        }
        let made = ClientTls::new(self.network_ca, Purpose::Upstream);
        let client = made.map_err(ConnectError::Tls)?;
        Ok(self.without_own_ca.insert(client).clone())
    }
}

impl Origin {
    /// At `url`, which is trusted by its own certificates too and may lead to these addresses.
    pub(super) fn new(
        url: &Uri,
        own_ca: Option<&Path>,
        addresses: Addresses,
        tls: &mut SharedTls<'_>,
    ) -> Result<Self, ConnectError> {
        let refused = || ConnectError::Address(url.clone());
        let authority = url.authority().ok_or_else(refused)?;
        let is_tls = url.scheme() == Some(&Scheme::HTTPS);
        if !is_tls && url.scheme() != Some(&Scheme::HTTP) {
            return Err(refused());
        }
        let default_port = if is_tls { 443 } else { 80 };
        // The resolver takes an IPv6 address without the brackets of an authority.
        let host = authority.host().trim_matches(['[', ']']);
        Ok(Self {
            host: host.into(),
            port: authority.port_u16().unwrap_or(default_port),
            authority: authority.as_str().into(),
            tls: is_tls.then(|| tls.client(own_ca)).transpose()?,
            addresses,
        })
    }

    /// The only `Host` that this upstream ever sees.
    pub(super) fn host_header(&self) -> Result<HeaderValue, ConnectError> {
        let invalid = |_| ConnectError::Address(Uri::default());
        HeaderValue::from_str(&self.authority).map_err(invalid)
    }

    /// A connection for calls, one after the other.
    pub(super) async fn connect(&self) -> Result<Connection, ConnectError> {
        let tcp = self.tcp().await?;
        match &self.tls {
            Some(tls) => {
                let stream = tls.connect(&self.host, None, tcp).await;
                start(stream.map_err(ConnectError::Tls)?).await
            }
            None => start(tcp).await,
        }
    }

    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let reached = self.addresses.connect(&self.host, self.port).await;
        let tcp = reached.map_err(ConnectError::Reach)?;
        tcp.set_nodelay(true).map_err(|source| {
            ConnectError::Reach(ReachError::Tcp {
                host: self.host.to_string(),
                port: self.port,
                source,
            })
        })?;
        Ok(tcp)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

/// Begins HTTP/1.1 and drives the connection until it is closed; the stream may become a WebSocket.
async fn start<S>(stream: S) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_ANSWER_HEAD_BYTES)
        .handshake::<_, Body>(TokioIo::new(stream))
        .await
        .map_err(ConnectError::Http)?;
    // Ends when the sender is dropped or the upstream closes; whoever waits for an answer has the error.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}
