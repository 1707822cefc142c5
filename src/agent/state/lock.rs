//! The lock by which one process at a time holds the state directory, and by which a second one learns who the first is.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::{FILE_MODE, StateError};

/// The longest process id, with room to spare.
const MAX_PROCESS_ID_LENGTH: u64 = 32;

/// Takes the lock, and writes this process's id into it for whoever comes second.
pub(super) fn take(directory: &Path) -> Result<Flock<File>, StateError> {
    let path = directory.join("lock");
    let open_error = |source| StateError::Open {
        path: path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(&path)
        .map_err(open_error)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let text = format!("{}\n", std::process::id());
            lock.set_len(0)
                .and_then(|()| lock.rewind())
                .and_then(|()| lock.write_all(text.as_bytes()))
                .map_err(open_error)?;
            Ok(lock)
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let read = file.take(MAX_PROCESS_ID_LENGTH).read_to_string(&mut text);
            let holder = match (read, text.trim()) {
                (Ok(_), id) if id.parse::<u32>().is_ok() => id.to_owned(),
                _ => "unknown".to_owned(),
            };
            Err(StateError::InUse {
                path: directory.to_owned(),
                holder,
            })
        }
        Err((_, errno)) => Err(open_error(errno.into())),
    }
}
