//! A program that the bench started: its processor time, its memory, and its end. It never touches a process
//! that the bench did not start.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::Failure;

/// Ticks of `/proc/PID/stat` per second: `USER_HZ`, 100 on every Linux that this runs on. The kernel scales
/// user and system time to the scheduler's exact run time, so only the rounding is this coarse.
const TICKS_PER_SECOND: u64 = 100;

/// A program that has not begun to listen by then has failed to start.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Ports that the system does not give to whoever dials: one that is free stays so until somebody listens on it.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// Then SIGTERM is followed by SIGKILL.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// A started program; dropping it ends it.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with standard error and output in `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf) -> Result<Self, Failure> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Failure::because(format!("open {}", log.display())))?;
        let errors = file
            .try_clone()
            .map_err(Failure::because("share the log file"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(Failure::because(format!("start {name}")))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something accepts at `address`, or the program has ended.
    pub(crate) fn wait_for_listener(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let deadline = Instant::now() + START_DEADLINE;
        while TcpStream::connect(address).is_err() {
            let ended = self
                .child
                .try_wait()
                .map_err(Failure::because("look after a child"))?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "{} did not start:\n{}",
                    self.name,
                    self.log_tail()
                )));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Asks it to end, insists after a while, and waits for it.
    pub(crate) fn stop(&mut self) {
        if self.ends_within(STOP_DEADLINE) {
            return;
        }
        let _already_gone = self.child.kill();
        let _status = self.child.wait();
    }

    /// Asks it to end, and waits no longer; tells whether it has ended.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> bool {
        let has_ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        if has_ended(&mut self.child) {
            return true;
        }
        // A failed signal leaves the deadline below to decide.
        let _unsent = kill(Pid::from_raw(self.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if has_ended(&mut self.child) {
                return true;
            }
            thread::sleep(Duration::from_millis(2));
        }
        false
    }

    /// The last lines that it logged.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Processor time, user and system, that a process and its children have used so far.
pub(crate) fn processor_time(root: u32) -> Result<Duration, Failure> {
    let mut ticks = 0;
    let mut unseen = vec![root];
    while let Some(id) = unseen.pop() {
        ticks += ticks_of(id)?;
        unseen.extend(children_of(id)?);
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Resident memory, in KiB.
pub(crate) fn resident_kib(id: u32) -> Result<u64, Failure> {
    kib_line(&format!("/proc/{id}/status"), "VmRSS:")
}

/// Memory that the process allocated, without the pages of its program, in KiB.
pub(crate) fn allocated_kib(id: u32) -> Result<u64, Failure> {
    kib_line(&format!("/proc/{id}/status"), "RssAnon:")
}

/// Proportional memory, in KiB: pages shared with other processes count in part.
pub(crate) fn proportional_kib(id: u32) -> Result<u64, Failure> {
    kib_line(&format!("/proc/{id}/smaps_rollup"), "Pss:")
}

/// A loopback port on which nobody listens, another one each time.
pub(crate) fn free_address() -> Result<SocketAddr, Failure> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Where another bench begins elsewhere.
    let first = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap_or_default();
    for _ in 0..PORTS {
        let number = (first + NEXT.fetch_add(1, Ordering::Relaxed) % PORTS) % PORTS;
        let address = (Ipv4Addr::LOCALHOST, FIRST_PORT + number).into();
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure::new("there is no free port"))
}

/// A file with this content.
pub(crate) fn write(path: &Path, content: &str) -> Result<(), Failure> {
    fs::write(path, content).map_err(Failure::because(format!("write {}", path.display())))
}

fn ticks_of(id: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{id}/stat");
    let stat = fs::read_to_string(&path).map_err(Failure::because(format!("read {path}")))?;
    // The program's name stands in parentheses and may hold anything; user and system time are the 12th and
    // 13th field after it.
    let fields = stat
        .rsplit_once(')')
        .map(|(_, fields)| fields.split_whitespace().collect::<Vec<_>>());
    let field = |index: usize| fields.as_ref()?.get(index)?.parse::<u64>().ok();
    match (field(11), field(12)) {
        (Some(user), Some(system)) => Ok(user + system),
        _ => Err(Failure::new(format!("{path} has an unknown form"))),
    }
}

fn children_of(id: u32) -> Result<Vec<u32>, Failure> {
    let path = format!("/proc/{id}/task");
    let tasks = fs::read_dir(&path).map_err(Failure::because(format!("read {path}")))?;
    let mut children = Vec::new();
    for task in tasks {
        let task = task.map_err(Failure::because(format!("read {path}")))?;
        // A thread that ended meanwhile has no children that matter.
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.extend(
            text.split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
    }
    Ok(children)
}

fn kib_line(path: &str, label: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(path).map_err(Failure::because(format!("read {path}")))?;
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Failure::new(format!("{path} has no {label} line")))
}
