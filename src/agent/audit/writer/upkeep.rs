//! What keeps the file in order: it is in its place and has room, is put aside in time, and comes onto the disk.

use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::super::desk::{Desk, Hand};
use super::super::file::FileError;
use super::super::remark::Remark;
use super::super::syncer::Syncer;
use super::{Progress, SYNC_INTERVAL, Writer};
use crate::error_chain::chain;

/// How often, while lines are written, it is looked whether the file is in its place and has room.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Writer {
    /// Now and then, whether what is written arrives where it should.
    pub(super) fn look(&mut self) -> Result<(), FileError> {
        if let Some(log) = &self.log
            && self.last_look.elapsed() >= LOOK_INTERVAL
        {
            self.last_look = Instant::now();
            log.check_place()?;
        }
        Ok(())
    }

    pub(super) fn rotate_if_due(&mut self, hand: Hand) -> Result<Progress, FileError> {
        let Some(log) = &self.log else {
            return Ok(Progress::Done);
        };
        // A clock that steps back makes a file younger, and one that steps forward older, no more.
        let age = self.begun.elapsed().unwrap_or_default();
        let is_due = log.length() >= self.config.max_size || age >= self.config.max_age;
        if log.length() == 0 {
            self.begun = SystemTime::now();
        }
        let (true, Some(head)) = (is_due && log.length() > 0, self.head) else {
            return Ok(Progress::Done);
        };
        if hand == Hand::Runtime {
            return Ok(Progress::Left);
        }
        let Some(log) = self.log.take() else {
            return Ok(Progress::Done);
        };
        let (mut log, doomed) = log.rotate(head, self.config.keep)?;
        if log.length() > 0 {
            // Another process came first.
            let tail = log.tail()?;
            self.take_over(&mut log, tail, 0)?;
        }
        self.log = Some(log);
        self.begun = SystemTime::now();
        if let Some(doomed) = doomed {
            let is_other = |remark: &Remark| !matches!(remark, Remark::Pruned { .. });
            self.remarks.retain(is_other);
            self.remarks.push(Remark::Pruned {
                through: doomed.through,
                files: doomed.files.len() as u64,
            });
            self.doomed = Some(doomed);
        }
        info!(line = head.sequence, hash = %head.hash, "the audit log was rotated");
        Ok(Progress::Done)
    }

    pub(super) fn sync_if_due(&mut self, desk: &Desk) -> Result<(), FileError> {
        if self.log.is_none() {
            return Ok(());
        }
        if let Some(failure) = self.syncer.as_ref().and_then(Syncer::failure) {
            let path = self.config.file.clone();
            return Err(FileError::Io {
                action: "sync",
                path,
                source: failure,
            });
        }
        if self.sync_due.is_none_or(|due| due > Instant::now()) {
            return Ok(());
        }
        if let Some(log) = &mut self.log {
            log.offer();
        }
        let Some(log) = &self.log else { return Ok(()) };
        let syncer = match self.syncer.take().map_or_else(Syncer::spawn, Ok) {
            Ok(syncer) => self.syncer.insert(syncer),
            // Without a thread, here.
            Err(_) => {
                self.sync_due = None;
                return log.sync();
            }
        };
        self.sync_due = match syncer.sync(log.handle()) {
            true => None,
            // The disk is at it still: writes may wait behind that, and the runtime should not.
            false => {
                desk.mistrust();
                Some(Instant::now() + SYNC_INTERVAL)
            }
        };
        Ok(())
    }

    /// Removes the files of which a line says now that they are.
    pub(super) fn remove_doomed(&mut self) -> Result<(), FileError> {
        let (Some(log), Some(doomed)) = (&self.log, self.doomed.take()) else {
            return Ok(());
        };
        // First on the disk, for a power cut may keep the removal and lose the line.
        log.sync()?;
        if let Err(error) = doomed.remove() {
            warn!(error = %chain(&error), "an old file of the audit log stays until the next rotation");
        }
        Ok(())
    }
}
