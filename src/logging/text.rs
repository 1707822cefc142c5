//! The text form of a log line: `2026-11-23T02:38:19.123Z WARN link down error="…" connection=acme`.
//!
//! A value never breaks out of its place: what is not plain is quoted, and control characters, escape
//! sequences and characters that turn text around are written as escapes.

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::AsFd;
use std::time::SystemTime;

use nix::sys::stat::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::OUR_TARGET;
use crate::error_chain::chain;

/// What a line begins with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Timestamp {
    /// The time in UTC.
    Shown,
    /// A syslog priority such as `<6>`, for a journal that keeps the time itself.
    PriorityInstead,
}

/// Whether a stream is connected to the journal, which systemd tells by its device and inode in
/// `JOURNAL_STREAM` (systemd.exec(5)).
pub(super) fn is_journal(stream: impl AsFd, variable: Option<&OsStr>) -> bool {
    let is_meant = |journal: &OsStr| {
        fstat(stream).is_ok_and(|stat| *journal == *format!("{}:{}", stat.st_dev, stat.st_ino))
    };
    variable.is_some_and(is_meant)
}

/// Writes one event as one line.
pub(super) struct TextEvent(pub(super) Timestamp);

impl<S> FormatEvent<S, TextFields> for TextEvent
where
    S: Subscriber + for<'l> LookupSpan<'l>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, TextFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = *metadata.level();
        match self.0 {
            Timestamp::Shown => {
                let now = SystemTime::now();
                write!(writer, "{} ", humantime::format_rfc3339_millis(now))?;
            }
            Timestamp::PriorityInstead => write!(writer, "<{}>", priority(level))?,
        }
        write!(writer, "{level}")?;
        let is_plain = level <= Level::INFO && metadata.target().starts_with(OUR_TARGET);
        if !is_plain {
            write!(writer, " {}:", metadata.target())?;
        }
        writer.write_char(' ')?;
        context.format_fields(writer.by_ref(), event)?;
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(fields) = span.extensions().get::<FormattedFields<TextFields>>()
                && !fields.is_empty()
            {
                write!(writer, " {fields}")?;
            }
        }
        writeln!(writer)
    }
}

/// Writes the fields of an event or a span: the message first, then `name=value`.
pub(super) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Fields {
            writer,
            is_first: true,
            result: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct Fields<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, text: &str) {
        let written = self.try_write(field, text);
        self.result = self.result.and(written);
    }

    fn try_write(&mut self, field: &Field, text: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        if field.name() == "message" {
            return write_escaped(&mut self.writer, text);
        }
        write!(self.writer, "{}=", field.name())?;
        if is_plain(text) {
            self.writer.write_str(text)
        } else {
            write!(self.writer, "{text:?}")
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, text: &str) {
        self.write(field, text);
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        self.write(field, &chain(error).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, &format!("{value:?}"));
    }
}

/// Whether a value can stand without quotes and still be one value.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
    !text.is_empty() && text.chars().all(plain)
}

/// Writes a message: as it is, but for characters that do not show.
fn write_escaped(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => writer.write_char(c)?,
            _ => write!(writer, "{}", c.escape_debug())?,
        }
    }
    Ok(())
}

/// The syslog priority (RFC 5424, section 6.2.1) of a level.
fn priority(level: Level) -> u8 {
    if level == Level::ERROR {
        3
    } else if level == Level::WARN {
        4
    } else if level == Level::INFO {
        6
    } else {
        7
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_stream_is_the_journal_only_when_systemd_means_this_one() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let this = format!("{}:{}", metadata.dev(), metadata.ino());
        assert!(is_journal(&file, Some(OsStr::new(&this))));
        assert!(!is_journal(&file, Some(OsStr::new(&format!("{this}0")))));
        assert!(!is_journal(&file, None));
    }

    #[test]
    fn only_values_without_an_ambiguity_go_unquoted() {
        for text in ["acme", "https://relay:8443/x?y", "10s", "conn_a-b"] {
            assert!(is_plain(text), "{text}");
        }
        for text in ["", "a b", "a=b", "\"a\"", "a\\b", "ä", "a\u{1b}"] {
            assert!(!is_plain(text), "{text}");
        }
    }
}
