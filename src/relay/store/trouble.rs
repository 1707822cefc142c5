//! Whether changes reach the disk, for those who look after the relay.
//!
//! Noted where transactions end; looks at nothing by itself, so that an idle relay writes nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rusqlite::{Error, ErrorCode};

/// That the last change did not reach the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteTrouble {
    /// Since when none has.
    pub since: SystemTime,
    /// Why.
    pub why: String,
}

/// What is known of it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Troubles(Arc<Mutex<Option<WriteTrouble>>>);

impl Troubles {
    /// A transaction failed. What the disk has nothing to do with says nothing of it.
    pub(super) fn failed(&self, error: &Error) {
        if is_of_the_disk(error) {
            let since = self
                .held()
                .take()
                .map_or_else(SystemTime::now, |it| it.since);
            let why = error.to_string();
            *self.held() = Some(WriteTrouble { since, why });
        }
    }

    /// A transaction that changed something is on the disk.
    pub(super) fn written(&self) {
        *self.held() = None;
    }

    pub(super) fn now(&self) -> Option<WriteTrouble> {
        self.held().clone()
    }

    fn held(&self) -> MutexGuard<'_, Option<WriteTrouble>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of_the_disk(error: &Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
        )
    )
}
