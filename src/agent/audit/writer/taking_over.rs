//! How the chain goes on: from what is in the file when it is opened, and from what another process has written.

use std::time::{Instant, SystemTime};

use tracing::warn;

use super::super::chain::Head;
use super::super::desk::{Desk, Hand};
use super::super::file::{FileError, LogFile, Tail, Turn};
use super::super::remark::Remark;
use super::{Progress, Standstill, Writer};

impl Writer {
    /// Opens the file and sees how far the chain has come in it.
    pub(super) fn open(&mut self, desk: &Desk) {
        match self.opened() {
            Ok((log, _)) => {
                self.log = Some(log);
                if let Some(Standstill { told, .. }) = &self.trouble {
                    let told = told.clone();
                    let refused = desk.health().refused - self.refused_before();
                    self.remarks.push(Remark::Resumed(told, refused));
                }
            }
            Err(error) => self.fail(desk, &error),
        }
    }

    /// The file, opened and taken over, and what the chain was found to have come to in it.
    fn opened(&mut self) -> Result<(LogFile, Head), FileError> {
        let (mut log, tail) = LogFile::open(&self.config.file)?;
        let tail = match self.remains_after {
            Some(length) => log.withdraw(length, &self.buffer)?,
            None => tail,
        };
        self.remains_after = None;
        let found = self.take_over(&mut log, tail, 0)?;
        let begun = log
            .begun()
            .and_then(|time| humantime::parse_rfc3339(time).ok());
        self.begun = begun.unwrap_or_else(SystemTime::now);
        self.last_look = Instant::now();
        Ok((log, found))
    }

    /// Goes on from what is at the end of the file; `offset` is where this process has left it. Tells what was found.
    pub(super) fn take_over(
        &mut self,
        log: &mut LogFile,
        tail: Tail,
        offset: u64,
    ) -> Result<Head, FileError> {
        let found = match tail {
            Tail::Empty | Tail::Foreign => Head::BEGINNING,
            Tail::Whole(head) => head,
            Tail::Torn(torn) => torn.head,
        };
        let ours = self.head.unwrap_or(found);
        if found.sequence > ours.sequence && !log.goes_on_from(ours, offset)? {
            return Err(FileError::Ahead {
                path: self.config.file.clone(),
                last: ours.sequence,
                found: found.sequence,
            });
        }
        if let Tail::Torn(torn) = tail {
            if !torn.is_terminated {
                log.append(b"\n")?;
            }
            warn!(
                bytes = torn.bytes,
                line = found.sequence,
                "the audit log ends with something that is not whole; it stays, and the next line tells of it"
            );
            self.remarks.insert(0, Remark::Torn(torn));
        }
        // What this process has written is what its chain goes on from, whatever became of it: if it is not there any
        // more, verifying finds the gap.
        self.head = match found.sequence > ours.sequence {
            true => Some(found),
            false => Some(ours),
        };
        Ok(found)
    }

    /// Makes it this process's turn to write, and goes on from what another has written.
    pub(super) fn take_turn(&mut self, hand: Hand) -> Result<Progress, FileError> {
        let Some(mut log) = self.log.take() else {
            return Ok(Progress::Done);
        };
        let turn = log.take_turn(hand == Hand::Thread);
        match (turn?, hand) {
            (Turn::Ours, _) => {}
            (Turn::After(offset, tail), _) => {
                self.take_over(&mut log, tail, offset)?;
            }
            (Turn::Theirs, _) | (Turn::Elsewhere, Hand::Runtime) => {
                self.log = Some(log);
                return Ok(Progress::Left);
            }
            (Turn::Elsewhere, Hand::Thread) => {
                drop(log);
                let (mut other, found) = self.opened()?;
                if self.head.is_some_and(|ours| found.sequence < ours.sequence) {
                    return Err(FileError::Moved(self.config.file.clone()));
                }
                // Another process has put it aside.
                other.share();
                log = other;
            }
        }
        self.log = Some(log);
        Ok(Progress::Done)
    }
}
