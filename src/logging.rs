//! Log lines: as text, as JSON, or straight to the journal, with a level that changes while running.
//!
//! The level law: *error*, someone must act; *warn*, someone may have to; *info*, what an operator
//! wants to have seen next morning; *debug* and *trace*, for us. Bodies, header values and secrets are
//! never logged. The libraries below us speak from *warn* on only, whatever the level, because at
//! *trace* they would print headers.

mod text;

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Registry, reload};

use self::text::{TextEvent, TextFields, Timestamp};

/// What the modules of this crate are called in log lines.
const OUR_TARGET: &str = "relay_agent";

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

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people, on standard error.
    Text,
    /// One JSON object a line, on standard error.
    Json,
    /// Straight to the journal, with each field as a field.
    Journald,
}

/// A text that is none of the levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the levels are error, warn, info, debug and trace")]
pub struct UnknownLevel;

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The journal was asked for and is not there.
    #[error("could not reach the journal")]
    Journal(#[source] io::Error),
    /// Something in this process logs already.
    #[error("logging has already been set up")]
    Already,
}

/// Changes the level of a running program. Clones change the same one.
#[derive(Debug, Clone)]
pub struct LogHandle {
    level: Arc<Mutex<LogLevel>>,
    filter: Option<reload::Handle<Targets, Registry>>,
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
    fn filter(self) -> Targets {
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

impl LogFormat {
    /// All formats with their names.
    pub const CHOICES: [(&'static str, Self); 3] = [
        ("text", Self::Text),
        ("json", Self::Json),
        ("journald", Self::Journald),
    ];
}

impl LogHandle {
    /// A handle that changes nothing but what [`level`](Self::level) says, for a daemon inside another program.
    #[must_use]
    pub fn detached(level: LogLevel) -> Self {
        Self {
            level: Arc::new(Mutex::new(level)),
            filter: None,
        }
    }

    /// The level now.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs at another level from now on.
    pub fn set_level(&self, level: LogLevel) {
        let mut current = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = &self.filter {
            // Fails only once the subscriber is gone, and with it every log line.
            filter.reload(level.filter()).unwrap_or_default();
        }
        *current = level;
    }
}

/// Begins to log, for the whole process.
///
/// Text has no timestamps where standard error is the journal, which has its own; there the level goes
/// along as a syslog priority instead, so that `journalctl -p` works.
///
/// # Errors
/// When logging was set up before, or the journal was asked for and is not there.
pub fn init(level: LogLevel, format: LogFormat) -> Result<LogHandle, LogError> {
    let (filter, handle) = filter_at(level);
    let set = match format {
        LogFormat::Text => {
            let timestamp =
                if text::is_journal(io::stderr(), std::env::var_os("JOURNAL_STREAM").as_deref()) {
                    Timestamp::PriorityInstead
                } else {
                    Timestamp::Shown
                };
            tracing::subscriber::set_global_default(as_text(filter, timestamp, io::stderr))
        }
        LogFormat::Json => tracing::subscriber::set_global_default(as_json(filter, io::stderr)),
        LogFormat::Journald => {
            let journal = tracing_journald::layer().map_err(LogError::Journal)?;
            let priorities = PriorityMappings {
                info: Priority::Informational,
                debug: Priority::Debug,
                ..PriorityMappings::new()
            };
            let journal = journal
                .with_field_prefix(None)
                .with_priority_mappings(priorities);
            let subscriber = tracing_subscriber::registry().with(filter).with(journal);
            tracing::subscriber::set_global_default(subscriber)
        }
    };
    set.map_err(|_| LogError::Already)?;
    Ok(handle)
}

type Filter = reload::Layer<Targets, Registry>;

fn filter_at(level: LogLevel) -> (Filter, LogHandle) {
    let (filter, handle) = reload::Layer::new(level.filter());
    let level = Arc::new(Mutex::new(level));
    (
        filter,
        LogHandle {
            level,
            filter: Some(handle),
        },
    )
}

fn as_text<W>(filter: Filter, timestamp: Timestamp, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .fmt_fields(TextFields)
        .event_format(TextEvent(timestamp))
        // It would panic where standard error is closed.
        .log_internal_errors(false)
        .with_writer(writer);
    tracing_subscriber::registry().with(filter).with(lines)
}

fn as_json<W>(filter: Filter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true)
        .log_internal_errors(false)
        .with_writer(writer);
    tracing_subscriber::registry().with(filter).with(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is logged while `speak` runs.
    fn heard(level: LogLevel, format: LogFormat, speak: impl FnOnce(&LogHandle)) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        let writer = move || Line(Arc::clone(&writer));
        let (filter, handle) = filter_at(level);
        match format {
            LogFormat::Text | LogFormat::Journald => {
                let subscriber = as_text(filter, Timestamp::PriorityInstead, writer);
                tracing::subscriber::with_default(subscriber, || speak(&handle));
            }
            LogFormat::Json => {
                let subscriber = as_json(filter, writer);
                tracing::subscriber::with_default(subscriber, || speak(&handle));
            }
        }
        String::from_utf8(lines.lock().unwrap().clone()).unwrap()
    }

    struct Line(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Line {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_text_line_has_the_message_then_the_fields_then_those_of_the_spans() {
        let text = heard(LogLevel::Info, LogFormat::Text, |_| {
            let outer = tracing::info_span!("connection", name = "acme").entered();
            let inner = tracing::info_span!("link", attempt = 3).entered();
            tracing::info!(relay = %"https://r", reason = "two words", "link up");
            drop((outer, inner));
        });
        assert_eq!(
            text,
            "<6>INFO link up relay=https://r reason=\"two words\" name=acme attempt=3\n"
        );
    }

    #[test]
    fn an_error_is_shown_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("could not dial")]
        struct Dial(#[source] io::Error);
        let text = heard(LogLevel::Info, LogFormat::Text, |_| {
            let error = Dial(io::Error::other("refused"));
            tracing::warn!(error = &error as &dyn std::error::Error, "link down");
        });
        assert_eq!(
            text,
            "<4>WARN link down error=\"could not dial: refused\"\n"
        );
    }

    #[test]
    fn nothing_said_can_forge_a_line_a_field_or_an_escape_sequence() {
        let evil = "\u{1b}[31mx\r\nERROR forged\u{202e} a=\"b\"";
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = heard(LogLevel::Info, format, |_| {
                tracing::info!(shown = evil, debugged = ?evil, displayed = %evil, "{evil}");
            });
            assert_eq!(text.lines().count(), 1, "{text}");
            let mut characters = text.trim_end().chars();
            assert!(!characters.any(char::is_control), "{text:?}");
        }
        let text = heard(LogLevel::Info, LogFormat::Text, |_| {
            tracing::info!(caller = "x level=error", "hello");
        });
        assert_eq!(text, "<6>INFO hello caller=\"x level=error\"\n");
    }

    #[test]
    fn json_lines_are_json() {
        let text = heard(LogLevel::Info, LogFormat::Json, |_| {
            tracing::info!(connection = "acme", "link up");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "link up");
        assert_eq!(line["connection"], "acme");
        assert_eq!(line["level"], "INFO");
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn the_level_changes_while_running() {
        let text = heard(LogLevel::Info, LogFormat::Text, |handle| {
            let speak = |n: u8| tracing::debug!(n, "detail");
            speak(1);
            handle.set_level(LogLevel::Debug);
            assert_eq!(handle.level(), LogLevel::Debug);
            speak(2);
            handle.set_level(LogLevel::Error);
            speak(3);
            tracing::warn!("hidden");
        });
        assert_eq!(text, "<7>DEBUG relay_agent::logging::tests: detail n=2\n");
    }

    #[test]
    fn libraries_are_quiet_at_every_level() {
        let text = heard(LogLevel::Trace, LogFormat::Text, |_| {
            tracing::trace!(target: "h2::codec", "authorization: Bearer secret");
            tracing::warn!(target: "h2::codec", "odd");
        });
        assert_eq!(text, "<4>WARN h2::codec: odd\n");
    }

    #[test]
    fn level_names_are_read_as_they_are_written() {
        for (name, level) in LogLevel::CHOICES {
            assert_eq!(name.parse(), Ok(level));
            assert_eq!(level.to_string(), name);
        }
        assert_eq!("loud".parse::<LogLevel>(), Err(UnknownLevel));
    }
}
