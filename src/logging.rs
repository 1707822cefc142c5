//! Log lines: as text, as JSON, or straight to the journal, with a level that changes while running.
//!
//! The level law: *error*, someone must act; *warn*, someone may have to; *info*, what an operator
//! wants to have seen next morning; *debug* and *trace*, for us. Bodies, header values and secrets are
//! never logged. The libraries below us speak from *warn* on only, whatever the level, because at
//! *trace* they would print headers.

mod level;
mod text;

use std::io;

use tracing::Subscriber;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Registry, reload};

pub use self::level::{LevelChange, LogHandle, LogLevel, OddTime, TIME_RANGE, UnknownLevel};

use self::text::{TextEvent, TextFields, Timestamp};

/// What the modules of this crate are called in log lines.
const OUR_TARGET: &str = "relay_agent";

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

impl LogFormat {
    /// All formats with their names.
    pub const CHOICES: [(&'static str, Self); 3] = [
        ("text", Self::Text),
        ("json", Self::Json),
        ("journald", Self::Journald),
    ];
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
    (filter, LogHandle::new(level, Some(handle)))
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
    use std::sync::{Arc, Mutex};

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
            handle.configure(LogLevel::Debug);
            assert_eq!(handle.level(), LogLevel::Debug);
            speak(2);
            handle.configure(LogLevel::Error);
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
}
