//! Counts of what the agent did, for `/metrics` and `status`.
//!
//! Labels are names of the configuration and classes of status, never anything a caller chooses, so
//! that nobody can make the counters grow without bound.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;

use crate::agent::status::ConnectionStatus;

/// The label of calls to upstreams that are not configured.
const UNKNOWN_UPSTREAM: &str = "(unknown)";

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
        let mut text = String::from(
            "# HELP relay_agent_link_up Whether the connection's link is online.\n\
             # TYPE relay_agent_link_up gauge\n",
        );
        for connection in connections {
            let up = u8::from(connection.link.is_online());
            let name = escape(&connection.name);
            let _ = writeln!(text, "relay_agent_link_up{{connection=\"{name}\"}} {up}");
        }
        text.push_str(
            "# HELP relay_agent_links_made_total Links made since the start; more than one is a reconnect.\n\
             # TYPE relay_agent_links_made_total counter\n",
        );
        for connection in connections {
            let (name, made) = (escape(&connection.name), connection.link.links_made);
            let _ = writeln!(
                text,
                "relay_agent_links_made_total{{connection=\"{name}\"}} {made}"
            );
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

/// A label's value, as the format wants it.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

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
