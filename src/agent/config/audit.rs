//! `[audit]`: where every decision about a call is written down, and how long it is kept.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::config_file::Section;

/// The log's name in the state directory, unless configured otherwise.
const DEFAULT_NAME: &str = "audit.jsonl";
/// A file is put aside beyond this: a quarter of a million calls, which editors still open.
pub(super) const DEFAULT_MAX_SIZE: u64 = 128 * 1024 * 1024;
/// Smaller files would be more rotation than log; larger ones no tool likes.
const MAX_SIZE: std::ops::RangeInclusive<u64> = 64 * 1024..=64 * 1024 * 1024 * 1024;
/// A file is put aside once it is so old: one for each day.
pub(super) const DEFAULT_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_AGE: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(366 * 24 * 60 * 60);
/// Files put aside that are kept: three months where a day fits into one file, and 11 GiB at most.
pub(super) const DEFAULT_KEEP: usize = 90;
const MAX_KEEP: usize = 100_000;

/// The audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// The file that lines are appended to.
    pub file: PathBuf,
    /// The length at which it is put aside, in bytes.
    pub max_size: u64,
    /// The age at which it is put aside.
    pub max_age: Duration,
    /// How many of the files put aside are kept.
    pub keep: usize,
    /// What must be on the disk when.
    pub sync: Sync,
    /// Further targets, which never keep a call from being made.
    pub also: Vec<Also>,
}

/// When what was written is on the disk. A crash or a kill of the agent loses nothing either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// A second later: a power cut may take the last second.
    Second,
    /// Before an answer goes out: every call waits for the disk.
    Always,
}

/// A further target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Also {
    /// The journal of systemd.
    Journald,
    /// The syslog daemon of this machine.
    Syslog,
}

impl AuditConfig {
    pub(super) fn check(mut section: Section<'_>, state_dir: &Path) -> Self {
        Self {
            enabled: section.boolean("enabled", true),
            file: section.path_or("file", state_dir.join(DEFAULT_NAME)),
            max_size: check_size(&mut section),
            max_age: section.duration("max_age", DEFAULT_MAX_AGE, MAX_AGE),
            keep: section.number("keep", DEFAULT_KEEP as i64, 1..=MAX_KEEP as i64) as usize,
            sync: section.choice(
                "sync",
                &[("second", Sync::Second), ("always", Sync::Always)],
                Sync::Second,
            ),
            also: check_also(&mut section),
        }
    }
}

fn check_size(section: &mut Section<'_>) -> u64 {
    match section.optional_parsed("max_size") {
        None => DEFAULT_MAX_SIZE,
        Some(Size(bytes)) if MAX_SIZE.contains(&bytes) => bytes,
        Some(Size(_)) => {
            section.mistake(
                "max_size",
                "is out of range",
                "write a size from \"64 KiB\" to \"64 GiB\"",
            );
            DEFAULT_MAX_SIZE
        }
    }
}

fn check_also(section: &mut Section<'_>) -> Vec<Also> {
    let words = section.strings("also");
    let mut also = Vec::new();
    for word in words {
        let target = match word.as_str() {
            "journald" => Also::Journald,
            "syslog" => Also::Syslog,
            _ => {
                let problem = format!("names {word:?}, which is no target");
                section.mistake("also", problem, "write journald, syslog or both");
                continue;
            }
        };
        if !also.contains(&target) {
            also.push(target);
        }
    }
    also
}

/// A number of bytes such as `128 MiB`.
pub(super) struct Size(pub(super) u64);

#[derive(Debug, thiserror::Error)]
#[error("write a number and KiB, MiB or GiB, for instance \"128 MiB\"")]
pub(super) struct NotASize;

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let digits = text
            .find(|it: char| !it.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit: u64 = match unit.trim() {
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(NotASize),
        };
        let number: u64 = number.parse().map_err(|_| NotASize)?;
        number.checked_mul(unit).map(Self).ok_or(NotASize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::tests::read;

    #[test]
    fn there_is_a_log_unless_somebody_says_otherwise() {
        let audit = read("state_dir = '/s'").unwrap().audit;
        assert_eq!(
            audit,
            AuditConfig {
                enabled: true,
                file: "/s/audit.jsonl".into(),
                max_size: DEFAULT_MAX_SIZE,
                max_age: DEFAULT_MAX_AGE,
                keep: DEFAULT_KEEP,
                sync: Sync::Second,
                also: Vec::new(),
            }
        );
        assert!(!read("[audit]\nenabled = false").unwrap().audit.enabled);
    }

    #[test]
    fn every_key_is_read() {
        let audit = read(
            "[audit]\nfile = '/log/a'\nmax_size = '5 GiB'\nmax_age = '1h'\nkeep = 3\n\
             sync = 'always'\nalso = ['syslog', 'journald', 'syslog']",
        );
        let audit = audit.unwrap().audit;
        assert_eq!((audit.max_size, audit.keep), (5 << 30, 3));
        assert_eq!(audit.max_age, Duration::from_secs(3600));
        assert_eq!(audit.sync, Sync::Always);
        assert_eq!(audit.also, [Also::Syslog, Also::Journald]);
    }

    #[test]
    fn mistakes_are_told_with_their_remedies() {
        let text = read(
            "[audit]\nfile = 'a'\nmax_size = '5 MB'\nmax_age = '1s'\nkeep = -1\nsync = 'never'\nalso = ['mail']",
        )
        .unwrap_err();
        for key in ["file", "max_size", "max_age", "keep", "sync", "also"] {
            assert!(
                text.contains(&format!("audit.{key}")),
                "{key} not in\n{text}"
            );
        }
        assert!(read("[audit]\nmax_size = '1 KiB'").is_err());
    }
}
