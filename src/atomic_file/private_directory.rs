//! The check that a directory is fit for secrets, before anything is put there.
//!
//! Never changes an existing directory: whoever owns it decides, with the command that the error names.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::PERMISSION_BITS;

/// The mode that a private directory must have.
const PRIVATE: u32 = 0o700;
/// The bits that are compared with it: set-group-id and sticky make no difference.
const ACCESS_BITS: u32 = 0o777;

/// Why a directory is not fit for secrets. Each text names the command that mends it.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is none.
    #[error("{path:?} does not exist; run: install -d -m 0700 -o {own} {path:?}")]
    Missing {
        /// The directory in question.
        path: PathBuf,
        /// The user id of this process.
        own: u32,
    },
    /// Something else is there, or a symbolic link of another user leads to it.
    #[error(
        "{path:?} is not a directory, or a link that another user made; move it away, then run: install -d -m 0700 -o {own} {path:?}"
    )]
    NotADirectory {
        /// The directory in question.
        path: PathBuf,
        /// The user id of this process.
        own: u32,
    },
    /// It is somebody else's.
    #[error(
        "{path:?} belongs to user {owner}, and this program runs as user {own}; {}", remedy(path, *owner, *own)
    )]
    NotOurs {
        /// The directory in question.
        path: PathBuf,
        /// The user id that owns it.
        owner: u32,
        /// The user id of this process.
        own: u32,
    },
    /// Others may enter, or the owner may not.
    #[error("{path:?} has mode {mode:04o}, it must be 0700; run: chmod 0700 {path:?}")]
    Mode {
        /// The directory in question.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The operating system did not let us look, or make it.
    #[error("could not {action} {path:?}")]
    Io {
        /// The step, as a verb.
        action: &'static str,
        /// The directory in question.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Root can become the owner; handing a daemon's directory to root would only lock the daemon out.
fn remedy(path: &Path, owner: u32, own: u32) -> String {
    if own == 0 {
        return format!("run it as the owner: runuser -u \"$(id -nu {owner})\" -- COMMAND");
    }
    format!("run it as the owner, or run: chown -R {own} {path:?}")
}

/// Makes a directory with mode 0700 where nothing is yet and its parent is ours to write, then checks as
/// [`check_private_directory`] does.
///
/// # Errors
/// As [`check_private_directory`]; [`DirectoryError::Missing`] when it could not be made there.
pub fn create_private_directory(path: &Path) -> Result<(), DirectoryError> {
    match DirBuilder::new().mode(PRIVATE).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // Its parent is missing, or not ours to write: whoever may has to make it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
            ) => {}
        Err(source) => {
            return Err(DirectoryError::Io {
                action: "create",
                path: path.to_owned(),
                source,
            });
        }
    }
    check_private_directory(path)
}

/// Checks that a directory is fit for secrets: it exists, is ours, and has mode 0700.
///
/// A symbolic link to it is followed when root or we made it, as systemd does for the state directory
/// of a service with a dynamic user.
///
/// # Errors
/// [`DirectoryError`], whose text names the remedy.
pub fn check_private_directory(path: &Path) -> Result<(), DirectoryError> {
    let own = geteuid().as_raw();
    let unseen = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            return DirectoryError::Missing { path, own };
        }
        DirectoryError::Io {
            action: "look at",
            path,
            source,
        }
    };
    let link = fs::symlink_metadata(path).map_err(unseen)?;
    let foreign_link = link.is_symlink() && link.uid() != own && link.uid() != 0;
    let directory = fs::metadata(path).map_err(unseen)?;
    if foreign_link || !directory.is_dir() {
        return Err(DirectoryError::NotADirectory {
            path: path.to_owned(),
            own,
        });
    }
    if directory.uid() != own {
        return Err(DirectoryError::NotOurs {
            path: path.to_owned(),
            owner: directory.uid(),
            own,
        });
    }
    if directory.mode() & ACCESS_BITS != PRIVATE {
        return Err(DirectoryError::Mode {
            path: path.to_owned(),
            mode: directory.mode() & PERMISSION_BITS,
        });
    }
    Ok(())
}
