//! The file of the audit log on disk: opened, locked, continued, appended to, rotated.
//!
//! Two processes may write one log for a while, as when an agent drains and its successor serves already. Each writes only
//! with the lock, and goes on from what the other has written ([`lock`]).
//!
//! What was found in a file is never changed: a line that a crash tore stays, and the next line tells of
//! it. The one thing ever cut away is what this process itself has just failed to write. All calls block.

mod lock;
mod rotated;
mod tail;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

pub(super) use lock::Turn;
pub(super) use rotated::Doomed;
pub use rotated::files_of;
pub(super) use tail::{Tail, Torn};

use super::chain::{Head, SealError};
use crate::atomic_file::{DirectoryError, check_private_directory};

/// The log is the daemon's alone.
const MODE: u32 = 0o600;
/// The bits that let anyone but the owner in.
const FOREIGN_BITS: u32 = 0o077;
/// With less room than this a file system counts as full: the lines of the calls under way, and those of
/// other programs, need some, and calls are to be refused before they are sent, not after.
const ROOM_NEEDED: u64 = 1024 * 1024;

/// The file that lines are appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Arc<File>,
    path: PathBuf,
    /// As this process knows it: another may have gone on since the lock was let go.
    length: u64,
    begun: Option<String>,
    is_locked: bool,
    /// Until then the lock is let go after each write, for another process writes, or may want to.
    shared_until: Option<Instant>,
}

/// Why lines cannot be written. The text names the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// The directory is missing, not ours, or open to others.
    #[error("the directory of the audit log cannot be used")]
    Directory(#[source] DirectoryError),
    /// Something else than a file is there.
    #[error("{0:?} is not a regular file; move it away")]
    NotRegular(PathBuf),
    /// The file is somebody else's, or open to others.
    #[error(
        "{path:?} must belong to user {own} alone; run: chown {own} {path:?}; chmod 0600 {path:?}"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// The user id of this process.
        own: u32,
    },
    /// Another process has the lock, and does not let it go.
    #[error(
        "another process keeps the lock on {0:?}; end it, or give each agent a file of its own (audit.file)"
    )]
    InUse(PathBuf),
    /// It ends with so much that is no line of ours that it is not continued.
    #[error("{0:?} does not end like an audit log; move it away")]
    Foreign(PathBuf),
    /// The file system has no room.
    #[error("the file system of {0:?} is full; make room on it")]
    Full(PathBuf),
    /// The file is not in its place any more.
    #[error("{0:?} was moved or removed while it was written to")]
    Moved(PathBuf),
    /// It has lines that neither this process wrote nor one before it.
    #[error(
        "{path:?} goes on to line {found} after line {last}, the last that this process wrote; move it away"
    )]
    Ahead {
        /// The file.
        path: PathBuf,
        /// The last line of ours.
        last: u64,
        /// The last that was found.
        found: u64,
    },
    /// A line could not be made, which is a defect.
    #[error("a line could not be made")]
    Line(#[source] SealError),
    /// The operating system refused a step.
    #[error("could not {action} {path:?}")]
    Io {
        /// The step, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FileError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => Self::Full(path.to_owned()),
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }
}

impl LogFile {
    /// Opens the file at `path`, or makes it, and tells what is at its end. Of an empty file, what is at
    /// the end of the latest of the rotated files beside it.
    ///
    /// # Errors
    /// [`FileError`].
    pub(super) fn open(path: &Path) -> Result<(Self, Tail), FileError> {
        check_private_directory(directory_of(path)).map_err(FileError::Directory)?;
        let mut log = Self::locked(path)?;
        log.check_place()?;
        log.begun = tail::first_time(&log.file).map_err(FileError::io("read", path))?;
        let tail = log.tail()?;
        Ok((log, tail))
    }

    /// What is at its end; of an empty one, at that of the latest of those put aside.
    ///
    /// # Errors
    /// When it cannot be read, or does not end like a log.
    pub(super) fn tail(&self) -> Result<Tail, FileError> {
        let path = &self.path;
        let tail = tail::read(&self.file, self.length).map_err(FileError::io("read", path))?;
        Ok(match tail {
            Tail::Empty => rotated::last_head(path)?.map_or(Tail::Empty, Tail::Whole),
            Tail::Foreign => return Err(FileError::Foreign(path.clone())),
            Tail::Torn(torn) if torn.head == Head::BEGINNING => {
                let head = rotated::last_head(path)?.unwrap_or(torn.head);
                Tail::Torn(Torn { head, ..torn })
            }
            tail @ (Tail::Whole(_) | Tail::Torn(_)) => tail,
        })
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// When the system does not take them. A part of them may stand there: [`cut_to`](Self::cut_to) what was before.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), FileError> {
        (&*self.file)
            .write_all(lines)
            .map_err(FileError::io("write to", &self.path))?;
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Cuts away what this process has just failed to write.
    ///
    /// # Errors
    /// When the system refuses; [`withdraw`](Self::withdraw) it after the next opening.
    pub(super) fn cut_to(&mut self, length: u64) -> Result<(), FileError> {
        self.file
            .set_len(length)
            .map_err(FileError::io("shorten", &self.path))?;
        self.length = length;
        Ok(())
    }

    /// Cuts away what stands after `length`, if it is the beginning of these lines, which a former opening could
    /// neither write nor cut away. Tells what is at the end then.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn withdraw(&mut self, length: u64, lines: &[u8]) -> Result<Tail, FileError> {
        let remains = usize::try_from(self.length.saturating_sub(length)).unwrap_or(usize::MAX);
        if let Some(expected) = lines.get(..remains)
            && remains > 0
        {
            let mut found = vec![0; remains];
            let read = self.file.read_exact_at(&mut found, length);
            read.map_err(FileError::io("read", &self.path))?;
            if found == expected {
                self.cut_to(length)?;
            }
        }
        self.tail()
    }

    /// Whether the file is still the one at its path, and has room.
    ///
    /// # Errors
    /// When not.
    pub(super) fn check_place(&self) -> Result<(), FileError> {
        let held = self.file.metadata();
        let held = held.map_err(FileError::io("look at", &self.path))?;
        let moved = |_| FileError::Moved(self.path.clone());
        let there = fs::symlink_metadata(&self.path).map_err(moved)?;
        if (held.dev(), held.ino()) != (there.dev(), there.ino()) {
            return Err(FileError::Moved(self.path.clone()));
        }
        let room = statvfs(directory_of(&self.path));
        let room = room.map_err(|errno| FileError::io("look at", &self.path)(errno.into()))?;
        // Their types differ between platforms.
        let free = u128::from(room.blocks_available()) * u128::from(room.fragment_size());
        if free < u128::from(ROOM_NEEDED) {
            return Err(FileError::Full(self.path.clone()));
        }
        Ok(())
    }

    /// How long it is, in bytes.
    #[must_use]
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// The time in its first line, when it had one as it was opened.
    #[must_use]
    pub(super) fn begun(&self) -> Option<&str> {
        self.begun.as_deref()
    }

    /// Puts the file aside under a name that ends with the number of its last line, and begins another. Tells which
    /// of those that were put aside are to be removed, so that `keep` remain: once a line says so, and not before, for
    /// a kill in between would look as if somebody else had removed them.
    ///
    /// # Errors
    /// When the system refuses; the file is then in its place, or found there as empty.
    pub(super) fn rotate(
        self,
        head: Head,
        keep: usize,
    ) -> Result<(Self, Option<Doomed>), FileError> {
        self.sync()?;
        let path = self.path.clone();
        rotated::put_aside(&path, head)?;
        let mut log = Self::locked(&path)?;
        log.share_like(&self);
        let doomed = rotated::oldest(&path, keep)?;
        let directory = directory_of(&path);
        File::open(directory)
            .and_then(|opened| opened.sync_all())
            .map_err(FileError::io("sync", directory))?;
        Ok((log, doomed))
    }

    /// What syncs the file, for another thread.
    #[must_use]
    pub(super) fn handle(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Returns when what was appended is on the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn sync(&self) -> Result<(), FileError> {
        self.file
            .sync_data()
            .map_err(FileError::io("sync", &self.path))
    }
}

fn open_ours(path: &Path) -> Result<File, FileError> {
    if let Ok(there) = fs::symlink_metadata(path)
        && !there.is_file()
    {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(FileError::io("open", path))?;
    let metadata = file.metadata().map_err(FileError::io("look at", path))?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    let own = geteuid().as_raw();
    if metadata.uid() != own || metadata.mode() & FOREIGN_BITS != 0 {
        let path = path.to_owned();
        return Err(FileError::Exposed { path, own });
    }
    Ok(file)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
