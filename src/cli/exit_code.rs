//! Every exit code of both programs, and the one short paragraph that goes with a failure.
//!
//! The numbers are those of sysexits(3), so that scripts and systemd's `RestartPreventExitStatus`
//! can act on them. No other code is ever used, but for the four of `status --check`, which monitors know.

use std::fmt;
use std::process;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// 0: done.
    Ok,
    /// 1: `status --check` has a warning.
    CheckWarning,
    /// 2: `status --check` has something critical.
    CheckCritical,
    /// 3: `status --check` could not find out.
    CheckUnknown,
    /// 64: the command line was not understood, or needs an answer that nobody can give here.
    Usage,
    /// 65: what was given is damaged: a malformed or mistyped invitation.
    BadData,
    /// 69: the far side, or the daemon, is not there.
    Unavailable,
    /// 70: a defect of this program, or a machine that is unfit.
    Internal,
    /// 73: something could not be written: state directory, key, socket.
    CannotWrite,
    /// 75: nothing is wrong for good; try again later.
    TryAgain,
    /// 77: refused: an invitation used, expired or revoked; an operation not permitted.
    NotPermitted,
    /// 78: the configuration has mistakes.
    Configuration,
}

impl ExitCode {
    /// All of them, in order, for the documentation.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::CheckWarning,
        Self::CheckCritical,
        Self::CheckUnknown,
        Self::Usage,
        Self::BadData,
        Self::Unavailable,
        Self::Internal,
        Self::CannotWrite,
        Self::TryAgain,
        Self::NotPermitted,
        Self::Configuration,
    ];

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::CheckWarning => 1,
            Self::CheckCritical => 2,
            Self::CheckUnknown => 3,
            Self::Usage => 64,
            Self::BadData => 65,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::CannotWrite => 73,
            Self::TryAgain => 75,
            Self::NotPermitted => 77,
            Self::Configuration => 78,
        }
    }

    /// What it means, for `--help` and the manual page.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::CheckWarning => "status --check: a warning",
            Self::CheckCritical => "status --check: something critical, or the daemon does not run",
            Self::CheckUnknown => "status --check: it could not be found out",
            Self::Usage => "the command line was not understood",
            Self::BadData => "malformed or mistyped data, such as an invitation code",
            Self::Unavailable => "the far side or the daemon cannot be reached",
            Self::Internal => "a defect of this program, or a machine that is unfit",
            Self::CannotWrite => "something could not be written",
            Self::TryAgain => "a passing trouble; try again later",
            Self::NotPermitted => "refused: used, expired, revoked, removed or not permitted",
            Self::Configuration => "the configuration has mistakes",
        }
    }

    /// The table of all codes, one a line, for `--help`.
    #[must_use]
    pub fn table() -> String {
        let lines: Vec<String> = Self::ALL
            .iter()
            .map(|code| format!("  {:>2}  {}", code.number(), code.meaning()))
            .collect();
        format!("Exit codes:\n{}", lines.join("\n"))
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

/// A command that failed: what failed and why, what to do, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The program's exit code.
    pub code: ExitCode,
    /// What failed and why: a fragment without full stop.
    pub problem: String,
    /// What to do: one or more whole sentences; empty when there is nothing to be done.
    pub remedy: String,
}

impl Failure {
    /// A failure with its remedy.
    pub fn new(code: ExitCode, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// An exit code of which everything has been said already.
    #[must_use]
    pub const fn silent(code: ExitCode) -> Self {
        Self {
            code,
            problem: String::new(),
            remedy: String::new(),
        }
    }

    /// Whether nothing is left to be said.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.problem.is_empty()
    }
}

impl fmt::Display for Failure {
    /// One short paragraph: `what failed: why. What to do.`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = self.problem.trim_end_matches('.');
        if self.remedy.is_empty() {
            let stop = if problem.ends_with('?') { "" } else { "." };
            write!(f, "{problem}{stop}")
        } else {
            write!(f, "{problem}. {}", self.remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_number_and_stands_in_the_table() {
        let table = ExitCode::table();
        let mut numbers: Vec<u8> = ExitCode::ALL.iter().map(|code| code.number()).collect();
        for code in ExitCode::ALL {
            assert!(table.contains(&format!("{:>2}  {}", code.number(), code.meaning())));
        }
        numbers.dedup();
        assert_eq!(numbers.len(), ExitCode::ALL.len());
    }

    #[test]
    fn a_failure_reads_as_one_paragraph() {
        let failure = Failure::new(ExitCode::TryAgain, "the relay is busy", "Try again.");
        assert_eq!(failure.to_string(), "the relay is busy. Try again.");
        let failure = Failure::new(ExitCode::TryAgain, "the relay is busy", "");
        assert_eq!(failure.to_string(), "the relay is busy.");
    }
}
