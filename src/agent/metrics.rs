//! Counts of what the agent did, for `/metrics` and `status`.
//!
//! Labels are names of the configuration and classes of status, never anything a caller chooses, so
//! that nobody can make the counters grow without bound.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;

use crate::agent::serve::Counts;
use crate::agent::status::{ConnectionStatus, LinkStatus};

/// The label of calls to upstreams that are not configured.
const UNKNOWN_UPSTREAM: &str = "(unknown)";

/// What is told of every connection's link; the label is the connection's name.
const LINK_SERIES: [LinkSeries; 4] = [
    LinkSeries {
        name: "relay_agent_link_up",
        kind: "gauge",
        help: "Whether the connection's link is online.",
        value: |link| u64::from(link.is_online()),
    },
    LinkSeries {
        name: "relay_agent_link_away",
        kind: "gauge",
        help: "Whether the link has lost its WebSocket and is kept, with its calls, until there is another.",
        value: |link| u64::from(link.is_away()),
    },
    LinkSeries {
        name: "relay_agent_link_resumed_total",
        kind: "counter",
        help: "How often a link went on over another WebSocket since the start, with its calls.",
        value: |link| link.resumed,
    },
    LinkSeries {
        name: "relay_agent_links_made_total",
        kind: "counter",
        help: "Links made since the start; one that goes on over another WebSocket counts once.",
        value: |link| link.links_made,
    },
];

/// One figure of every link.
struct LinkSeries {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&LinkStatus) -> u64,
}

/// Answers counted by upstream and class of status.
#[derive(Debug, Default)]
pub struct Metrics {
    calls: Mutex<BTreeMap<(String, u16), u64>>,
}

impl Metrics {
    /// Counts one answer. `upstream` is `None` when the call named no upstream of the configuration.
    pub fn count_call(&self, upstream: Option<&str>, status: StatusCode) {
        let upstream = upstream.unwrap_or(UNKNOWN_UPSTREAM).to_owned();
        let class = status.as_u16() / 100;
        let mut calls = self.lock();
        let count = calls.entry((upstream, class)).or_default();
        *count = count.saturating_add(1);
    }

    /// The answers of one upstream by class of status, such as `2xx`.
    #[must_use]
    pub fn calls_of(&self, upstream: &str) -> BTreeMap<String, u64> {
        self.lock()
            .iter()
            .filter(|((name, _), _)| name == upstream)
            .map(|((_, class), count)| (format!("{class}xx"), *count))
            .collect()
    }

    /// Everything in the text format of Prometheus.
    #[must_use]
    pub fn to_text(&self, connections: &[ConnectionStatus]) -> String {
        let mut text = String::new();
        for series in LINK_SERIES {
            let (name, kind) = (series.name, series.kind);
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", series.help);
            for connection in connections {
                let (label, value) = (escape(&connection.name), (series.value)(&connection.link));
                let _ = writeln!(text, "{name}{{connection=\"{label}\"}} {value}");
            }
        }
        text.push_str(
            "# HELP relay_agent_calls_total Calls answered, by upstream and class of status.\n\
             # TYPE relay_agent_calls_total counter\n",
        );
        for ((upstream, class), count) in self.lock().iter() {
            let upstream = escape(upstream);
            let _ = writeln!(
                text,
                "relay_agent_calls_total{{upstream=\"{upstream}\",status=\"{class}xx\"}} {count}"
            );
        }
        text
    }

    /// A panic while counting leaves counts that are still counts.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u16), u64>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What candidate rules have said, in the same format; nothing where none are tried.
pub fn candidate_to_text<'a>(observed: impl Iterator<Item = (&'a str, Counts)>) -> String {
    let mut text = String::new();
    for (upstream, counts) in observed {
        if text.is_empty() {
            text.push_str(
                "# HELP relay_agent_candidate_calls_total Calls that passed, by what candidate rules would have decided.\n\
                 # TYPE relay_agent_candidate_calls_total counter\n",
            );
        }
        let upstream = escape(upstream);
        for (verdict, count) in [
            ("allowed", counts.allowed),
            ("denied", counts.denied),
            ("undecided", counts.undecided),
        ] {
            let _ = writeln!(
                text,
                "relay_agent_candidate_calls_total{{upstream=\"{upstream}\",verdict=\"{verdict}\"}} {count}"
            );
        }
    }
    text
}

/// A label's value, as the format wants it.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::agent::lifecycle::Phase;
    use crate::agent::state::tests::example;
    use crate::agent::status::LinkFacts;

    #[test]
    fn a_link_that_is_kept_without_a_websocket_is_told_from_one_that_is_down() {
        let figures = |phase: &Phase| {
            let facts = LinkFacts {
                links_made: 2,
                resumed: 7,
                ..LinkFacts::default()
            };
            let status = ConnectionStatus::of(&example("acme_to_widgets"), phase, &facts);
            let text = Metrics::default().to_text(&[status]);
            let figure = |name: &str| {
                let line = format!("relay_agent_{name}{{connection=\"acme_to_widgets\"}} ");
                let figure = text.lines().find_map(|one| one.strip_prefix(&line));
                figure.unwrap().parse::<u64>().unwrap()
            };
            assert_eq!(
                (figure("link_resumed_total"), figure("links_made_total")),
                (7, 2)
            );
            (figure("link_up"), figure("link_away"))
        };
        let (since, why) = (SystemTime::UNIX_EPOCH, "cut".to_owned());
        let away = Phase::Resuming {
            since,
            until: None,
            why: why.clone(),
            failures: 0,
        };
        let down = Phase::Waiting {
            until: since,
            why,
            failures: 0,
        };
        assert_eq!(figures(&Phase::Online { since }), (1, 0));
        assert_eq!(figures(&away), (0, 1));
        assert_eq!(figures(&down), (0, 0));
    }

    #[test]
    fn answers_are_counted_by_upstream_and_class() {
        let metrics = Metrics::default();
        metrics.count_call(Some("jira"), StatusCode::OK);
        metrics.count_call(Some("jira"), StatusCode::NO_CONTENT);
        metrics.count_call(Some("jira"), StatusCode::BAD_GATEWAY);
        metrics.count_call(None, StatusCode::NOT_FOUND);
        let calls = metrics.calls_of("jira");
        assert_eq!(calls.get("2xx"), Some(&2));
        assert_eq!(calls.get("5xx"), Some(&1));
        let text = metrics.to_text(&[]);
        assert!(text.contains("relay_agent_calls_total{upstream=\"jira\",status=\"2xx\"} 2\n"));
        assert!(
            text.contains("relay_agent_calls_total{upstream=\"(unknown)\",status=\"4xx\"} 1\n")
        );
    }
}
