//! How much is logged, and changing it while the program runs: for good, or for a time.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Registry, reload};

use super::OUR_TARGET;

/// For how long another level may be set: a shorter time shows nothing, and who wants more than a week writes it into
/// the configuration.
pub const TIME_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

/// How much is logged. The names are those of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LogLevel {
    /// Only what someone must act on.
    Error,
    /// And what someone may have to act on.
    Warn,
    /// And what an operator wants to have seen.
    Info,
    /// And what helps to find out why.
    Debug,
    /// And every step.
    Trace,
}

/// A text that is none of the levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the levels are error, warn, info, debug and trace")]
pub struct UnknownLevel;

/// The wish for another level, as both admin sockets take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct LevelChange {
    /// The level.
    pub level: LogLevel,
    /// For how long; without it, until the next reload or restart.
    pub time: Option<Duration>,
}

/// The same as it is written: the time as people write it, such as `10m`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    level: LogLevel,
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
}

/// A time that no level can be set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a level is set for a time between 1s and 7days")]
pub struct OddTime;

/// Changes the level of a running program. Clones change the same one.
#[derive(Debug, Clone)]
pub struct LogHandle {
    levels: Arc<Mutex<Levels>>,
    filter: Option<reload::Handle<Targets, Registry>>,
}

#[derive(Debug)]
struct Levels {
    now: LogLevel,
    /// What is logged when the time of another level is over.
    lasting: LogLevel,
    is_for_a_time: bool,
    /// Counted, so that the end of a time ends nothing that was said later.
    changes: u64,
}

impl LogLevel {
    /// All levels with their names, from the fewest lines to the most.
    pub const CHOICES: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The level's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// Which lines pass: ours by this level, others' from *warn* on.
    pub(super) fn filter(self) -> Targets {
        let ours = match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        };
        let others = ours.min(LevelFilter::WARN);
        Targets::new()
            .with_target(OUR_TARGET, ours)
            .with_default(others)
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for LogLevel {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let found = Self::CHOICES.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, level)| level).ok_or(UnknownLevel)
    }
}

impl TryFrom<String> for LogLevel {
    type Error = UnknownLevel;

    fn try_from(text: String) -> Result<Self, UnknownLevel> {
        text.parse()
    }
}

impl From<LogLevel> for String {
    fn from(level: LogLevel) -> Self {
        level.as_str().to_owned()
    }
}

impl TryFrom<Written> for LevelChange {
    type Error = humantime::DurationError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let time = written.time.map(|text| humantime::parse_duration(&text));
        Ok(Self {
            level: written.level,
            time: time.transpose()?,
        })
    }
}

impl From<LevelChange> for Written {
    fn from(change: LevelChange) -> Self {
        let time = change.time.map(humantime::format_duration);
        Self {
            level: change.level,
            time: time.map(|time| time.to_string()),
        }
    }
}

impl LevelChange {
    /// What became of it, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let level = self.level;
        match self.time {
            Some(time) => {
                let time = humantime::format_duration(time);
                format!("The log level is {level} for {time}, then what it was before.\n")
            }
            None => {
                format!("The log level is {level} until the daemon is restarted or reloaded.\n")
            }
        }
    }
}

impl LogHandle {
    /// A handle that changes nothing but what [`level`](Self::level) says, for a daemon inside another program.
    #[must_use]
    pub fn detached(level: LogLevel) -> Self {
        Self::new(level, None)
    }

    pub(super) fn new(level: LogLevel, filter: Option<reload::Handle<Targets, Registry>>) -> Self {
        let levels = Levels {
            now: level,
            lasting: level,
            is_for_a_time: false,
            changes: 0,
        };
        Self {
            levels: Arc::new(Mutex::new(levels)),
            filter,
        }
    }

    /// The level now.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        self.levels().now
    }

    /// Logs as the configuration says from now on, or once the time of another level is over.
    pub fn configure(&self, level: LogLevel) {
        let mut levels = self.levels();
        levels.lasting = level;
        if !levels.is_for_a_time {
            self.set(&mut levels, level);
        }
    }

    /// Logs at another level from now on: for good, or for a time and then as before. With a time, must be called
    /// within a runtime.
    ///
    /// # Errors
    /// When the time is not in [`TIME_RANGE`].
    pub fn change(&self, change: LevelChange) -> Result<(), OddTime> {
        if !change.time.is_none_or(|time| TIME_RANGE.contains(&time)) {
            return Err(OddTime);
        }
        let mut levels = self.levels();
        levels.changes += 1;
        levels.is_for_a_time = change.time.is_some();
        self.set(&mut levels, change.level);
        match change.time {
            None => levels.lasting = change.level,
            Some(time) => {
                let (this, number) = (self.clone(), levels.changes);
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    this.time_is_over(number);
                });
            }
        }
        drop(levels);
        let time = change.time.map(humantime::format_duration);
        tracing::info!(
            level = change.level.as_str(),
            time = time.map(tracing::field::display),
            "the log level was changed"
        );
        Ok(())
    }

    fn time_is_over(&self, number: u64) {
        let mut levels = self.levels();
        if levels.changes != number {
            return;
        }
        levels.is_for_a_time = false;
        let level = levels.lasting;
        self.set(&mut levels, level);
        drop(levels);
        tracing::info!(level = level.as_str(), "the log level is as before again");
    }

    fn set(&self, levels: &mut Levels, level: LogLevel) {
        if let Some(filter) = &self.filter {
            // Fails only once the subscriber is gone, and with it every log line.
            filter.reload(level.filter()).unwrap_or_default();
        }
        levels.now = level;
    }

    fn levels(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn change(level: LogLevel, time: Option<Duration>) -> LevelChange {
        LevelChange { level, time }
    }

    #[test]
    fn level_names_are_read_as_they_are_written() {
        for (name, level) in LogLevel::CHOICES {
            assert_eq!(name.parse(), Ok(level));
            assert_eq!(level.to_string(), name);
        }
        assert_eq!("loud".parse::<LogLevel>(), Err(UnknownLevel));
    }

    #[test]
    fn a_change_is_read_as_it_is_written() {
        for (text, expected) in [
            (r#"{"level":"debug"}"#, change(LogLevel::Debug, None)),
            (
                r#"{"level":"trace","for":"1m 30s"}"#,
                change(LogLevel::Trace, Some(90 * SECOND)),
            ),
        ] {
            assert_eq!(serde_json::from_str::<LevelChange>(text).unwrap(), expected);
            assert_eq!(serde_json::to_string(&expected).unwrap(), text);
        }
        for text in [
            r#"{"level":"loud"}"#,
            r#"{"level":"info","for":"soon"}"#,
            r#"{"level":"info","four":"1s"}"#,
        ] {
            assert!(serde_json::from_str::<LevelChange>(text).is_err(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_for_a_time_goes_back_by_itself() {
        let log = LogHandle::detached(LogLevel::Info);
        log.change(change(LogLevel::Trace, Some(600 * SECOND)))
            .unwrap();
        assert_eq!(log.level(), LogLevel::Trace);
        tokio::time::sleep(599 * SECOND).await;
        assert_eq!(log.level(), LogLevel::Trace);
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(log.level(), LogLevel::Info);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_time_ends_nothing_that_was_said_later() {
        let log = LogHandle::detached(LogLevel::Info);
        log.change(change(LogLevel::Trace, Some(10 * SECOND)))
            .unwrap();
        log.change(change(LogLevel::Debug, Some(30 * SECOND)))
            .unwrap();
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(log.level(), LogLevel::Debug);
        log.change(change(LogLevel::Warn, None)).unwrap();
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(log.level(), LogLevel::Warn);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_does_not_end_a_time_and_says_what_comes_after() {
        let log = LogHandle::detached(LogLevel::Info);
        log.change(change(LogLevel::Trace, Some(10 * SECOND)))
            .unwrap();
        log.configure(LogLevel::Warn);
        assert_eq!(log.level(), LogLevel::Trace);
        tokio::time::sleep(11 * SECOND).await;
        assert_eq!(log.level(), LogLevel::Warn);
        log.configure(LogLevel::Error);
        assert_eq!(log.level(), LogLevel::Error);
    }

    #[test]
    fn a_time_has_bounds() {
        let log = LogHandle::detached(LogLevel::Info);
        for time in [Duration::ZERO, Duration::from_secs(8 * 24 * 3600)] {
            assert_eq!(
                log.change(change(LogLevel::Trace, Some(time))),
                Err(OddTime)
            );
        }
        assert_eq!(log.level(), LogLevel::Info);
    }
}
