//! TLS on every connection: the one place that knows rustls.
//!
//! Clients are in [`client`], servers in [`server`]; both make a [`Stream`]. Never turns
//! verification off: a pin replaces the authorities, it does not weaken them.

#[cfg(feature = "agent")]
pub mod client;
#[cfg(feature = "relay")]
mod expiry;
mod late;
mod read_ahead;
#[cfg(feature = "relay")]
pub mod server;
mod writes;

use std::any::Any;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::crypto::CryptoProvider;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use self::late::LateTcp;
pub use self::read_ahead::ReadAhead;
pub use self::writes::Writes;
use crate::protocol::handshake::{EXPORTER_LABEL, EXPORTER_LENGTH};

/// TLS copies a write into its records piece by piece, each to five bytes behind the start of an allocation. Longer pieces
/// from the start of a page then take some processors ten times as long (AMD's, by `rep movsb`, which the C library uses for
/// them: its bug 30994).
const PIECE: usize = 2 * 1024;
/// How many pieces are handed to TLS at once: as much as it takes.
const PIECES: usize = 32;

/// A TCP connection, with or without TLS on it.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(ReadAhead<LateTcp>),
    /// This side began.
    Client(Box<tokio_rustls::client::TlsStream<ReadAhead<LateTcp>>>),
    /// The other side began.
    Server(Box<tokio_rustls::server::TlsStream<ReadAhead<LateTcp>>>),
}

/// Why TLS could not be set up, by whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with certificates or a key cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no usable {expected}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// The certificate and the key do not fit, or the key is of a kind that TLS does not know.
    #[error("the certificate and the key cannot be used together")]
    Unusable(#[source] rustls::Error),
    /// The system has no trusted roots, and no other were configured.
    #[error("this machine trusts no certificate authority at all")]
    NoRoots,
    /// The host's name cannot stand in a certificate.
    #[error("{0:?} is not a host name")]
    HostName(String),
    /// The certificate is signed by nobody whom this machine trusts.
    #[error("the certificate of {host} is signed by an authority that this machine does not trust")]
    UnknownIssuer {
        /// Whose certificate.
        host: String,
    },
    /// The certificate is for other hosts.
    #[error("the certificate that answered for {host} is for another host")]
    WrongHost {
        /// Who was asked for.
        host: String,
    },
    /// The certificate is out of date, or this machine's clock is wrong.
    #[error("the certificate of {host} is not valid at this time by this machine's clock")]
    WrongTime {
        /// Whose certificate.
        host: String,
    },
    /// The key is not the pinned one.
    #[error("the key of {host} is not the one that the invitation pinned")]
    WrongPin {
        /// Whose key.
        host: String,
    },
    /// The two sides have no version of TLS in common: the other one's are too old, or switched off.
    #[error("{host} speaks no version of TLS that is accepted here")]
    TooOld {
        /// The other side.
        host: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Another failure of the handshake.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The self-signed certificate could not be made.
    #[error("cannot make a self-signed certificate: {0}")]
    SelfSigned(String),
    /// A made certificate or key cannot be kept.
    #[error("cannot keep the self-signed certificate")]
    Keep(#[source] crate::atomic_file::AtomicFileError),
}

impl Stream {
    /// The TLS exporter that the link's handshake binds to; `None` without TLS.
    ///
    /// # Errors
    /// When the TLS handshake is not finished.
    pub fn exporter(&self) -> io::Result<Option<[u8; EXPORTER_LENGTH]>> {
        let output = [0; EXPORTER_LENGTH];
        let exported = match self {
            Self::Plain(_) => return Ok(None),
            Self::Client(stream) => {
                stream
                    .get_ref()
                    .1
                    .export_keying_material(output, EXPORTER_LABEL, None)
            }
            Self::Server(stream) => {
                stream
                    .get_ref()
                    .1
                    .export_keying_material(output, EXPORTER_LABEL, None)
            }
        };
        exported.map(Some).map_err(io::Error::other)
    }

    /// Whether both sides agreed on HTTP/2 (ALPN, RFC 7301).
    #[must_use]
    pub fn is_http2(&self) -> bool {
        let protocol = match self {
            Self::Plain(_) => None,
            Self::Client(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Server(stream) => stream.get_ref().1.alpn_protocol(),
        };
        protocol == Some(b"h2")
    }

    /// Watches the writes from now on.
    pub fn watch_writes(&mut self) -> Arc<Writes> {
        self.below().watch_writes()
    }

    /// Keeps something until the socket is closed, also where it becomes a link or a tunnel.
    pub fn keep(&mut self, something: Box<dyn Any + Send + Sync>) {
        self.below().keep(something);
    }

    fn below(&mut self) -> &mut ReadAhead<LateTcp> {
        match self {
            Self::Plain(stream) => stream,
            Self::Client(stream) => stream.get_mut().0,
            Self::Server(stream) => stream.get_mut().0,
        }
    }

    /// Whether nothing was waited for on the TCP connection below until now.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.tcp().is_new()
    }

    /// The TCP connection below, unless it is lost.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.tcp().descriptor()
    }

    fn tcp(&self) -> &LateTcp {
        match self {
            Self::Plain(stream) => stream.get_ref(),
            Self::Client(stream) => stream.get_ref().0.get_ref(),
            Self::Server(stream) => stream.get_ref().0.get_ref(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Client(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Server(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Client(stream) => poll_write_in_pieces(Pin::new(stream), cx, bytes),
            Self::Server(stream) => poll_write_in_pieces(Pin::new(stream), cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Client(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Server(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Client(stream) => stream.is_write_vectored(),
            Self::Server(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Client(stream) => Pin::new(stream).poll_flush(cx),
            Self::Server(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Client(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Server(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

fn poll_write_in_pieces<S: AsyncWrite>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    if bytes.len() <= PIECE {
        return stream.poll_write(cx, bytes);
    }
    let mut pieces = [IoSlice::new(&[]); PIECES];
    let mut count = 0;
    for (piece, slice) in bytes.chunks(PIECE).zip(&mut pieces) {
        *slice = IoSlice::new(piece);
        count += 1;
    }
    stream.poll_write_vectored(cx, &pieces[..count])
}

/// The cryptography of every TLS connection.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
