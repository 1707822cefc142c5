//! Whose turn it is to write, where two processes write one log.
//!
//! A process that is alone keeps the lock, so that its writes cost nothing more, and lets it go once a second: for a
//! moment then, and while another was seen to write in the last seconds, it takes the lock for each write and lets it go
//! again. Whoever takes it looks whether the file has grown, or was put aside, and goes on from what the other has
//! written. An agent that starts so waits a second at most for one that drains.

use std::fs::TryLockError;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{FileError, LogFile, open_ours};
use crate::agent::audit::chain::{self, Head, MAX_LINE};
use crate::agent::audit::file::Tail;

/// Another is waited for so long: it lets the lock go within a second, unless it has stopped in the middle.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is tried meanwhile.
const PAUSE: Duration = Duration::from_millis(1);
/// How long, once a second, the lock is let go after each write, so that others can have a turn: many pauses.
const OFFER: Duration = Duration::from_millis(20);
/// The same after another was seen to write.
const SHARING: Duration = Duration::from_secs(10);
/// More often than this nobody puts the file aside while one is opening it.
const REOPENINGS: usize = 10;

/// Whether it is this process's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::agent::audit) enum Turn {
    /// Nobody else has written.
    Ours,
    /// The file has grown from this length; this is at its end now.
    After(u64, Tail),
    /// Another process writes at this moment.
    Theirs,
    /// Another file is in its place, to be opened anew.
    Elsewhere,
}

impl LogFile {
    /// Opens the file, or makes it, and waits for the lock.
    pub(super) fn locked(path: &Path) -> Result<Self, FileError> {
        let mut tries = 0;
        loop {
            let mut log = Self {
                file: Arc::new(open_ours(path)?),
                path: path.to_owned(),
                length: 0,
                begun: None,
                is_locked: false,
                shared_until: None,
            };
            log.wait_for_lock()?;
            log.length = log.length_now()?;
            tries += 1;
            match log.check_place() {
                // Another has put it aside since it was opened.
                Err(FileError::Moved(_)) if tries < REOPENINGS => {}
                Ok(()) | Err(_) => return Ok(log),
            }
        }
    }

    /// Takes the lock if it is not held; `waits` for another process, or not.
    ///
    /// # Errors
    /// When the system refuses, or the other does not let go.
    pub(in crate::agent::audit) fn take_turn(&mut self, waits: bool) -> Result<Turn, FileError> {
        if self.is_locked {
            return Ok(Turn::Ours);
        }
        if !self.try_lock()? {
            self.share();
            if !waits {
                return Ok(Turn::Theirs);
            }
            self.wait_for_lock()?;
        }
        if matches!(self.check_place(), Err(FileError::Moved(_))) {
            self.unlock();
            return Ok(Turn::Elsewhere);
        }
        let length = self.length_now()?;
        if length <= self.length {
            return Ok(Turn::Ours);
        }
        self.share();
        let from = std::mem::replace(&mut self.length, length);
        self.tail().map(|tail| Turn::After(from, tail))
    }

    /// Lets the lock go, if others are to have a turn. After each write.
    pub(in crate::agent::audit) fn end_turn(&mut self) {
        if self
            .shared_until
            .is_some_and(|until| until > Instant::now())
        {
            self.unlock();
        }
    }

    /// Lets the lock go for a moment in which others can take it. Once a second while lines are written.
    pub(in crate::agent::audit) fn offer(&mut self) {
        self.share_for(OFFER);
        self.unlock();
    }

    /// Another process writes: the lock is let go after each write for a while.
    pub(in crate::agent::audit) fn share(&mut self) {
        self.share_for(SHARING);
    }

    /// As with the file that was in its place before.
    pub(super) const fn share_like(&mut self, before: &Self) {
        self.shared_until = before.shared_until;
    }

    /// Whether the chain goes on in this file from this line, which stands before `offset` or in a file before this one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(in crate::agent::audit) fn goes_on_from(
        &self,
        head: Head,
        offset: u64,
    ) -> Result<bool, FileError> {
        let unreadable = |source| FileError::io("read", &self.path)(source);
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = (&mut lines).take(MAX_LINE as u64 + 1);
            let count = bounded.read_until(b'\n', &mut line).map_err(unreadable)?;
            if count == 0 {
                return Ok(false);
            }
            let Ok(sealed) = chain::read(line.strip_suffix(b"\n").unwrap_or(&line)) else {
                continue;
            };
            if sealed.head.sequence > head.sequence {
                // The first line after ours, or one of a file that begins later than that.
                let is_next = sealed.head.sequence == head.sequence + 1;
                return Ok(!is_next || head.is_followed_by(&sealed));
            }
        }
    }

    fn length_now(&self) -> Result<u64, FileError> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(FileError::io("look at", &self.path))?;
        Ok(metadata.len())
    }

    fn wait_for_lock(&mut self) -> Result<(), FileError> {
        let begun = Instant::now();
        while !self.try_lock()? {
            self.share();
            if begun.elapsed() >= PATIENCE {
                return Err(FileError::InUse(self.path.clone()));
            }
            // On the audit log's own thread alone: the runtime does not wait.
            thread::park_timeout(PAUSE);
        }
        Ok(())
    }

    fn try_lock(&mut self) -> Result<bool, FileError> {
        self.is_locked = match self.file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(error)) => {
                return Err(FileError::io("lock", &self.path)(error));
            }
        };
        Ok(self.is_locked)
    }

    fn unlock(&mut self) {
        if std::mem::take(&mut self.is_locked) {
            // It can fail for a file that is not open only.
            let _ = self.file.unlock();
        }
    }

    fn share_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        self.shared_until = Some(self.shared_until.map_or(until, |before| before.max(until)));
    }
}

impl Drop for LogFile {
    /// The file may stay open for a moment, while it is synced.
    fn drop(&mut self) {
        self.unlock();
    }
}
