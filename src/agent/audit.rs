//! The audit log: one line for each call, allowed or not, before its answer is whole.
//!
//! Apart from the debug log, for the security officer of the private side. `docs/audit.md` has the format
//! and what it withstands. Never a body, never a secret. What cannot be written down is not done: while
//! the log cannot be written, no call is begun.
//!
//! ```text
//!  call's task: Account ──notes──► Desk ──batches──► Writer, the pen ──► LogFile, then further targets
//!       ▲  the end of the answer waits                 │  held by the runtime at the end of a turn,
//!       └────────────────── written ◄──────────────────┘  or by a thread of its own: see `desk`
//! ```

mod account;
mod body;
mod chain;
mod desk;
mod entry;
mod file;
mod health;
mod line;
mod remark;
mod stopwatch;
mod syncer;
mod target;
mod verify;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use http::Request;
use tokio::task::AbortHandle;

pub use account::{Account, Marker};
pub use body::Received;
pub use chain::{Flaw, Hash, Head, NotAHash};
pub use desk::Unavailable;
pub use entry::{End, Named};
pub use file::files_of;
pub use health::{Health, Trouble};
pub use line::{Candidate, Decision, Finish, Outcome};
pub use verify::{Finding, Verified, Verifier};

use self::desk::{Desk, Patience};
use self::entry::Asked;
use self::writer::Writer;
use crate::agent::config::AuditConfig;

/// How long the start waits for the file: opening one takes milliseconds, and a disk that does not answer must not keep
/// the agent from saying so.
const OPENING: Duration = Duration::from_secs(2);

/// The audit log of this process, or that there is none.
#[derive(Debug, Default)]
pub struct Audit {
    desk: Option<Arc<Desk>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// The tasks that write at the end of a turn, wake calls, and watch the thread.
    carriers: Vec<AbortHandle>,
}

impl Audit {
    /// No log.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// Begins to write as configured. Whether that works shows in [`health`](Self::health): where it does
    /// not, it is tried again and again, and no call is taken meanwhile. Must be called within a runtime; waits for the
    /// first try.
    #[must_use]
    pub fn start(config: &AuditConfig) -> Self {
        if !config.enabled {
            return Self::off();
        }
        Self::start_with(Writer::new(config.clone()), Patience::USUAL)
    }

    fn start_with(writer: Writer, patience: Patience) -> Self {
        let desk = Arc::new(Desk::new(patience));
        let writer = writer.spawn(Arc::clone(&desk));
        if let Err(error) = &writer {
            tracing::error!(%error, "there is no thread for the audit log: no call is taken");
            let trouble = Trouble {
                since: SystemTime::now(),
                why: format!("there is no thread to write it: {error}; restart the agent"),
            };
            desk.unwell(trouble, 0);
        }
        desk.wait_until_opened(OPENING);
        let carriers = [
            tokio::spawn(Arc::clone(&desk).write_turns()).abort_handle(),
            tokio::spawn(Arc::clone(&desk).carry_to_calls()).abort_handle(),
            tokio::spawn(Arc::clone(&desk).watch_thread()).abort_handle(),
        ];
        Self {
            desk: Some(desk),
            writer: Mutex::new(writer.ok()),
            carriers: carriers.into(),
        }
    }

    /// Opens the account of a call.
    ///
    /// # Errors
    /// When it could not be written down, and must not be made.
    pub fn open<B>(
        &self,
        request: &Request<B>,
        connection: &Arc<str>,
    ) -> Result<Account, Unavailable> {
        let asked = Asked::of(request, Arc::clone(connection));
        Account::open(asked, self.desk.as_ref())
    }

    /// How the log fares; nothing where there is none.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        self.desk.as_ref().map(|desk| desk.health())
    }

    /// Writes what was handed in and a last line, and ends. Blocks.
    pub fn stop(&self) {
        let Some(desk) = &self.desk else { return };
        desk.stop();
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            // It has no way to panic, and nobody is left to be told.
            let _ = writer.join();
            desk.wake_calls();
        }
    }
}

impl Drop for Audit {
    /// Where nobody has stopped it: so that the file is free for the next.
    fn drop(&mut self) {
        self.stop();
        for carrier in &self.carriers {
            carrier.abort();
        }
    }
}

#[cfg(test)]
mod tests;
