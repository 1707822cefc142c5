//! What each write passes just before the file: it can be slow there, hang, or fail.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::agent::audit::file::{FileError, LogFile};

/// What each write passes just before the file, and who came through.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Gate(Arc<(Mutex<Passage>, Condvar)>);

#[derive(Debug, Default)]
struct Passage {
    way: Way,
    fails: Fails,
    passed: Vec<By>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Way {
    #[default]
    Open,
    Slow(Duration),
    Closed,
}

/// What the disk fails to do.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Fails {
    #[default]
    Nothing,
    /// Then what was written is cut away again.
    Sync,
    /// That neither.
    SyncAndCut,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum By {
    Runtime,
    Thread,
}

impl Gate {
    pub(in super::super) fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.passed.push(match std::thread::current().name() {
            Some("audit") => By::Thread,
            _ => By::Runtime,
        });
        if let Way::Slow(time) = state.way {
            std::thread::sleep(time);
        }
        drop(
            changed
                .wait_while(state, |state| state.way == Way::Closed)
                .unwrap(),
        );
    }

    pub(super) fn set(&self, way: Way) {
        self.0.0.lock().unwrap().way = way;
        self.0.1.notify_all();
    }

    pub(in super::super) fn sync(&self) -> Result<(), FileError> {
        match self.0.0.lock().unwrap().fails {
            Fails::Nothing => Ok(()),
            Fails::Sync | Fails::SyncAndCut => Err(FileError::Full("/a".into())),
        }
    }

    pub(in super::super) fn cut(&self, log: &mut LogFile, lines: &[u8]) -> Result<(), FileError> {
        if self.0.0.lock().unwrap().fails != Fails::SyncAndCut {
            return Ok(());
        }
        log.append(lines).unwrap();
        self.sync()
    }

    pub(super) fn fail(&self, fails: Fails) {
        self.0.0.lock().unwrap().fails = fails;
    }

    pub(super) fn passed(&self) -> Vec<By> {
        self.0.0.lock().unwrap().passed.clone()
    }
}
