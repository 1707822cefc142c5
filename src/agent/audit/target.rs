//! Further targets of the audit log: the journal and syslog, on this machine.
//!
//! Each line is sent as it stands in the file, after it is there. A target that takes nothing is told of
//! and tried again; it never keeps a call from being made, and what it missed is not repeated.

use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::desk::Desk;
use crate::agent::config::Also;

/// What the lines are called there.
const IDENTIFIER: &str = "relay-agent-audit";
/// Facility 13, *log audit*, severity 6, *informational* (RFC 5424, section 6.2.1); to the journal the severity.
const SYSLOG_PRIORITY: u8 = 13 * 8 + 6;
const SEVERITY: u8 = 6;
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";
/// A target that did not answer is asked again so much later.
const RETRY: Duration = Duration::from_secs(5);

/// The targets that are configured.
#[derive(Debug)]
pub(super) struct Targets(Vec<Target>);

#[derive(Debug)]
struct Target {
    also: Also,
    path: &'static str,
    socket: Option<UnixDatagram>,
    /// When it last failed, while it does.
    failed: Option<Instant>,
}

impl Targets {
    pub(super) fn new(also: &[Also]) -> Self {
        let target = |also: &Also| Target {
            also: *also,
            path: match also {
                Also::Journald => JOURNAL,
                Also::Syslog => SYSLOG,
            },
            socket: None,
            failed: None,
        };
        Self(also.iter().map(target).collect())
    }

    /// Sends lines, as far as the targets take them now.
    pub(super) fn send(&mut self, lines: &[u8], desk: &Desk) {
        for target in &mut self.0 {
            let missed = target.send_all(lines);
            if missed > 0 {
                desk.count_not_sent(missed);
            }
        }
    }
}

impl Target {
    /// Sends lines; tells how many were not taken.
    fn send_all(&mut self, lines: &[u8]) -> u64 {
        let mut missed = 0;
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            if self.failed.is_some_and(|at| at.elapsed() < RETRY) {
                missed += 1;
                continue;
            }
            match self.send(line) {
                Ok(()) if self.failed.is_some() => {
                    self.failed = None;
                    info!(target = self.path, "audit lines are sent there again");
                }
                Ok(()) => {}
                Err(error) => {
                    missed += 1;
                    self.socket = None;
                    if self.failed.replace(Instant::now()).is_none() {
                        warn!(target = self.path, %error, "audit lines are not taken there; the file has them");
                    }
                }
            }
        }
        missed
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                // Nobody who is slow there is waited for.
                socket.set_nonblocking(true)?;
                socket.connect(self.path)?;
                socket
            }
        };
        socket.send(&self.also.message(line, SystemTime::now()))?;
        self.socket = Some(socket);
        Ok(())
    }
}

impl Also {
    /// A line as the target wants it.
    fn message(self, line: &[u8], now: SystemTime) -> Vec<u8> {
        let mut head = String::new();
        // Writing to a string does not fail.
        let _ = match self {
            Self::Journald => write!(
                head,
                "PRIORITY={SEVERITY}\nSYSLOG_IDENTIFIER={IDENTIFIER}\nMESSAGE="
            ),
            Self::Syslog => write!(
                head,
                "<{SYSLOG_PRIORITY}>1 {} - {IDENTIFIER} {} audit - ",
                humantime::format_rfc3339_millis(now),
                std::process::id()
            ),
        };
        let mut message = head.into_bytes();
        message.extend_from_slice(line);
        if self == Self::Journald {
            message.push(b'\n');
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_lines_in_its_own_form() {
        let message = |also: Also| {
            let message = also.message(b"{\"v\":1}", SystemTime::UNIX_EPOCH);
            String::from_utf8(message).unwrap()
        };
        assert_eq!(
            message(Also::Journald),
            "PRIORITY=6\nSYSLOG_IDENTIFIER=relay-agent-audit\nMESSAGE={\"v\":1}\n"
        );
        let process = std::process::id();
        assert_eq!(
            message(Also::Syslog),
            format!(
                "<110>1 1970-01-01T00:00:00.000Z - relay-agent-audit {process} audit - {{\"v\":1}}"
            )
        );
    }

    #[test]
    fn a_target_that_is_not_there_is_told_of_and_nothing_waits_for_it() {
        let mut target = Target {
            also: Also::Syslog,
            path: "/nonexistent/socket",
            socket: None,
            failed: None,
        };
        assert_eq!(target.send_all(b"{\"a\":1}\n{\"b\":2}\n"), 2);
        assert!(target.failed.is_some());
    }

    #[test]
    fn a_target_gets_each_line_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let listener = UnixDatagram::bind(&path).unwrap();
        let mut target = Target {
            also: Also::Journald,
            path: Box::leak(path.to_str().unwrap().to_owned().into_boxed_str()),
            socket: None,
            failed: None,
        };
        assert_eq!(target.send_all(b"{\"a\":1}\n{\"b\":2}\n"), 0);
        let mut buffer = [0; 200];
        for expected in ["MESSAGE={\"a\":1}\n", "MESSAGE={\"b\":2}\n"] {
            let length = listener.recv(&mut buffer).unwrap();
            assert!(buffer[..length].ends_with(expected.as_bytes()));
        }
    }
}
