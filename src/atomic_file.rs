//! Files that are written whole or not at all, and read without being led astray.
//!
//! A write goes to a temporary file beside the target, is synced, takes the target's place in one
//! step, and the directory is synced after it: after a power loss there is the former content or the
//! new one, never a part. Never follows a symbolic link to a file, never touches what is not a regular
//! file, never reads without a bound. A process killed in the middle of a write may leave a file named
//! `.NAME.RANDOM.tmp`, with the target's mode; nothing ever reads it.
//!
//! All calls block; they are short, and the files small.

mod private_directory;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

pub use private_directory::{DirectoryError, check_private_directory, create_private_directory};

/// The permission bits of a file's mode, without its type.
const PERMISSION_BITS: u32 = 0o7777;
/// The bits that let anyone but the owner in.
const FOREIGN_BITS: u32 = 0o077;

/// Why a file was not read or written. The program's caller, not the far side, can mend each of these.
#[derive(Debug, thiserror::Error)]
pub enum AtomicFileError {
    /// A symbolic link, directory, device, pipe or socket stands where a file should be.
    #[error("{path:?} is not a regular file (symbolic links are not followed)")]
    NotRegular {
        /// The file in question.
        path: PathBuf,
    },
    /// More bytes than the reader is ready for: not a file of ours.
    #[error("{path:?} is longer than the {max_length} bytes that it may have")]
    TooLong {
        /// The file in question.
        path: PathBuf,
        /// The reader's bound, in bytes.
        max_length: usize,
    },
    /// A private file that others may read or write.
    #[error("{path:?} has mode {mode:04o}, which lets other users in; run: chmod 0600 {path:?}")]
    Exposed {
        /// The file in question.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A private file of somebody else.
    #[error(
        "{path:?} belongs to user {owner}, and this program runs as user {own}; run: chown {own} {path:?}"
    )]
    NotOurs {
        /// The file in question.
        path: PathBuf,
        /// The user id that owns it.
        owner: u32,
        /// The user id of this process.
        own: u32,
    },
    /// [`create`] found the file there already.
    #[error("{path:?} exists already")]
    Exists {
        /// The file in question.
        path: PathBuf,
    },
    /// The operating system refused a step.
    #[error("could not {action} {path:?}")]
    Io {
        /// The step, as a verb.
        action: &'static str,
        /// The file or directory in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AtomicFileError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Puts `content` into the file at `path`, in place of what it held, with exactly the mode given.
///
/// # Errors
/// [`AtomicFileError::NotRegular`] when something other than a file is there; the former file is then,
/// and at any other error, as it was.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), AtomicFileError> {
    if let Some(existing) = look_at(path)? {
        require_regular(path, &existing)?;
    }
    let temporary = Temporary::write(path, content, mode)?;
    fs::rename(&temporary.path, path).map_err(AtomicFileError::io("replace", path))?;
    temporary.disarm();
    sync_directory_of(path)
}

/// As [`write()`], but only where nothing is yet: of several processes that try, one succeeds.
///
/// # Errors
/// [`AtomicFileError::Exists`] when anything has that name already.
pub fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), AtomicFileError> {
    let temporary = Temporary::write(path, content, mode)?;
    fs::hard_link(&temporary.path, path).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            let path = path.to_owned();
            return AtomicFileError::Exists { path };
        }
        AtomicFileError::io("create", path)(source)
    })?;
    drop(temporary);
    sync_directory_of(path)
}

/// The content of the file at `path`, or `None` when there is no such file.
///
/// # Errors
/// [`AtomicFileError::TooLong`] beyond `max_length` bytes, [`AtomicFileError::NotRegular`] for anything but a file.
pub fn read(path: &Path, max_length: usize) -> Result<Option<Vec<u8>>, AtomicFileError> {
    let Some((file, metadata)) = open(path)? else {
        return Ok(None);
    };
    read_bounded(path, file, &metadata, max_length).map(Some)
}

/// As [`read`], and the file must be ours alone: of this process's user, closed to all others.
///
/// # Errors
/// Also [`AtomicFileError::NotOurs`] and [`AtomicFileError::Exposed`].
pub fn read_private(path: &Path, max_length: usize) -> Result<Option<Vec<u8>>, AtomicFileError> {
    let Some((file, metadata)) = open(path)? else {
        return Ok(None);
    };
    let own = geteuid().as_raw();
    if metadata.uid() != own {
        return Err(AtomicFileError::NotOurs {
            path: path.to_owned(),
            owner: metadata.uid(),
            own,
        });
    }
    if metadata.mode() & FOREIGN_BITS != 0 {
        return Err(AtomicFileError::Exposed {
            path: path.to_owned(),
            mode: metadata.mode() & PERMISSION_BITS,
        });
    }
    read_bounded(path, file, &metadata, max_length).map(Some)
}

/// Gives the file at `from` the name `to`, in place of what was there, lastingly. Both stand in one directory.
///
/// # Errors
/// When the system refuses; both are then as they were.
pub fn rename(from: &Path, to: &Path) -> Result<(), AtomicFileError> {
    fs::rename(from, to).map_err(AtomicFileError::io("rename", from))?;
    sync_directory_of(to)
}

/// Removes the file at `path`, lastingly. That there is none is no error.
///
/// # Errors
/// When the system refuses, for instance because `path` is a directory.
pub fn remove(path: &Path) -> Result<(), AtomicFileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_directory_of(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(AtomicFileError::io("remove", path)(error)),
    }
}

/// A synced file beside its target, removed again unless it took the target's place.
struct Temporary {
    path: PathBuf,
    is_armed: bool,
}

impl Temporary {
    fn write(target: &Path, content: &[u8], mode: u32) -> Result<Self, AtomicFileError> {
        let path = Self::path_beside(target)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode & 0o600)
            .open(&path)
            .map_err(AtomicFileError::io("create", &path))?;
        let temporary = Self {
            path,
            is_armed: true,
        };
        let path = &temporary.path;
        file.write_all(content)
            .map_err(AtomicFileError::io("write", path))?;
        // After the content, so that a mode without write permission works, and whatever the umask is.
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(AtomicFileError::io("set the mode of", path))?;
        file.sync_all().map_err(AtomicFileError::io("sync", path))?;
        Ok(temporary)
    }

    fn path_beside(target: &Path) -> Result<PathBuf, AtomicFileError> {
        let Some(name) = target.file_name() else {
            return Err(AtomicFileError::NotRegular {
                path: target.to_owned(),
            });
        };
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| {
            AtomicFileError::io("name a temporary file for", target)(io::Error::other(
                "no random bytes",
            ))
        })?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{:016x}.tmp", u64::from_ne_bytes(random)));
        Ok(target.with_file_name(temporary))
    }

    fn disarm(mut self) {
        self.is_armed = false;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.is_armed {
            // Nothing more can be done about a temporary file that cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn look_at(path: &Path) -> Result<Option<Metadata>, AtomicFileError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AtomicFileError::io("look at", path)(error)),
    }
}

fn require_regular(path: &Path, metadata: &Metadata) -> Result<(), AtomicFileError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(AtomicFileError::NotRegular {
        path: path.to_owned(),
    })
}

/// Opens for reading without following a link and without waiting for a pipe's writer; what was opened is what is checked.
fn open(path: &Path) -> Result<Option<(File, Metadata)>, AtomicFileError> {
    let Some(seen) = look_at(path)? else {
        return Ok(None);
    };
    require_regular(path, &seen)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(AtomicFileError::io("open", path))?;
    let metadata = file
        .metadata()
        .map_err(AtomicFileError::io("look at", path))?;
    require_regular(path, &metadata)?;
    Ok(Some((file, metadata)))
}

fn read_bounded(
    path: &Path,
    file: File,
    metadata: &Metadata,
    max_length: usize,
) -> Result<Vec<u8>, AtomicFileError> {
    let expected = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    // Room for all of it at once, so that a growing vector leaves no copies of a secret behind.
    let mut content = Vec::with_capacity(expected.min(max_length).saturating_add(1));
    file.take(max_length as u64 + 1)
        .read_to_end(&mut content)
        .map_err(AtomicFileError::io("read", path))?;
    if content.len() > max_length {
        return Err(AtomicFileError::TooLong {
            path: path.to_owned(),
            max_length,
        });
    }
    Ok(content)
}

fn sync_directory_of(path: &Path) -> Result<(), AtomicFileError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(AtomicFileError::io("sync", directory))
}

#[cfg(test)]
mod tests;
