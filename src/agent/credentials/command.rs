//! A secret that a command prints: a client of a vault, a helper of the company's own.
//!
//! Started without a shell, with a small environment, in a process group of its own that ends with the
//! time-out. What it prints is the secret and nothing else. Of what it says on standard error the first line goes to
//! the log, without any secret that is known here: of a helper that traces its steps, the lines after it may hold others.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{env, io};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tracing::warn;

use super::CredentialError;
use super::mask::{spellings, without};
use super::renewed::{Fetch, Fetched, Fetching, Life};
use super::source::Reading;
use crate::agent::config::CommandConfig;
use crate::secret::Secret;

/// The most that a command may print: the secret is in the first line, and a command that prints more than
/// this prints something else.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// The most that is looked at of what a command says on standard error: far more than is shown, so that no secret that
/// begins where it is shown is cut where it is looked for.
const MAX_COMPLAINT_BYTES: usize = 64 * 1024;
/// The most that is logged of it, in characters: enough for an error message.
const MAX_SHOWN: usize = 300;
/// Lines of output that are looked for in a complaint: the secret is the first, and what follows may be one as well.
const LINES_TO_HIDE: usize = 32;
/// What a command gets of the daemon's environment: where to find programs, who it is, and systemd's
/// credentials. All else may hold secrets that are not its business.
const ENVIRONMENT: [&str; 6] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "CREDENTIALS_DIRECTORY",
];

/// A command whose first line is a secret.
#[derive(Debug)]
pub(super) struct Command {
    config: CommandConfig,
    /// What it printed the last time that it printed any, which it may well complain about.
    last: Mutex<Option<Secret<Vec<u8>>>>,
}

/// Why a command gave no secret.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It cannot be started.
    #[error("it cannot be started")]
    Start(#[source] io::Error),
    /// It was killed.
    #[error("it did not end within its timeout ({})", humantime::format_duration(*.0))]
    TimedOut(Duration),
    /// It printed more than a secret.
    #[error("it printed more than {MAX_OUTPUT_BYTES} bytes")]
    TooMuch,
    /// It says that it failed.
    #[error("it ended with {0}")]
    Failed(ExitStatus),
    /// Its output could not be read.
    #[error("its output could not be read")]
    Output(#[source] io::Error),
}

impl Command {
    pub(super) fn new(config: &CommandConfig) -> Arc<Self> {
        Arc::new(Self {
            config: config.clone(),
            last: Mutex::default(),
        })
    }

    fn program(&self) -> &Path {
        Path::new(self.config.arguments.first().map_or("", String::as_str))
    }

    async fn run(&self) -> Result<Fetched, CredentialError> {
        let failed = |source| CredentialError::Command {
            program: self.program().to_owned(),
            source,
        };
        let output = Output::of(&self.config).await;
        let (output, complaint) = output.map_err(failed)?;
        let lines = output.bytes.expose();
        let first = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
        let first = Secret::new(lines.get(..first).unwrap_or_default().to_vec());
        let shown = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let before = last.as_ref().map_or(&[][..], |last| last.expose());
            let shown = complaint.shown(lines, before);
            if !first.expose().is_empty() {
                *last = Some(Secret::new(first.expose().clone()));
            }
            shown
        };
        if let Some(complaint) = shown {
            let program = self.program().display();
            warn!(%program, %complaint, "a command for a credential says");
        }
        if !output.status.success() {
            return Err(failed(CommandError::Failed(output.status)));
        }
        let reading = Reading::new(&first, &self.program().display().to_string())?;
        Ok(Fetched {
            reading,
            life: life(self.config.cache),
        })
    }
}

impl Fetch for Command {
    fn fetch(self: Arc<Self>) -> Fetching {
        Box::pin(async move { self.run().await })
    }
}

/// The next value is fetched a little before the last one is too old. While the command fails, the last one
/// stays for as long again.
fn life(cache: Duration) -> Life {
    Life {
        renew_after: cache.mul_f64(0.75),
        good_for: cache,
        last_resort: cache * 2,
    }
}

/// What a command that has ended left behind.
struct Output {
    bytes: Secret<Vec<u8>>,
    status: ExitStatus,
}

/// What a command said on standard error.
struct Complaint(Secret<Vec<u8>>);

/// A process and all that it started. Killed when dropped, unless it has ended.
struct Group(Option<Pid>);

impl Output {
    /// Runs the command to its end, or to the end of its time.
    async fn of(config: &CommandConfig) -> Result<(Self, Complaint), CommandError> {
        let running = tokio::time::timeout(config.timeout, Self::collect(&config.arguments));
        let timed_out = |_| CommandError::TimedOut(config.timeout);
        // Dropped at the time-out, and with it the group.
        running.await.map_err(timed_out)?
    }

    async fn collect(arguments: &[String]) -> Result<(Self, Complaint), CommandError> {
        let mut command = command(arguments);
        let broken = |_| CommandError::Start(io::Error::other("the starting thread broke"));
        // Starting takes as long as the disk does. Made into a group there, so that one that starts when nobody waits for
        // it any more is killed all the same.
        let started = tokio::task::spawn_blocking(move || {
            let child = command.spawn()?;
            let group = Group::of(&child);
            Ok((child, group))
        });
        let (mut child, mut group) = started
            .await
            .map_err(broken)?
            .map_err(CommandError::Start)?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let ended = tokio::task::spawn_blocking(move || child.wait());
        let (bytes, complaint) = tokio::try_join!(
            read(output.map(OwnedFd::from), MAX_OUTPUT_BYTES, Excess::Fails),
            read(
                errors.map(OwnedFd::from),
                MAX_COMPLAINT_BYTES,
                Excess::Drops
            ),
        )?;
        let status = ended.await.map_err(broken)?.map_err(CommandError::Output)?;
        group.has_ended();
        let bytes = Secret::new(bytes);
        Ok((Self { bytes, status }, Complaint(Secret::new(complaint))))
    }
}

fn command(arguments: &[String]) -> process::Command {
    let (program, arguments) = arguments
        .split_first()
        .map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    let passed = ENVIRONMENT
        .into_iter()
        .filter_map(|name| Some((name, env::var_os(name)?)));
    let mut command = process::Command::new(PathBuf::from(program));
    command
        .args(arguments)
        .env_clear()
        .envs(passed)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command
}

/// What happens with more than the limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Excess {
    Fails,
    /// It is read all the same, so that the command does not stand still.
    Drops,
}

async fn read(
    pipe: Option<OwnedFd>,
    limit: usize,
    excess: Excess,
) -> Result<Vec<u8>, CommandError> {
    // With its final size, so that no copy is left behind when it grows.
    let mut kept = Vec::with_capacity(limit);
    let Some(pipe) = pipe else { return Ok(kept) };
    let mut pipe = Receiver::from_owned_fd(pipe).map_err(CommandError::Output)?;
    let mut limited = (&mut pipe).take(limit as u64);
    limited
        .read_to_end(&mut kept)
        .await
        .map_err(CommandError::Output)?;
    match excess {
        Excess::Fails if kept.len() == limit => return Err(CommandError::TooMuch),
        Excess::Fails => {}
        Excess::Drops => {
            let dropped = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
            dropped.map_err(CommandError::Output)?;
        }
    }
    Ok(kept)
}

impl Complaint {
    /// What may be shown of it: its first line, without what the command printed now or before.
    fn shown(&self, printed: &[u8], before: &[u8]) -> Option<String> {
        let mut text = Cow::Borrowed(self.0.expose().trim_ascii());
        if text.is_empty() {
            return None;
        }
        // In the whole of it, before anything is cut.
        let printed = printed.split(|byte| *byte == b'\n').take(LINES_TO_HIDE);
        for line in printed.chain([before]) {
            if let Some(masked) = without(&text, &spellings([line.trim_ascii()])) {
                text = Cow::Owned(masked);
            }
        }
        let text = String::from_utf8_lossy(&text);
        let first: String = text.lines().next()?.chars().take(MAX_SHOWN).collect();
        Some(first.escape_debug().to_string())
    }
}

impl Group {
    fn of(child: &process::Child) -> Self {
        Self(i32::try_from(child.id()).ok().map(Pid::from_raw))
    }

    fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // That nobody is left is as good.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error_chain::chain;

    fn shell(script: &str) -> Arc<Command> {
        Command::new(&CommandConfig {
            arguments: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            cache: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
        })
    }

    async fn failure(script: &str) -> String {
        let error = shell(script).fetch().await.unwrap_err();
        chain(&error).to_string()
    }

    #[tokio::test]
    async fn the_first_line_that_a_command_prints_is_the_secret() {
        let fetched = shell("printf '  token \\r\\nmore\\n'; echo aside >&2").fetch();
        let fetched = fetched.await.unwrap();
        assert_eq!(fetched.reading.expose(), b"token");
        assert_eq!(fetched.life.good_for, Duration::from_secs(60));
    }

    #[tokio::test]
    async fn a_command_gets_a_small_environment_and_no_input() {
        let fetched = shell("read line; echo \"$line$(env | cut -d= -f1 | sort | tr '\\n' ' ')\"");
        let fetched = fetched.fetch().await.unwrap();
        let names = String::from_utf8(fetched.reading.expose().to_vec()).unwrap();
        for name in names.split_whitespace() {
            let is_the_shells = matches!(name, "PWD" | "OLDPWD" | "SHLVL" | "_");
            assert!(is_the_shells || ENVIRONMENT.contains(&name), "{names}");
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_gives_no_secret_and_shows_none() {
        let text = failure("echo marked-output; exit 3").await;
        assert_eq!(
            text,
            "/bin/sh gave no credential: it ended with exit status: 3"
        );
        let text = failure("").await;
        assert!(text.contains("/bin/sh") && text.contains("empty"), "{text}");
        let text = failure("head -c 70000 /dev/zero | tr '\\0' x").await;
        assert!(text.contains("more than"), "{text}");
        // However much it complains, it does not stand still.
        let text = failure("head -c 300000 /dev/zero >&2; exit 4").await;
        assert!(text.contains("exit status: 4"), "{text}");
        let missing = CommandConfig {
            arguments: vec!["/nowhere/vault".to_owned()],
            cache: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
        };
        let error = Command::new(&missing).fetch().await.unwrap_err();
        let text = chain(&error).to_string();
        assert!(
            text.contains("/nowhere/vault gave no credential: it cannot be started"),
            "{text}"
        );
    }

    #[test]
    fn of_what_a_command_says_one_line_is_shown_and_no_secret() {
        let shown = |said: &str, printed: &str, before: &str| {
            let complaint = Complaint(Secret::new(said.as_bytes().to_vec()));
            complaint.shown(printed.as_bytes(), before.as_bytes())
        };
        assert_eq!(shown(" \n", "", ""), None);
        let both = shown("no\tlease for marked-2\n+ curl marked-3", "marked-2\n", "");
        assert_eq!(both.as_deref(), Some("no\\tlease for ***"));
        // In each spelling, of each line, and of what was printed before.
        let said = "bWFya2VkLTE= marked-2 and marked%2F3";
        let all = shown(said, "marked-1\r\nmarked-2\n", "marked/3");
        assert_eq!(all.as_deref(), Some("*** *** and ***"));
        // Where it is cut there is no part of one either.
        let padding = "x".repeat(MAX_SHOWN - 4);
        let cut = shown(&format!("{padding} marked-secret"), "marked-secret", "").unwrap();
        assert!(cut.ends_with("x ***"), "{cut}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let script = format!("sleep 1000 & echo $$ $! > {}; wait", pids.display());
        let command = Command::new(&CommandConfig {
            arguments: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec(),
            cache: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
        });
        let error = command.fetch().await.unwrap_err();
        assert!(
            chain(&error)
                .to_string()
                .contains("within its timeout (5s)"),
            "{error:?}"
        );
        let pids = fs::read_to_string(pids).unwrap();
        assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
        for pid in pids.split_whitespace() {
            let deadline = std::time::Instant::now() + Duration::from_secs(120);
            while is_alive(pid) {
                assert!(std::time::Instant::now() < deadline, "{pid} still runs");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    /// Whether a process runs; one that has ended and that nobody asked about does not.
    fn is_alive(pid: &str) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        !(state.is_empty() || state.starts_with('Z'))
    }
}
