//! Why the state directory, or something in it, cannot be used.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::record::RecordError;
use crate::atomic_file::{AtomicFileError, DirectoryError};
use crate::identity::key_file::KeyFileError;

/// The last second that RFC 3339 has words for.
const LAST_SECOND: u64 = 253_402_300_799;

/// Why the state directory, or something in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Not there, not ours, or open to others.
    #[error("the state directory cannot be used")]
    Directory(#[source] DirectoryError),
    /// Another daemon, or another `agent accept`, holds it.
    #[error("the state directory {path:?} is in use by process {holder}")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process id that the holder wrote down; `unknown` before it has.
        holder: String,
    },
    /// The lock file or the directory could not be opened or listed.
    #[error("could not open {path:?}")]
    Open {
        /// What was to be opened.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file could not be read or written.
    #[error("the state could not be read or written")]
    File(#[source] AtomicFileError),
    /// A record is damaged, or newer than this program.
    #[error("the record {path:?} cannot be used")]
    Record {
        /// The record's file.
        path: PathBuf,
        /// Why, and what to do.
        source: RecordError,
    },
    /// A record could not be put into its text form.
    #[error("a record could not be encoded")]
    Encode(#[source] serde_json::Error),
    /// The identity key could not be read or made.
    #[error("the identity key of the connection cannot be used")]
    Key(#[source] KeyFileError),
    /// There is a record, and its key is gone.
    #[error(
        "the identity key {path:?} is missing; restore it from a backup, or remove the connection and accept a new invitation"
    )]
    KeyMissing {
        /// Where the key should be.
        path: PathBuf,
    },
    /// It was handed over to another machine.
    #[error(
        "the connections were handed over to another machine by agent export at {}",
        humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs((*at).min(LAST_SECOND)))
    )]
    Exported {
        /// When, in Unix seconds.
        at: u64,
    },
    /// It was used on another machine last.
    #[error("the state directory is that of another machine")]
    OtherMachine,
    /// What says where the state belongs is damaged.
    #[error("{path:?} is damaged; delete it, if this machine is the one that the state belongs to")]
    Place {
        /// The file.
        path: PathBuf,
    },
    /// The thread that worked on the disk did not finish.
    #[error("the work on the state directory was broken off")]
    BrokenOff,
}
