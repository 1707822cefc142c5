//! What survives a restart: one record and one identity key per connection, in the state directory.
//!
//! ```text
//! /var/lib/relay-agent          0700, ours
//!   lock                        flock: one daemon, or one `agent accept` without a daemon, at a time
//!   machine                     the machine that the directory belongs to
//!   exported                    says that it was handed over to another one
//!   connections                 0700
//!     {connection id}.json      the record, written atomically, 0600
//!     {connection id}.key       the identity key, made before the invitation is redeemed, 0600
//!     {connection id}.next.key      the one that is to take its place, while it does
//!     {connection id}.previous.key  the one before
//! ```
//!
//! A record that cannot be read stops its own connection only; files that are not ours are left
//! alone. All functions but [`off_thread`] block on the disk; asynchronous callers go through it.

mod error;
mod keys;
mod lock;
mod place;
mod record;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use nix::fcntl::Flock;

pub use error::StateError;
pub use keys::{HeldKey, HeldKeys, RotationStep};
pub use place::Machine;
pub use record::{ConnectionRecord, RecordError, Standing};

use crate::atomic_file;
use crate::identity::key_file;
use crate::identity::{ConnectionId, SigningKey};

/// The longest record that is read: ten times what the longest names and texts amount to.
const MAX_RECORD_LENGTH: usize = 64 * 1024;
/// Records and keys are the daemon's alone.
const FILE_MODE: u32 = 0o600;

/// The state directory, held by this process alone.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    connections: PathBuf,
    /// None while a former process holds it for this one.
    lock: Mutex<Option<Flock<File>>>,
}

/// What the state directory holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The records that can be used, by name.
    pub records: Vec<ConnectionRecord>,
    /// Those that cannot, each with its reason.
    pub damaged: Vec<Damaged>,
}

/// A record that cannot be used.
#[derive(Debug)]
pub struct Damaged {
    /// Whose it is.
    pub connection: ConnectionId,
    /// Why, and what to do.
    pub error: StateError,
}

/// Does `work` on a thread that may block, so that links and calls go on meanwhile.
///
/// # Errors
/// Those of `work`; [`StateError::BrokenOff`] when it could not end.
pub async fn off_thread<T: Send + 'static>(
    state: &Arc<StateDirectory>,
    work: impl FnOnce(&StateDirectory) -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    let state = Arc::clone(state);
    tokio::task::spawn_blocking(move || work(&state))
        .await
        .map_err(|_| StateError::BrokenOff)?
}

impl StateDirectory {
    /// Opens the directory, makes it when it is missing, and takes its lock.
    ///
    /// # Errors
    /// [`StateError::Directory`], whose text names the remedy; [`StateError::InUse`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        atomic_file::create_private_directory(path).map_err(StateError::Directory)?;
        let lock = lock::take(path)?;
        let state = Self::open_beside(path)?;
        state.hold(lock);
        Ok(state)
    }

    /// Opens the directory beside another process of this agent, which holds the lock for both and changes nothing
    /// more. [`Self::lock_now`] follows when that one is gone.
    ///
    /// # Errors
    /// [`StateError::Directory`].
    pub fn open_beside(path: &Path) -> Result<Self, StateError> {
        let connections = path.join("connections");
        atomic_file::create_private_directory(&connections).map_err(StateError::Directory)?;
        Ok(Self {
            path: path.to_owned(),
            connections,
            lock: Mutex::new(None),
        })
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// [`StateError::InUse`] while another process holds it.
    pub fn lock_now(&self) -> Result<(), StateError> {
        self.hold(lock::take(&self.path)?);
        Ok(())
    }

    fn hold(&self, lock: Flock<File>) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
    }

    /// Reads all records.
    ///
    /// # Errors
    /// [`StateError::Open`] when the directory cannot be listed. Records that cannot be read are in
    /// the answer.
    pub fn load(&self) -> Result<Loaded, StateError> {
        let open_error = |source| StateError::Open {
            path: self.connections.clone(),
            source,
        };
        let mut loaded = Loaded::default();
        for entry in self.connections.read_dir().map_err(open_error)? {
            let name = entry.map_err(open_error)?.file_name();
            let Some(connection) = name
                .to_str()
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(|id| id.parse::<ConnectionId>().ok())
            else {
                continue;
            };
            match self.read(connection) {
                Ok(Some(record)) => loaded.records.push(record),
                Ok(None) => {}
                Err(error) => loaded.damaged.push(Damaged { connection, error }),
            }
        }
        loaded.records.sort_by(|one, other| {
            (&one.name, one.connection).cmp(&(&other.name, other.connection))
        });
        loaded.damaged.sort_by_key(|damaged| damaged.connection);
        Ok(loaded)
    }

    /// The record of one connection, if there is one.
    ///
    /// # Errors
    /// [`StateError::File`], [`StateError::Record`].
    pub fn read(&self, connection: ConnectionId) -> Result<Option<ConnectionRecord>, StateError> {
        let path = self.record_path(connection);
        let Some(bytes) = atomic_file::read(&path, MAX_RECORD_LENGTH).map_err(StateError::File)?
        else {
            return Ok(None);
        };
        ConnectionRecord::from_bytes(&bytes, connection)
            .map(Some)
            .map_err(|source| StateError::Record { path, source })
    }

    /// Writes a record, whole or not at all.
    ///
    /// # Errors
    /// [`StateError::File`]: the former record is then still there.
    pub fn save(&self, record: &ConnectionRecord) -> Result<(), StateError> {
        let bytes = record.to_bytes().map_err(StateError::Encode)?;
        atomic_file::write(&self.record_path(record.connection), &bytes, FILE_MODE)
            .map_err(StateError::File)
    }

    /// Removes a connection's record and then its keys, so that a key without record is all that a
    /// crash in between can leave.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn forget(&self, connection: ConnectionId) -> Result<(), StateError> {
        atomic_file::remove(&self.record_path(connection)).map_err(StateError::File)?;
        for path in self.key_paths(connection) {
            atomic_file::remove(&path).map_err(StateError::File)?;
        }
        Ok(())
    }

    /// The identity key of an accepted connection.
    ///
    /// # Errors
    /// [`StateError::Key`], [`StateError::KeyMissing`].
    pub fn key(&self, connection: ConnectionId) -> Result<SigningKey, StateError> {
        let path = self.key_path(connection);
        key_file::load(&path)
            .map_err(StateError::Key)?
            .ok_or(StateError::KeyMissing { path })
    }

    /// The identity key with which to accept a connection: the one of an earlier try, or a new one,
    /// already on disk, so that a lost answer can be asked for again with the same key.
    ///
    /// # Errors
    /// [`StateError::Key`].
    pub fn key_for_accepting(&self, connection: ConnectionId) -> Result<SigningKey, StateError> {
        key_file::load_or_create(&self.key_path(connection)).map_err(StateError::Key)
    }

    fn record_path(&self, connection: ConnectionId) -> PathBuf {
        self.connections.join(format!("{connection}.json"))
    }

    fn key_path(&self, connection: ConnectionId) -> PathBuf {
        self.connections.join(format!("{connection}.key"))
    }
}

/// A time as records hold it: seconds since 1970; zero on a machine whose clock stands before that.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub(in crate::agent) mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    pub(in crate::agent) use super::record::tests::example;

    fn open(directory: &tempfile::TempDir) -> StateDirectory {
        StateDirectory::open(&directory.path().join("state")).unwrap()
    }

    #[test]
    fn records_and_keys_come_back_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let record = example("acme_to_widgets");
        let key = {
            let state = open(&directory);
            state.save(&record).unwrap();
            state
                .key_for_accepting(record.connection)
                .unwrap()
                .public_key()
        };
        let state = open(&directory);
        let loaded = state.load().unwrap();
        assert_eq!(loaded.records, std::slice::from_ref(&record));
        assert!(loaded.damaged.is_empty());
        assert_eq!(state.key(record.connection).unwrap().public_key(), key);
        assert_eq!(
            state
                .key_for_accepting(record.connection)
                .unwrap()
                .public_key(),
            key
        );
    }

    #[test]
    fn everything_is_for_the_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let state = open(&directory);
        let record = example("acme_to_widgets");
        state.save(&record).unwrap();
        state.key_for_accepting(record.connection).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.path().join("state")), 0o700);
        assert_eq!(mode(&state.connections), 0o700);
        assert_eq!(mode(&state.record_path(record.connection)), 0o600);
        assert_eq!(mode(&state.key_path(record.connection)), 0o600);
    }

    #[test]
    fn a_directory_open_to_others_is_refused_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = StateDirectory::open(&path).unwrap_err();
        let text = crate::error_chain::chain(&error).to_string();
        assert!(text.contains("chmod 0700"), "{text}");
    }

    #[test]
    fn a_second_holder_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let _first = open(&directory);
        let error = StateDirectory::open(&directory.path().join("state")).unwrap_err();
        let StateError::InUse { holder, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!(holder, std::process::id().to_string());
    }

    #[test]
    fn a_record_that_cannot_be_read_stops_its_own_connection_only() {
        let directory = tempfile::tempdir().unwrap();
        let state = open(&directory);
        let (good, bad) = (example("good"), example("bad"));
        state.save(&good).unwrap();
        state.save(&bad).unwrap();
        fs::write(state.record_path(bad.connection), "{").unwrap();
        let loaded = state.load().unwrap();
        assert_eq!(loaded.records, [good]);
        assert_eq!(loaded.damaged.len(), 1);
        assert_eq!(loaded.damaged[0].connection, bad.connection);
    }

    #[test]
    fn files_that_are_not_ours_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let state = open(&directory);
        let stranger = state.connections.join("notes.json");
        fs::write(&stranger, "remember the milk").unwrap();
        let loaded = state.load().unwrap();
        assert!(loaded.records.is_empty() && loaded.damaged.is_empty());
        assert_eq!(fs::read_to_string(stranger).unwrap(), "remember the milk");
    }

    #[test]
    fn a_forgotten_connection_leaves_neither_record_nor_key() {
        let directory = tempfile::tempdir().unwrap();
        let state = open(&directory);
        let record = example("acme_to_widgets");
        state.save(&record).unwrap();
        state.key_for_accepting(record.connection).unwrap();
        state.forget(record.connection).unwrap();
        assert_eq!(state.connections.read_dir().unwrap().count(), 0);
        assert!(matches!(
            state.key(record.connection),
            Err(StateError::KeyMissing { .. })
        ));
    }
}
