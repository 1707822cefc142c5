//! Syncs the file on a thread of its own, since a disk may take longer for it than callers should wait.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::writer::STACK_BYTES;

/// Syncs one file after another; one more may wait.
#[derive(Debug)]
pub(super) struct Syncer {
    files: SyncSender<Arc<File>>,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl Syncer {
    /// With its thread.
    ///
    /// # Errors
    /// When there can be none.
    pub(super) fn spawn() -> io::Result<Self> {
        let (files, received): (_, Receiver<Arc<File>>) = sync_channel(1);
        let failure = Arc::new(Mutex::new(None));
        let told = Arc::clone(&failure);
        let thread = thread::Builder::new().name("audit-sync".to_owned());
        thread.stack_size(STACK_BYTES).spawn(move || {
            for file in received {
                if let Err(error) = file.sync_data() {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            }
        })?;
        Ok(Self { files, failure })
    }

    /// Syncs this file soon. Not where two syncs are under way already: tells whether it will.
    pub(super) fn sync(&self, file: Arc<File>) -> bool {
        self.files.try_send(file).is_ok()
    }

    /// Why the last sync failed, once.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}
