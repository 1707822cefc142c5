//! The thread that writes: takes all lines that wait, writes them with one call, then answers for all.
//!
//! Nothing is answered for before it is in the file. What cannot be written is kept and tried again, and
//! meanwhile no call is begun.

use std::fs::File;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::Flock;
use tracing::{error, info, warn};

use super::chain::Head;
use super::desk::{Desk, Note, Trouble};
use super::entry::Which;
use super::file::{FileError, LogFile, Removed, Tail, Torn};
use super::line::{Daemon, Fields};
use super::target::Targets;
use crate::agent::config::{AuditConfig, Sync};
use crate::error_chain::chain;
use crate::protocol::SOFTWARE;

/// Lines that are written at once: some 100 KiB, so that the first of a crowd does not wait for the last.
const BATCH: usize = 256;
/// What was written is on the disk so soon after, with `sync = "second"`.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How often, while lines are written, it is looked whether the file is in its place and has room.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The first try after a failure, and the longest time between two tries.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The writer and the thread that syncs need little: neither recurses.
const STACK_BYTES: usize = 256 * 1024;

/// The writer, with what it knows of the file.
pub(super) struct Writer {
    desk: Arc<Desk>,
    config: AuditConfig,
    log: Option<LogFile>,
    /// How far the chain has come in the file; nothing before the first opening.
    head: Option<Head>,
    /// What is to be told before any call: lines of the log about itself.
    remarks: Vec<Remark>,
    backlog: Vec<Note>,
    buffer: Vec<u8>,
    /// When the file that is written to was begun, by the wall clock.
    begun: SystemTime,
    trouble: Option<Standstill>,
    /// Whether the log has been said to be open.
    is_announced: bool,
    last_look: Instant,
    sync_due: Option<Instant>,
    syncer: Option<Syncer>,
    targets: Targets,
}

/// A line of the log about itself.
enum Remark {
    Start,
    Stop,
    Torn(Torn),
    Pruned(Removed),
    Resumed(Trouble),
}

/// Nothing can be written.
struct Standstill {
    told: Trouble,
    refused_before: u64,
    retry_at: Instant,
    delay: Duration,
}

/// Syncs on a thread of its own, since a disk may take longer for it than callers should wait.
struct Syncer {
    files: SyncSender<Arc<Flock<File>>>,
    failure: Arc<Mutex<Option<std::io::Error>>>,
}

impl Writer {
    pub(super) fn new(desk: Arc<Desk>, config: AuditConfig) -> Self {
        let now = Instant::now();
        let targets = Targets::new(&config.also);
        Self {
            desk,
            config,
            log: None,
            head: None,
            remarks: vec![Remark::Start],
            backlog: Vec::new(),
            buffer: Vec::new(),
            begun: SystemTime::now(),
            trouble: None,
            is_announced: false,
            last_look: now,
            sync_due: None,
            syncer: None,
            targets,
        }
    }

    /// Runs on a thread of its own until the desk says stop.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn spawn(self) -> std::io::Result<thread::JoinHandle<()>> {
        let thread = thread::Builder::new().name("audit".to_owned());
        thread.stack_size(STACK_BYTES).spawn(move || self.run())
    }

    fn run(mut self) {
        self.open();
        loop {
            self.go_on();
            let work = self.desk.wait(self.alarm());
            self.backlog.extend(work.notes);
            if work.is_stopping {
                break;
            }
        }
        if let Some(trouble) = &mut self.trouble {
            trouble.retry_at = Instant::now();
        }
        self.go_on();
        // After the last call.
        self.remarks.push(Remark::Stop);
        self.go_on();
        if let (Some(log), Some(head)) = (&self.log, self.head) {
            if let Err(error) = log.sync() {
                error!(error = %chain(&error), "the end of the audit log is not on the disk");
            }
            info!(line = head.sequence, hash = %head.hash, "the audit log was closed");
        }
        self.desk.close();
    }

    /// Writes what there is to write, as far as that works.
    fn go_on(&mut self) {
        if let Some(trouble) = &self.trouble
            && trouble.retry_at <= Instant::now()
        {
            self.open();
        }
        if self.log.is_none() {
            return;
        }
        if let Err(error) = self.commit().and_then(|()| self.sync_if_due()) {
            self.fail(&error);
        }
    }

    /// How long there is nothing to do unless a line comes.
    fn alarm(&self) -> Option<Duration> {
        let now = Instant::now();
        let retry = self.trouble.as_ref().map(|trouble| trouble.retry_at);
        let next = retry.into_iter().chain(self.sync_due).min();
        next.map(|next| next.saturating_duration_since(now))
    }

    /// Opens the file and sees how far the chain has come in it.
    fn open(&mut self) {
        let opened = LogFile::open(&self.config.file).and_then(|(mut log, tail)| {
            let found = match tail {
                Tail::Empty | Tail::Foreign => Head::BEGINNING,
                Tail::Whole(head) => head,
                Tail::Torn(torn) => {
                    if !torn.is_terminated {
                        log.append(b"\n")?;
                    }
                    self.remarks.insert(0, Remark::Torn(torn));
                    torn.head
                }
            };
            Ok((log, found))
        });
        match opened {
            Ok((log, found)) => {
                // What this process has written is what its chain goes on from, whatever became of it: if
                // it is not there any more, verifying finds the gap.
                let head = *self.head.get_or_insert(found);
                if let Some(Remark::Torn(torn)) = self.remarks.first() {
                    warn!(
                        bytes = torn.bytes,
                        line = head.sequence,
                        "the audit log ends with something that is not whole; it stays, and the next line tells of it"
                    );
                }
                let begun = log
                    .begun()
                    .and_then(|time| humantime::parse_rfc3339(time).ok());
                self.begun = begun.unwrap_or_else(SystemTime::now);
                self.log = Some(log);
                self.last_look = Instant::now();
                if let Some(Standstill { told, .. }) = &self.trouble {
                    self.remarks.push(Remark::Resumed(told.clone()));
                }
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Writes everything that waits, in batches.
    fn commit(&mut self) -> Result<(), FileError> {
        while !(self.remarks.is_empty() && self.backlog.is_empty()) {
            self.look()?;
            self.rotate_if_due()?;
            let (Some(mut head), Some(log)) = (self.head, &mut self.log) else {
                return Ok(());
            };
            self.buffer.clear();
            let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
            for remark in &self.remarks {
                let since;
                let fields = match remark {
                    Remark::Start => Fields::Start(daemon()),
                    Remark::Stop => Fields::Stop(daemon()),
                    Remark::Torn(torn) => Fields::Torn {
                        torn_bytes: torn.bytes,
                        torn_hash: torn.hash.to_string(),
                    },
                    Remark::Pruned(removed) => Fields::Pruned {
                        through: removed.through,
                        files: removed.files,
                    },
                    Remark::Resumed(trouble) => {
                        since = humantime::format_rfc3339_millis(trouble.since).to_string();
                        let before = self.trouble.as_ref().map_or(0, |it| it.refused_before);
                        Fields::Resumed {
                            since: &since,
                            refused: self.desk.health().refused - before,
                            why: &trouble.why,
                        }
                    }
                };
                head = head
                    .seal(&time, &fields, &mut self.buffer)
                    .map_err(FileError::Line)?;
            }
            let count = self.backlog.len().min(BATCH);
            for Note { entry, which } in &self.backlog[..count] {
                let fields = entry.fields(*which);
                head = head
                    .seal(&time, &fields, &mut self.buffer)
                    .map_err(FileError::Line)?;
            }
            log.append(&self.buffer)?;
            if self.config.sync == Sync::Always {
                log.sync()?;
            } else if self.sync_due.is_none() {
                self.sync_due = Some(Instant::now() + SYNC_INTERVAL);
            }
            self.head = Some(head);
            self.remarks.clear();
            self.answer_for(count, head);
            self.targets.send(&self.buffer, &self.desk);
        }
        Ok(())
    }

    /// The first lines that wait are in the file.
    fn answer_for(&mut self, count: usize, head: Head) {
        if let Some(trouble) = self.trouble.take() {
            let since = humantime::format_rfc3339_seconds(trouble.told.since);
            info!(%since, "the audit log is written again, and calls are taken");
            self.desk.set_trouble(None, 0);
        } else if !self.is_announced {
            self.is_announced = true;
            info!(file = %self.config.file.display(), line = head.sequence, hash = %head.hash, "the audit log is open");
            self.desk.set_trouble(None, 0);
        }
        let is_end = |note: &&Note| note.which == Which::End;
        let ended = self.backlog.iter().take(count).filter(is_end).count();
        let waiting = self.backlog.len() - count;
        let written = self.backlog.drain(..count).map(|Note { entry, which }| {
            entry.written(which);
            entry
        });
        self.desk.release(written, ended, head, waiting);
    }

    /// Now and then, whether what is written arrives where it should.
    fn look(&mut self) -> Result<(), FileError> {
        if let Some(log) = &self.log
            && self.last_look.elapsed() >= LOOK_INTERVAL
        {
            self.last_look = Instant::now();
            log.check_place()?;
        }
        Ok(())
    }

    fn rotate_if_due(&mut self) -> Result<(), FileError> {
        let Some(log) = &self.log else { return Ok(()) };
        // A clock that steps back makes a file younger, and one that steps forward older, no more.
        let age = self.begun.elapsed().unwrap_or_default();
        let is_due = log.length() >= self.config.max_size || age >= self.config.max_age;
        if log.length() == 0 {
            self.begun = SystemTime::now();
        }
        let (true, Some(head)) = (is_due && log.length() > 0, self.head) else {
            return Ok(());
        };
        let Some(log) = self.log.take() else {
            return Ok(());
        };
        let (log, removed) = log.rotate(head, self.config.keep)?;
        self.log = Some(log);
        self.begun = SystemTime::now();
        self.remarks.extend(removed.map(Remark::Pruned));
        info!(line = head.sequence, hash = %head.hash, "the audit log was rotated");
        Ok(())
    }

    fn sync_if_due(&mut self) -> Result<(), FileError> {
        let Some(log) = &self.log else { return Ok(()) };
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
        let syncer = match self.syncer.take().map_or_else(Syncer::spawn, Ok) {
            Ok(syncer) => self.syncer.insert(syncer),
            // Without a thread, here.
            Err(_) => {
                self.sync_due = None;
                return log.sync();
            }
        };
        self.sync_due = match syncer.files.try_send(log.handle()) {
            Ok(()) => None,
            // The disk is at it still.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                Some(Instant::now() + SYNC_INTERVAL)
            }
        };
        Ok(())
    }

    /// Lets the desk refuse calls, and says so once.
    fn fail(&mut self, error: &FileError) {
        self.log = None;
        self.sync_due = None;
        let why = chain(error).to_string();
        let delay = match &self.trouble {
            Some(trouble) => (trouble.delay * 2).min(RETRY.1),
            None => RETRY.0,
        };
        // What a failed try wanted to say of itself is said by the next one.
        self.remarks
            .retain(|remark| !matches!(remark, Remark::Torn(_) | Remark::Resumed(_)));
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
                let since = SystemTime::now();
                self.trouble = Some(Standstill {
                    told: Trouble { since, why },
                    refused_before: self.desk.health().refused,
                    retry_at,
                    delay,
                });
            }
        }
        let told = self.trouble.as_ref().map(|trouble| trouble.told.clone());
        self.desk.set_trouble(told, self.backlog.len());
    }
}

impl Syncer {
    fn spawn() -> std::io::Result<Self> {
        let (files, received): (_, Receiver<Arc<Flock<File>>>) = sync_channel(1);
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

    fn failure(&self) -> Option<std::io::Error> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

fn daemon() -> Daemon<'static> {
    Daemon {
        software: SOFTWARE,
        process: std::process::id(),
    }
}
