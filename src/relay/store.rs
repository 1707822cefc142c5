//! What the relay must not forget: connections, invitations and tokens, in one SQLite file.
//!
//! # Format
//!
//! `relay.db` in the state directory, mode 0600, with SQLite's `-wal` and `-shm` files beside it.
//! The tables are in `store/migrations/*.sql`; `user_version` is the number of the newest step.
//! `relay.lock` beside it is held while a relay runs, so that two share a database only when both are
//! configured for one to take over from the other.
//!
//! # Invariants
//!
//! 1. Nothing secret is in the file: of a token its SHA-256, of an invitation the public half of its
//!    one-time key. Whoever reads a backup can neither call nor redeem.
//! 2. At most one invitation of a connection is open or redeemed (a unique index says so), and
//!    redeeming is one transaction: of several agents that redeem at once, one wins.
//! 3. A change is on the disk (`synchronous = FULL`) before it is answered.
//! 4. A connection removed here stays as a tombstone, so that a late agent hears "removed" and not
//!    "unknown". The newest [`TOMBSTONES_KEPT`] are kept.
//! 5. Only this module and its children write SQL.
//!
//! # Repair
//!
//! Stop the relay, then `sqlite3 relay.db 'PRAGMA integrity_check'`. A backup is a copy taken with
//! `sqlite3 relay.db ".backup FILE"`, also while the relay runs. An older program refuses a newer file.
//!
//! One thread owns the database; the rest of the program sends it closures and awaits the reply, so
//! that nothing else ever waits for the disk. Never called on the path of a call.

mod agent_keys;
mod connections;
mod invitations;
mod migrations;
mod tokens;
mod trouble;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

pub use self::agent_keys::{FormerKey, KeyEnd, Rotation};
pub use self::connections::Insertion;
pub use self::invitations::{Redeemer, Redemption, Reissue, Revocation};
pub use self::trouble::WriteTrouble;

use self::trouble::Troubles;

/// Removed connections that are remembered; the oldest go first. About 300 bytes each.
pub const TOMBSTONES_KEPT: usize = 10_000;
/// Jobs that may wait for the thread. Each is one request of an admin or an agent; more than this
/// waiting means a disk that stands still, and then callers wait in turn.
const QUEUE: usize = 64;
/// How long SQLite waits for another process, such as a backup, to let go.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The database, from any task. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    troubles: Troubles,
}

enum Job {
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
    Close(oneshot::Sender<()>),
}

/// Why the database could not be opened, read or written. Always the relay's own trouble, never the
/// asker's.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file could not be made or opened.
    #[error("could not open the database {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another relay holds the lock.
    #[error("another relay holds {}; stop it first, or give this one its own state_dir", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A later program has migrated the database.
    #[error(
        "the database has version {found} and this program knows versions up to {known}; \
         run the newer relay again, or restore the backup made before the upgrade"
    )]
    Newer {
        /// The file's version.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// SQLite refused.
    #[error("the database could not {doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: rusqlite::Error,
    },
    /// The thread has ended: the relay is stopping, or a job brought it down.
    #[error("the database has been closed")]
    Closed,
}

/// Who else may have the database open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody.
    Alone,
    /// Another relay that allows it too, while one takes over from the other.
    WithSuccessor,
}

impl Store {
    /// Opens the database for this process alone.
    ///
    /// # Errors
    /// As [`Store::open_for`].
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        Self::open_for(state_dir, Sharing::Alone)
    }

    /// Opens `relay.db` in the state directory, makes it when there is none, and migrates it.
    /// Blocks: call it before serving.
    ///
    /// # Errors
    /// [`StoreError::InUse`] and [`StoreError::Newer`] carry their remedy; the rest is the disk's.
    pub fn open_for(state_dir: &Path, sharing: Sharing) -> Result<Self, StoreError> {
        let lock = lock(&state_dir.join("relay.lock"), sharing)?;
        let path = state_dir.join("relay.db");
        private_file(&path).map_err(|source| StoreError::Open {
            path: path.clone(),
            source,
        })?;
        let mut database =
            Connection::open(&path).map_err(|source| StoreError::sqlite("be opened", source))?;
        prepare(&mut database)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        thread::Builder::new()
            .name("store".into())
            .spawn(move || {
                let closing = work(&mut queue, &mut database);
                // SQLite writes its log back into the file and removes it.
                drop(database);
                drop(lock);
                drop(closing);
            })
            .map_err(|source| StoreError::Open { path, source })?;
        Ok(Self {
            jobs,
            troubles: Troubles::default(),
        })
    }

    /// Whether the thread still answers.
    pub async fn is_healthy(&self) -> bool {
        self.run("answer", |_| Ok(())).await.is_ok()
    }

    /// Why the last change did not reach the disk, while none has since.
    #[must_use]
    pub fn trouble(&self) -> Option<WriteTrouble> {
        self.troubles.now()
    }

    /// A number that changes whenever another process has changed the database.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn foreign_changes(&self) -> Result<i64, StoreError> {
        self.run("look for changes", |transaction| {
            transaction.pragma_query_value(None, "data_version", |row| row.get(0))
        })
        .await
    }

    /// Ends the thread after what is queued, and lets go of the files. From then on every use is
    /// [`StoreError::Closed`].
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).await.is_ok() {
            // Completes, as an error, when the thread drops its end: after the lock.
            let _ = closed.await;
        }
    }

    /// Runs one job in one transaction, which is on the disk when this returns `Ok`. Dropping the
    /// future does not undo a job that has been queued.
    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let troubles = self.troubles.clone();
        let job = Box::new(move |database: &mut Connection| {
            let before = database.total_changes();
            let result = database
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .and_then(|transaction| {
                    let value = work(&transaction)?;
                    transaction.commit()?;
                    Ok(value)
                });
            match &result {
                Err(error) => troubles.failed(error),
                Ok(_) if database.total_changes() > before => troubles.written(),
                Ok(_) => {}
            }
            // The asker may have gone; the job is done all the same.
            let _ = reply.send(result.map_err(|source| StoreError::sqlite(doing, source)));
        });
        self.jobs
            .send(Job::Run(job))
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl StoreError {
    const fn sqlite(doing: &'static str, source: rusqlite::Error) -> Self {
        Self::Sqlite { doing, source }
    }
}

/// Runs jobs until nobody can send any more, or one asks to close.
fn work(queue: &mut mpsc::Receiver<Job>, database: &mut Connection) -> Option<oneshot::Sender<()>> {
    loop {
        match queue.blocking_recv()? {
            Job::Run(work) => work(database),
            Job::Close(done) => return Some(done),
        }
    }
}

fn lock(path: &Path, sharing: Sharing) -> Result<Flock<std::fs::File>, StoreError> {
    let file = private_file(path).map_err(|source| StoreError::Open {
        path: path.to_owned(),
        source,
    })?;
    let how = match sharing {
        Sharing::Alone => FlockArg::LockExclusiveNonblock,
        Sharing::WithSuccessor => FlockArg::LockSharedNonblock,
    };
    Flock::lock(file, how).map_err(|(_, _)| StoreError::InUse {
        path: path.to_owned(),
    })
}

/// Makes the file 0600 before SQLite sees it; the files that SQLite puts beside it take its mode.
fn private_file(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

fn prepare(database: &mut Connection) -> Result<(), StoreError> {
    let failed = |source| StoreError::sqlite("be prepared", source);
    database.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    database
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(failed)?;
    database
        .pragma_update(None, "synchronous", "FULL")
        .map_err(failed)?;
    // What is deleted is overwritten: descriptions and names of removed connections do not linger.
    database
        .pragma_update(None, "secure_delete", true)
        .map_err(failed)?;
    migrations::migrate(database)?;
    // Off while migrating, as SQLite advises for steps that rebuild a table.
    database
        .pragma_update(None, "foreign_keys", true)
        .map_err(failed)
}

/// SQLite's integers are signed; times beyond them do not occur, and are clamped.
fn stored(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// The reverse of [`stored`]; a negative time was not written by this program and counts as 1970.
fn loaded(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0)
}

/// A text column that must parse; what does not was edited by hand, and the row is refused.
fn parsed<T>(row: &rusqlite::Row<'_>, column: &'static str) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::identity::PublicKey;
    use crate::relay::record::tests::pending;

    #[tokio::test]
    async fn the_files_are_for_the_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert!(store.is_healthy().await);
        let mut seen = 0;
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            seen += 1;
        }
        assert!(seen >= 2);
    }

    #[tokio::test]
    async fn a_change_that_does_not_reach_the_disk_is_remembered_until_one_does() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        // As full as a disk can be.
        let bound = |pages: u32| {
            store.run("be bounded", move |transaction| {
                transaction.pragma_update(None, "max_page_count", pages)
            })
        };
        let fill = || {
            store.run("be filled", |transaction| {
                transaction.execute_batch(
                    "CREATE TABLE IF NOT EXISTS filler (bytes BLOB); INSERT INTO filler VALUES (zeroblob(1000000));",
                )
            })
        };
        bound(1).await.unwrap();
        assert_eq!(store.trouble(), None);
        fill().await.unwrap_err();
        let trouble = store.trouble().unwrap();
        assert!(trouble.why.contains("full"), "{trouble:?}");
        // Whoever only reads does not know better, and a mistake of the asker is no trouble of the disk.
        assert!(store.is_healthy().await);
        store
            .run("err", |it| {
                it.execute_batch("INSERT INTO nothing VALUES (1)")
            })
            .await
            .unwrap_err();
        fill().await.unwrap_err();
        assert_eq!(store.trouble().unwrap().since, trouble.since);
        bound(1_000_000).await.unwrap();
        fill().await.unwrap();
        assert_eq!(store.trouble(), None);
    }

    #[tokio::test]
    async fn a_second_relay_on_the_same_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Store::open(directory.path()).unwrap();
        for sharing in [Sharing::Alone, Sharing::WithSuccessor] {
            let second = Store::open_for(directory.path(), sharing);
            assert!(matches!(second, Err(StoreError::InUse { .. })));
        }
    }

    #[tokio::test]
    async fn relays_that_both_allow_it_share_the_database_and_see_what_the_other_stores() {
        let directory = tempfile::tempdir().unwrap();
        let first = Store::open_for(directory.path(), Sharing::WithSuccessor).unwrap();
        let second = Store::open_for(directory.path(), Sharing::WithSuccessor).unwrap();
        let key = PublicKey::from_bytes([1; 32]);
        let inserted = first.insert_connection(pending("a"), key, 5_000).await;
        assert!(matches!(inserted, Ok(Insertion::Done(_))));
        assert_eq!(second.connections().await.unwrap().len(), 1);
        let alone = Store::open(directory.path());
        assert!(matches!(alone, Err(StoreError::InUse { .. })));
    }

    #[test]
    fn a_database_of_a_newer_program_names_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.db");
        let database = Connection::open(&path).unwrap();
        database.pragma_update(None, "user_version", 99).unwrap();
        drop(database);
        let error = Store::open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("run the newer relay again"));
    }

    #[tokio::test]
    async fn a_closed_store_lets_go_of_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.close().await;
        assert!(!store.is_healthy().await);
        assert!(!directory.path().join("relay.db-wal").exists());
        Store::open(directory.path()).unwrap();
    }

    #[tokio::test]
    async fn a_job_that_fails_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let failed = store
            .run("fail", |transaction| {
                transaction.execute(
                    "INSERT INTO token (id, hash, label, scope, created_at)
                     VALUES ('x', randomblob(32), 'x', 'all', 1)",
                    [],
                )?;
                Err::<(), _>(rusqlite::Error::QueryReturnedNoRows)
            })
            .await;
        assert!(matches!(
            failed,
            Err(StoreError::Sqlite { doing: "fail", .. })
        ));
        assert!(store.tokens().await.unwrap().is_empty());
    }
}
