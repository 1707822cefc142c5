//! The page that a Prometheus reads, in its text format 0.0.4 or as OpenMetrics 1.0, as it asks.
//!
//! The two differ in names of counters' families, in the last line and in little else. Own code rather than a
//! library's, because those at hand write one of the two, and want the figures kept their way.

use std::fmt::{Display, Write as _};

use super::histogram::{BOUNDS, Counted};

const MICROS: f64 = 1e6;

/// How the page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// What kind of figures a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only grow; a restart sets them back to zero. Their samples end in `_total`.
    Counter,
    /// They grow and shrink.
    Gauge,
    /// Counts by classes.
    Histogram,
}

/// A label: its name and value.
pub type Label<'a> = (&'a str, &'a str);

/// A page on its way.
#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
}

/// The figures of one name on a page.
#[derive(Debug)]
pub struct Family<'page> {
    text: &'page mut String,
    name: &'static str,
    kind: Kind,
}

impl Format {
    /// The format that an `Accept` header asks for; Prometheus's own where it asks for neither.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let weight_of = |wanted: &[&str]| {
            let ranges = accept.unwrap_or_default().split(',');
            let weights = ranges.filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next().unwrap_or_default();
                let weight = parts.find_map(|part| part.strip_prefix("q="));
                let weight = weight.map_or(Some(1.0), |weight| weight.parse().ok());
                weight.filter(|_| wanted.contains(&media))
            });
            weights.fold(0.0, f64::max)
        };
        let open_metrics = weight_of(&["application/openmetrics-text"]);
        if open_metrics > 0.0 && open_metrics >= weight_of(&["text/plain", "text/*"]) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// What the page says of itself.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Page {
    /// An empty page.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self {
            format,
            text: String::new(),
        }
    }

    /// Begins a family. `name` is without `_total`, which counters get by themselves.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let (word, suffix) = match (kind, self.format) {
            (Kind::Counter, Format::Prometheus) => ("counter", "_total"),
            (Kind::Counter, Format::OpenMetrics) => ("counter", ""),
            (Kind::Gauge, _) => ("gauge", ""),
            (Kind::Histogram, _) => ("histogram", ""),
        };
        let _ = writeln!(self.text, "# HELP {name}{suffix} {}", escape(help));
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {word}");
        Family {
            text: &mut self.text,
            name,
            kind,
        }
    }

    /// The whole page.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

impl Family<'_> {
    /// One figure.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl Display) -> &mut Self {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.line(suffix, labels, None, value);
        self
    }

    /// One histogram, in seconds.
    pub fn histogram(&mut self, labels: &[Label<'_>], counted: &Counted) -> &mut Self {
        let mut so_far = 0;
        for (bound, count) in BOUNDS.iter().zip(&counted.classes) {
            so_far += count;
            // With a point always, so that a class has one name in both formats.
            let bound = format!("{:?}", seconds(*bound));
            self.line("_bucket", labels, Some(("le", &bound)), so_far);
        }
        self.line("_bucket", labels, Some(("le", "+Inf")), counted.count());
        self.line("_sum", labels, None, seconds(counted.sum));
        self.line("_count", labels, None, counted.count());
        self
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[Label<'_>],
        last: Option<Label<'_>>,
        value: impl Display,
    ) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        let mut before = '{';
        for (name, value) in labels.iter().chain(&last) {
            let _ = write!(self.text, "{before}{name}=\"{}\"", escape(value));
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Microseconds in seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "a sum of 2^53 µs is 285 years; beyond it the last digits matter to nobody"
)]
fn seconds(micros: u64) -> f64 {
    micros as f64 / MICROS
}

/// A label's value or a help text, as both formats want it; other control characters are left out.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::histogram::Histogram;
    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        page.family("x_calls", Kind::Counter, "Calls.")
            .sample(&[("a", "b\"\\\n\x1bc")], 2)
            .sample(&[], 3);
        page.family("x_up", Kind::Gauge, "Up.").sample(&[], 1);
        page.finish()
    }

    #[test]
    fn a_counter_has_the_family_name_that_each_format_wants() {
        let prometheus = "# HELP x_calls_total Calls.\n\
             # TYPE x_calls_total counter\n\
             x_calls_total{a=\"b\\\"\\\\\\nc\"} 2\n\
             x_calls_total 3\n\
             # HELP x_up Up.\n\
             # TYPE x_up gauge\n\
             x_up 1\n";
        assert_eq!(page(Format::Prometheus), prometheus);
        let open_metrics = prometheus
            .replace("HELP x_calls_total", "HELP x_calls")
            .replace("TYPE x_calls_total", "TYPE x_calls");
        assert_eq!(page(Format::OpenMetrics), format!("{open_metrics}# EOF\n"));
    }

    #[test]
    fn a_histogram_adds_up() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(3));
        histogram.record(Duration::from_secs(1));
        histogram.record(Duration::from_secs(100));
        let mut page = Page::new(Format::Prometheus);
        page.family("x_seconds", Kind::Histogram, "X.")
            .histogram(&[("u", "jira")], &histogram.counted());
        let text = page.finish();
        for line in [
            "x_seconds_bucket{u=\"jira\",le=\"0.0025\"} 0",
            "x_seconds_bucket{u=\"jira\",le=\"0.005\"} 1",
            "x_seconds_bucket{u=\"jira\",le=\"1.0\"} 2",
            "x_seconds_bucket{u=\"jira\",le=\"60.0\"} 2",
            "x_seconds_bucket{u=\"jira\",le=\"+Inf\"} 3",
            "x_seconds_sum{u=\"jira\"} 101.003",
            "x_seconds_count{u=\"jira\"} 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}:\n{text}");
        }
    }

    #[test]
    fn the_reader_says_which_format_it_wants() {
        let of = |accept| Format::accepted(Some(accept));
        assert_eq!(Format::accepted(None), Format::Prometheus);
        assert_eq!(of("*/*"), Format::Prometheus);
        assert_eq!(of("text/plain"), Format::Prometheus);
        assert_eq!(
            of(
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
            ),
            Format::OpenMetrics
        );
        assert_eq!(
            of("application/openmetrics-text;q=0.1,text/plain;q=0.9"),
            Format::Prometheus
        );
        assert_eq!(of("application/openmetrics-text;q=0"), Format::Prometheus);
    }
}
