//! Sockets that systemd passes to a daemon at its start, so that a restart refuses nobody.
//!
//! They come from two places: a `.socket` unit that an administrator enabled (`sd_listen_fds(3)`), and the
//! daemon's own former process, which gave them to systemd to keep (`FileDescriptorStoreMax=`). Either way they
//! stay open meanwhile: whoever connects waits. A part takes the socket that has its address. One of a unit
//! that nobody takes is a mistake, since whoever connects there would wait for ever; one that was only kept
//! belongs to a former configuration. Binds nothing itself.

use std::env;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// What kept sockets are called in the store; those of a unit have its name.
const KEPT: &str = "kept";

/// The sockets that were passed and not yet taken.
#[derive(Debug, Default)]
pub struct PassedSockets {
    tcp: Vec<Passed<TcpListener>>,
    unix: Vec<Passed<UnixListener>>,
}

#[derive(Debug)]
struct Passed<S> {
    socket: S,
    /// Kept for the former process; else a unit's.
    is_kept: bool,
}

/// What was passed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassedSocketError {
    /// Neither of the kinds that a daemon listens on.
    #[error("socket {0} that systemd passes is neither a TCP nor a Unix stream socket")]
    Kind(usize),
    /// Nothing in the configuration has its address.
    #[error("systemd listens on {0} for this program, but its configuration does not")]
    NotConfigured(String),
}

impl PassedSocketError {
    /// What an administrator can do about it.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Kind(_) => "correct the .socket unit: ListenStream= only",
            Self::NotConfigured(_) => {
                "give the .socket unit and the configuration the same addresses (systemctl edit --full), \
                 or do without the unit (systemctl disable --now)"
            }
        }
    }
}

impl PassedSockets {
    /// None: the daemon binds everything itself.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What systemd passed to this process, if anything. The first call takes them all.
    ///
    /// # Errors
    /// [`PassedSocketError::Kind`].
    pub fn from_environment() -> Result<Self, PassedSocketError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Self::none();
        for index in 0..passed.len() {
            let is_kept = names.next() == Some(KEPT);
            // A socket of another kind is an error here, and stays where it is.
            if let Ok(Some(socket)) = passed.take_unix_listener(index) {
                sockets.unix.push(Passed { socket, is_kept });
            } else if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
                sockets.tcp.push(Passed { socket, is_kept });
            } else {
                return Err(PassedSocketError::Kind(index));
            }
        }
        Ok(sockets)
    }

    /// The socket that listens on this address.
    pub fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        take(&mut self.tcp, |socket| {
            socket.local_addr().is_ok_and(|bound| bound == address)
        })
    }

    /// The socket that listens at this path.
    pub fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        take(&mut self.unix, |socket| {
            let bound = socket.local_addr();
            bound.is_ok_and(|bound| bound.as_pathname() == Some(path))
        })
    }

    /// To be called when every part has taken its own: lets go of what was kept for a former configuration.
    ///
    /// # Errors
    /// [`PassedSocketError::NotConfigured`].
    pub fn all_taken(self) -> Result<(), PassedSocketError> {
        let mut tcp = self.tcp.iter().filter(|passed| !passed.is_kept);
        let mut unix = self.unix.iter().filter(|passed| !passed.is_kept);
        let tcp = tcp.next().map(|passed| name(passed.socket.local_addr()));
        let unix = unix.next().map(|passed| {
            let address = passed.socket.local_addr();
            let path = address.map(|address| {
                let path = address.as_pathname().unwrap_or_else(|| Path::new("?"));
                path.display().to_string()
            });
            name(path)
        });
        match tcp.or(unix) {
            None => Ok(()),
            Some(address) => Err(PassedSocketError::NotConfigured(address)),
        }
    }

    /// Sockets as a unit would have passed them.
    #[cfg(test)]
    pub(crate) fn of(tcp: &[&TcpListener], unix: &[&UnixListener]) -> Self {
        let is_kept = false;
        let tcp = tcp.iter().map(|one| one.try_clone().unwrap());
        let unix = unix.iter().map(|one| one.try_clone().unwrap());
        Self {
            tcp: tcp.map(|socket| Passed { socket, is_kept }).collect(),
            unix: unix.map(|socket| Passed { socket, is_kept }).collect(),
        }
    }
}

/// Gives these sockets, and no others, to systemd to keep until the daemon is started again; when it is stopped
/// for good, systemd closes them. Says whether they were handed over; without systemd they are not.
#[must_use]
pub fn keep(sockets: &[BorrowedFd<'_>]) -> bool {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return false;
    }
    let kept = sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(KEPT)]);
    let kept = kept.and_then(|()| {
        let states = [NotifyState::FdStore, NotifyState::FdName(KEPT)];
        sd_notify::notify_with_fds(&states, sockets)
    });
    if let Err(error) = &kept {
        tracing::debug!(%error, "systemd does not keep the sockets over a restart");
    }
    kept.is_ok()
}

fn take<S>(sockets: &mut Vec<Passed<S>>, is_it: impl Fn(&S) -> bool) -> Option<S> {
    let index = sockets.iter().position(|passed| is_it(&passed.socket))?;
    Some(sockets.swap_remove(index).socket)
}

fn name(address: io::Result<impl fmt::Display>) -> String {
    address.map_or_else(|_| "?".to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_takes_the_socket_of_its_address_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let address = tcp.local_addr().unwrap();
        let mut passed = PassedSockets::of(&[&tcp], &[&unix]);
        assert!(passed.take_tcp("127.0.0.1:1".parse().unwrap()).is_none());
        assert!(passed.take_unix(Path::new("/other")).is_none());
        let taken = passed.take_tcp(address).unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        assert!(passed.take_tcp(address).is_none());
        assert!(passed.take_unix(&path).is_some());
        assert!(passed.take_unix(&path).is_none());
        assert!(passed.all_taken().is_ok());
    }

    #[test]
    fn a_socket_that_nobody_takes_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let address = tcp.local_addr().unwrap().to_string();
        let left = PassedSockets::of(&[&tcp], &[]).all_taken().unwrap_err();
        assert!(left.to_string().contains(&address), "{left}");
        let left = PassedSockets::of(&[], &[&unix]).all_taken().unwrap_err();
        assert!(left.to_string().contains("admin.sock"), "{left}");
        assert!(left.remedy().contains("systemctl edit"));
    }

    #[test]
    fn a_socket_that_was_kept_for_a_former_configuration_is_let_go() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut passed = PassedSockets::of(&[&tcp], &[]);
        passed.tcp[0].is_kept = true;
        assert!(passed.all_taken().is_ok());
    }
}
