//! The pen: takes all lines that wait, writes them with one call, then answers for all.
//!
//! Nothing is answered for before it is in the file. What cannot be written is kept and tried again, and
//! meanwhile no call is begun. The runtime, when it holds the pen, does nothing but write and look; all that may take
//! its time it leaves to the thread.

mod taking_over;
mod upkeep;

use std::fmt::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tracing::{error, info};

use super::chain::Head;
use super::desk::{Batch, Desk, Hand, Hang, Note, Work};
use super::entry::Which;
use super::file::{Doomed, FileError, LogFile};
use super::health::Trouble;
use super::remark::{Remark, milliseconds};
use super::stopwatch::Stopwatch;
use super::syncer::Syncer;
use super::target::Targets;
use crate::agent::config::{AuditConfig, Sync};
use crate::error_chain::chain;

/// Lines that are written at once: some 100 KiB, so that the first of a crowd does not wait for the last.
const BATCH: usize = 256;
/// What was written is on the disk so soon after, with `sync = "second"`.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// The first try after a failure, and the longest time between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The thread that writes and the one that syncs need little: neither recurses.
pub(super) const STACK_BYTES: usize = 256 * 1024;

/// The pen, with what it knows of the file.
#[derive(Debug)]
pub(super) struct Writer {
    config: AuditConfig,
    log: Option<LogFile>,
    /// How far the chain has come in the file; nothing before the first opening.
    head: Option<Head>,
    /// What is to be told before any call: lines of the log about itself.
    remarks: Vec<Remark>,
    /// Files to be removed once a line says so.
    doomed: Option<Doomed>,
    backlog: Vec<Note>,
    buffer: Vec<u8>,
    /// How long the file was before what is in the buffer, which could be neither written nor cut away again.
    remains_after: Option<u64>,
    time: String,
    /// When the file that is written to was begun, by the wall clock.
    begun: SystemTime,
    trouble: Option<Standstill>,
    /// Whether the log has been said to be open.
    is_announced: bool,
    last_look: Instant,
    sync_due: Option<Instant>,
    syncer: Option<Syncer>,
    targets: Targets,
    #[cfg(test)]
    gate: super::tests::Gate,
}

/// How far the pen came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// All that could be done now was done.
    Done,
    /// There is more to do, which is for the thread.
    Left,
}

/// Nothing can be written.
#[derive(Debug)]
struct Standstill {
    told: Trouble,
    refused_before: u64,
    retry_at: Instant,
    delay: Duration,
}

impl Writer {
    pub(super) fn new(config: AuditConfig) -> Self {
        let targets = Targets::new(&config.also);
        Self {
            config,
            log: None,
            head: None,
            remarks: vec![Remark::Start],
            doomed: None,
            backlog: Vec::new(),
            buffer: Vec::new(),
            remains_after: None,
            time: String::new(),
            begun: SystemTime::now(),
            trouble: None,
            is_announced: false,
            last_look: Instant::now(),
            sync_due: None,
            syncer: None,
            targets,
            #[cfg(test)]
            gate: super::tests::Gate::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn through(mut self, gate: &super::tests::Gate) -> Self {
        self.gate = gate.clone();
        self
    }

    /// Runs a thread that opens the file and then shares the pen with the runtime, until the desk says stop.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn spawn(self, desk: Arc<Desk>) -> std::io::Result<thread::JoinHandle<()>> {
        let thread = thread::Builder::new().name("audit".to_owned());
        thread
            .stack_size(STACK_BYTES)
            .spawn(move || Box::new(self).run(&desk))
    }

    fn run(mut self: Box<Self>, desk: &Desk) {
        self.open(desk);
        loop {
            self.go_on(desk, Hand::Thread);
            let Work {
                writer,
                is_stopping,
            } = desk.wait(self);
            self = writer;
            if is_stopping {
                break;
            }
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.retry_at = Instant::now();
        }
        self.go_on(desk, Hand::Thread);
        // After the last call.
        self.remarks.push(Remark::Stop);
        self.go_on(desk, Hand::Thread);
        if let (Some(log), Some(head)) = (&self.log, self.head) {
            if let Err(error) = log.sync() {
                error!(error = %chain(&error), "the end of the audit log is not on the disk");
            }
            info!(line = head.sequence, hash = %head.hash, "the audit log was closed");
        }
        desk.close();
    }

    /// Takes lines in, in their order.
    pub(super) fn take_in(&mut self, notes: &mut Vec<Note>) {
        self.backlog.append(notes);
    }

    /// Writes what there is to write, as far as that works.
    pub(super) fn go_on(&mut self, desk: &Desk, hand: Hand) -> Progress {
        if let Some(trouble) = &self.trouble
            && trouble.retry_at <= Instant::now()
        {
            self.open(desk);
        }
        if self.log.is_none() {
            return Progress::Done;
        }
        let gone_on = self.commit(desk, hand).and_then(|progress| match hand {
            Hand::Runtime => Ok(progress),
            Hand::Thread => self
                .sync_if_due(desk)
                .and_then(|()| self.go_on_after_hang(desk)),
        });
        gone_on.unwrap_or_else(|error| {
            self.fail(desk, &error);
            Progress::Done
        })
    }

    /// Tells of a write, or another step, that came back late, and that calls were refused meanwhile.
    fn go_on_after_hang(&mut self, desk: &Desk) -> Result<Progress, FileError> {
        let Some(Hang {
            told,
            refused_before,
        }) = desk.take_hang()
        else {
            return Ok(Progress::Done);
        };
        let refused = desk.health().refused - refused_before;
        info!(since = %seconds(told.since), refused, "the audit log is written again, and calls are taken");
        self.remarks.push(Remark::Resumed(told, refused));
        self.commit(desk, Hand::Thread)
    }

    /// When there is something to do, unless a line comes before.
    pub(super) fn alarm(&self) -> Option<Instant> {
        let retry = self.trouble.as_ref().map(|trouble| trouble.retry_at);
        retry.into_iter().chain(self.sync_due).min()
    }

    /// Writes everything that waits, in batches.
    fn commit(&mut self, desk: &Desk, hand: Hand) -> Result<Progress, FileError> {
        while !(self.remarks.is_empty() && self.backlog.is_empty()) {
            if self.take_turn(hand)? == Progress::Left {
                return Ok(Progress::Left);
            }
            self.look()?;
            if self.rotate_if_due(hand)? == Progress::Left {
                return Ok(Progress::Left);
            }
            let count = self.backlog.len().min(BATCH);
            let Some(head) = self.seal(count)? else {
                return Ok(Progress::Done);
            };
            let stopwatch = Stopwatch::start();
            self.append()?;
            desk.took(hand, &stopwatch);
            self.head = Some(head);
            self.answer_for(count, head, desk, hand);
            self.targets.send(&self.buffer, desk);
            self.remove_doomed()?;
            self.end_turn();
        }
        Ok(Progress::Done)
    }

    /// Makes the lines of all remarks and of so many calls; the chain with them.
    fn seal(&mut self, count: usize) -> Result<Option<Head>, FileError> {
        let Some(mut head) = self.head else {
            return Ok(None);
        };
        self.buffer.clear();
        self.time.clear();
        // Writing to a string does not fail.
        let _ = write!(self.time, "{}", milliseconds(SystemTime::now()));
        for remark in &self.remarks {
            head = remark
                .seal(head, &self.time, &mut self.buffer)
                .map_err(FileError::Line)?;
        }
        for Note { entry, which } in &self.backlog[..count] {
            let fields = entry.fields(*which);
            head = head
                .seal(&self.time, &fields, &mut self.buffer)
                .map_err(FileError::Line)?;
        }
        Ok(Some(head))
    }

    /// Puts the lines that were made into the file, and on the disk where that is asked for. All of them, or none.
    fn append(&mut self) -> Result<(), FileError> {
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        #[cfg(test)]
        self.gate.pass();
        let before = log.length();
        let appended = log
            .append(&self.buffer)
            .and_then(|()| match self.config.sync {
                Sync::Always => log.sync(),
                Sync::Second => Ok(()),
            });
        #[cfg(test)]
        let appended = appended.and_then(|()| self.gate.sync());
        if appended.is_err() {
            // So that no line stands there that is written again, nor a part of one.
            let cut = log.cut_to(before);
            #[cfg(test)]
            let cut = cut.and_then(|()| self.gate.cut(log, &self.buffer));
            self.remains_after = cut.is_err().then_some(before);
        }
        let due = || Instant::now() + SYNC_INTERVAL;
        if self.config.sync == Sync::Second {
            self.sync_due.get_or_insert_with(due);
        }
        appended
    }

    /// Lets others write, where there are any.
    fn end_turn(&mut self) {
        match (&mut self.log, self.config.sync) {
            (Some(log), Sync::Second) => log.end_turn(),
            // It took the disk's time already: no time is saved by keeping the lock.
            (Some(log), Sync::Always) => log.offer(),
            (None, _) => {}
        }
    }

    /// The lines that were made are in the file.
    fn answer_for(&mut self, count: usize, head: Head, desk: &Desk, hand: Hand) {
        let runtime_may = self.config.sync == Sync::Second;
        if let Some(trouble) = self.trouble.take() {
            info!(since = %seconds(trouble.told.since), "the audit log is written again, and calls are taken");
            desk.well(runtime_may);
        } else if !self.is_announced {
            self.is_announced = true;
            info!(file = %self.config.file.display(), line = head.sequence, hash = %head.hash, "the audit log is open");
            desk.well(runtime_may);
        }
        let is_end = |note: &&Note| note.which == Which::End;
        let batch = Batch {
            lines: (self.remarks.len() + count) as u64,
            bytes: self.buffer.len() as u64,
            ended: self.backlog.iter().take(count).filter(is_end).count(),
            waiting: self.backlog.len() - count,
            head,
        };
        self.remarks.clear();
        let written = self.backlog.drain(..count).map(|Note { entry, which }| {
            entry.written(which);
            entry
        });
        desk.release(hand, written, batch);
    }

    /// Lets the desk refuse calls, and says so once.
    fn fail(&mut self, desk: &Desk, error: &FileError) {
        self.log = None;
        self.sync_due = None;
        let why = chain(error).to_string();
        let delay = match &self.trouble {
            // Held by a former process of this agent, which is about to end.
            _ if matches!(error, FileError::InUse(_)) => RETRY.0,
            Some(trouble) => (trouble.delay * 2).min(RETRY.1),
            None => RETRY.0,
        };
        // What a failed try wanted to say of itself is said by the next one.
        self.remarks
            .retain(|remark| !matches!(remark, Remark::Torn(_) | Remark::Resumed(..)));
        let retry_at = Instant::now() + delay;
        match &mut self.trouble {
            Some(trouble) => {
                if trouble.told.why != why {
                    error!(error = why, "the audit log still cannot be written");
                    trouble.told.why = why;
                }
                trouble.retry_at = retry_at;
                trouble.delay = delay;
            }
            None => {
                error!(error = why, file = %self.config.file.display(), "the audit log cannot be written: no call is taken until it can");
                // Where it hung before, since then.
                let hang = desk.take_hang();
                let since = hang
                    .as_ref()
                    .map_or_else(SystemTime::now, |hang| hang.told.since);
                let refused = || desk.health().refused;
                self.trouble = Some(Standstill {
                    told: Trouble { since, why },
                    refused_before: hang.map_or_else(refused, |hang| hang.refused_before),
                    retry_at,
                    delay,
                });
            }
        }
        if let Some(trouble) = &self.trouble {
            desk.unwell(trouble.told.clone(), self.backlog.len());
        }
    }

    fn refused_before(&self) -> u64 {
        self.trouble.as_ref().map_or(0, |it| it.refused_before)
    }
}

fn seconds(time: SystemTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(time)
}
