//! The real programs: commands that are run to their end, and daemons.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait_until;

pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_agent");
pub(crate) const RELAY: &str = env!("CARGO_BIN_EXE_relay");
/// A folder with other programs to test: those of a release, for what takes many of them or much of the machine.
const PROGRAMS: &str = "TEST_PROGRAMS";

/// What a command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) async fn run(program: &'static str, arguments: &[&str]) -> Output {
    run_with(program, arguments, "").await
}

/// Runs a command to its end, with something on its standard input. One that does not end is killed.
pub(crate) async fn run_with(program: &'static str, arguments: &[&str], input: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let (out, err) = (directory.path().join("out"), directory.path().join("err"));
    let mut child = command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .spawn()
        .unwrap();
    // A command that wants no input may have ended. What tests write fits into the pipe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let status = Daemon {
        child,
        log: err.clone(),
    }
    .ended()
    .await;
    Output {
        code: status.code().unwrap(),
        out: fs::read_to_string(out).unwrap(),
        err: fs::read_to_string(err).unwrap(),
    }
}

impl Output {
    /// That the command did what it was told.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// That it failed so: with this exit code, and one paragraph that has all these words.
    pub(crate) fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in {self:?}");
        }
    }
}

/// A daemon in a process of its own, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts one, with its log in a file.
    pub(crate) fn start(program: &'static str, arguments: &[&str], log: &Path) -> Self {
        Self::start_with(program, arguments, log, &[])
    }

    /// Starts one, with these variables as its whole environment.
    pub(crate) fn start_with(
        program: &'static str,
        arguments: &[&str],
        log: &Path,
        environment: &[(&str, &str)],
    ) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = command(program)
            .envs(environment.iter().copied())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self {
            child,
            log: log.to_owned(),
        }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("a daemon ends", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// The whole lines of its log so far: it may be writing the next one just now.
    pub(crate) fn log(&self) -> String {
        let mut log = fs::read_to_string(&self.log).unwrap();
        log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
        log
    }

    /// Waits for a word in its log.
    pub(crate) async fn until_logged(&self, word: &str) {
        wait_until(word, async || self.log().contains(word)).await;
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(program: &'static str) -> Command {
    let mut path = PathBuf::from(program);
    if let Some(folder) = std::env::var_os(PROGRAMS) {
        path = Path::new(&folder).join(path.file_name().unwrap());
    }
    let mut command = Command::new(path);
    // Nothing of this machine's own settings: no proxies, no configuration by variables.
    command.env_clear();
    command
}
