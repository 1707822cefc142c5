//! Binding the socket, accepting connections, and serving each.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as BlockingUnixListener, UnixStream as BlockingUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::{Gid, Group, chown};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Handler;
use super::permission::{Peer, Permission};
use crate::passed_sockets::PassedSockets;
use crate::shutdown::Shutdown;

/// How many peers are connected at most: an administrator, a monitor, and some of their scripts.
const MAX_CONNECTIONS: usize = 64;
/// How long a peer may take for a request's head, and stay connected without one.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The buffer for a request's head, in bytes. The least that hyper allows.
const MAX_HEAD: usize = 8 * 1024;
/// The pause after the system refused a connection, as it does when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Owner and group may connect, others may not.
const SOCKET_MODE: u32 = 0o660;

/// A bound admin socket. Its file goes when it is dropped, unless systemd keeps it for the next start, or another
/// process goes on with it.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    permission: Permission,
    /// Held as long as a socket that this process bound: the kernel lets go of it even when the process is killed.
    _lock: Option<Flock<File>>,
    /// Whether systemd, or another process, goes on with it.
    is_held: AtomicBool,
}

/// Why the socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The directory that should hold it is not there.
    #[error("the directory {} of the admin socket does not exist", .0.display())]
    DirectoryMissing(PathBuf),
    /// Another daemon listens on it.
    #[error("another daemon already listens on {}", .0.display())]
    InUse(PathBuf),
    /// Something else has its name.
    #[error("{} is in the way: it is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The configured group does not exist.
    #[error("there is no group {0:?} to give the admin socket to")]
    UnknownGroup(String),
    /// The system refused a step.
    #[error("could not {step} {}", path.display())]
    System {
        /// What was tried, to be read before the path.
        step: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl BindError {
    /// What an administrator can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::DirectoryMissing(path) => format!(
                "start it through systemd, which makes the directory, or run: install -d {}",
                path.display()
            ),
            Self::InUse(_) => {
                "stop the other one, or give this one another admin.socket".to_owned()
            }
            Self::NotASocket(path) => format!("move {} away", path.display()),
            Self::UnknownGroup(name) => {
                format!("correct admin.group, or run: groupadd --system {name}")
            }
            Self::System { path, .. } => format!(
                "check that the daemon's user may write {}",
                path.parent().unwrap_or(path).display()
            ),
        }
    }
}

impl AdminSocket {
    /// Binds the socket and gives it to the group. A socket that a dead daemon left is replaced; one
    /// that a live daemon listens on is not. Must be called within a runtime.
    ///
    /// # Errors
    /// [`BindError`], each with its remedy.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, BindError> {
        let group = group.map(group_named).transpose()?;
        let directory = path.parent().unwrap_or_else(|| Path::new("/"));
        if !directory.is_dir() {
            return Err(BindError::DirectoryMissing(directory.to_owned()));
        }
        let lock = lock(path)?;
        remove_stale(path)?;
        let system = |step| {
            move |source| BindError::System {
                step,
                path: path.into(),
                source,
            }
        };
        let listener = UnixListener::bind(path).map_err(system("listen on"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))
            .map_err(system("set the mode of"))?;
        if let Some(group) = group {
            let given = chown(path, None, Some(group)).map_err(io::Error::from);
            given.map_err(system("give to its group the socket"))?;
        }
        let permission = Permission::new(group);
        Ok(Self {
            listener,
            path: path.to_owned(),
            permission,
            _lock: Some(lock),
            is_held: AtomicBool::new(false),
        })
    }

    /// Takes the socket that systemd bound at this path, if it passed one; else binds it. Must be called
    /// within a runtime.
    ///
    /// # Errors
    /// [`BindError`], each with its remedy.
    pub fn take_or_bind(
        passed: &mut PassedSockets,
        path: &Path,
        group: Option<&str>,
    ) -> Result<Self, BindError> {
        let Some(listener) = passed.take_unix(path) else {
            return Self::bind(path, group);
        };
        let group = group.map(group_named).transpose()?;
        let system = |step| {
            move |source| BindError::System {
                step,
                path: path.into(),
                source,
            }
        };
        listener
            .set_nonblocking(true)
            .map_err(system("listen on"))?;
        let listener = UnixListener::from_std(listener).map_err(system("listen on"))?;
        if let Some(group) = group {
            let given = chown(path, None, Some(group)).map_err(io::Error::from);
            given.map_err(system("give to its group the socket"))?;
        }
        Ok(Self {
            listener,
            path: path.to_owned(),
            permission: Permission::new(group),
            _lock: None,
            is_held: AtomicBool::new(true),
        })
    }

    /// The socket that a former process of this daemon bound at this path, and leaves to this one. Must be called
    /// within a runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn inherit(
        listener: BlockingUnixListener,
        path: &Path,
        group: Option<&str>,
    ) -> Result<Self, BindError> {
        let system = |source| BindError::System {
            step: "listen on",
            path: path.into(),
            source,
        };
        let group = group.map(group_named).transpose()?;
        listener.set_nonblocking(true).map_err(system)?;
        Ok(Self {
            listener: UnixListener::from_std(listener).map_err(system)?,
            path: path.to_owned(),
            permission: Permission::new(group),
            _lock: None,
            is_held: AtomicBool::new(false),
        })
    }

    /// Notes that systemd keeps the socket, or another process goes on with it: its file stays at the end.
    pub fn hold(&self) {
        self.is_held.store(true, Ordering::Relaxed);
    }

    /// Answers requests until the shutdown *stops*, so that the status can be asked for while draining.
    ///
    /// Do not run it through [`Shutdown::spawn`]: the end would wait for it. Dropping the future, or
    /// the runtime, ends all connections.
    pub async fn serve(&self, handler: impl Handler, shutdown: &Shutdown) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                while connections.try_join_next().is_some() {}
                // The semaphore is never closed, so this only ever waits.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                let stream = match self.listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "could not accept on the admin socket");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let handler = handler.clone();
                let permission = self.permission;
                connections.spawn(async move {
                    serve_connection(stream, permission, handler).await;
                    drop(place);
                });
            }
        };
        tokio::select! {
            // What is lost by dropping is a connection not yet begun, and everything is to be let go.
            () = accepting => {}
            () = shutdown.stopping() => {}
        }
    }
}

impl AsFd for AdminSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if self.is_held.load(Ordering::Relaxed) {
            return;
        }
        // The lock is still held here, or the socket listens, so the file is not another daemon's.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "could not remove the admin socket");
        }
    }
}

async fn serve_connection(stream: UnixStream, permission: Permission, handler: impl Handler) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => return tracing::warn!(%error, "could not tell who is on the admin socket"),
    };
    let permitted = permission.check(peer).await;
    if permitted.is_err() {
        tracing::warn!(
            uid = peer.uid,
            pid = peer.pid,
            "refused a peer on the admin socket"
        );
    }
    let is_permitted = permitted.is_ok();
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = handler.clone();
        let permitted = permitted.clone();
        async move {
            Ok::<_, Infallible>(match permitted {
                Ok(()) => handler.handle(request, peer).await,
                Err(problem) => problem.into_response(),
            })
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(is_permitted)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, uid = peer.uid, "a connection to the admin socket ended badly");
    }
}

fn group_named(name: &str) -> Result<Gid, BindError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) | Err(_) => Err(BindError::UnknownGroup(name.to_owned())),
    }
}

/// Makes sure that of several daemons started at once only one goes on.
fn lock(socket: &Path) -> Result<Flock<File>, BindError> {
    let mut path = socket.to_owned().into_os_string();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .map_err(|source| BindError::System {
            step: "open the lock file",
            path,
            source,
        })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| BindError::InUse(socket.to_owned()))
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let system = |step| {
        move |source| BindError::System {
            step,
            path: path.into(),
            source,
        }
    };
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(system("look at")(source)),
    }
    match BlockingUnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(system("remove the stale socket"))
        }
        Err(source) => Err(system("find out who listens on")(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, group: Option<&str>) -> BindError {
        AdminSocket::bind(path, group).unwrap_err()
    }

    #[tokio::test]
    async fn a_second_daemon_is_refused_and_the_first_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let first = AdminSocket::bind(&path, None).unwrap();
        assert!(matches!(refusal(&path, None), BindError::InUse(_)));
        assert!(path.exists());
        drop(first);
        assert!(AdminSocket::bind(&path, None).is_ok());
    }

    #[tokio::test]
    async fn a_live_socket_of_a_program_without_our_lock_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let _other = UnixListener::bind(&path).unwrap();
        assert!(matches!(refusal(&path, None), BindError::InUse(_)));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn what_a_killed_daemon_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        assert!(AdminSocket::bind(&path, None).is_ok());
    }

    #[tokio::test]
    async fn a_socket_that_systemd_passed_is_used_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let held = std::os::unix::net::UnixListener::bind(&path).unwrap();
        for _ in 0..2 {
            let mut passed = PassedSockets::of(&[], &[&held]);
            let socket = AdminSocket::take_or_bind(&mut passed, &path, None).unwrap();
            assert!(passed.all_taken().is_ok());
            let peer = UnixStream::connect(&path).await.unwrap();
            let (accepted, _) = socket.listener.accept().await.unwrap();
            drop((peer, accepted, socket));
            assert!(path.exists());
        }
    }

    #[tokio::test]
    async fn each_refusal_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let missing = refusal(&directory.path().join("none/admin.sock"), None);
        assert!(matches!(missing, BindError::DirectoryMissing(_)));
        assert!(
            missing.remedy().contains("install -d "),
            "{}",
            missing.remedy()
        );
        let path = directory.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(refusal(&path, None), BindError::NotASocket(_)));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let unknown = refusal(&path, Some("no-such-group"));
        assert!(matches!(unknown, BindError::UnknownGroup(_)));
        assert!(unknown.remedy().contains("groupadd"));
    }
}
