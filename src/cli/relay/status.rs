//! `relay status`: whether all is well and what to do otherwise, and how many connections, links and calls there are.

use std::time::SystemTime;

use clap::Args;

use crate::cli::daemon::Daemon;
use crate::cli::exit_code::Failure;
use crate::cli::health::headline;
use crate::cli::output::printable;
use crate::cli::status::{How, Status};
use crate::cli::terminal::Look;
use crate::condition::Condition;
use crate::relay::api::views::StatusView;

/// `relay status`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// As JSON; docs/relay-status.schema.json describes it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    how: How,
}

impl Show {
    pub(super) async fn carry_out(self, relay: &Daemon) -> Result<(), Failure> {
        self.how.carry_out::<StatusView>(relay, self.json).await
    }
}

impl Status for StatusView {
    fn screen(&self, look: &Look, now: SystemTime) -> String {
        let mut text = headline(&self.conditions, &self.well(), look, now);
        text.push('\n');
        let counts = self.connections;
        for line in [
            format!(
                "{} {} on {}, since {}",
                self.software, self.status, self.listen, self.started_at
            ),
            format!("Public URL   {}", self.public_url),
            format!("Identity     {}", self.identity),
            format!(
                "Connections  {} active, {} pending, {} deactivated, {} removed by the far side",
                counts.active, counts.pending, counts.deactivated, counts.removed
            ),
            format!("Links        {} online", self.links_online),
            format!("Calls        {} under way", self.calls_in_flight),
            format!("Log level    {}", self.log_level),
        ] {
            text.push_str(&look.wrap_as_it_is(&printable(&line), "             "));
        }
        if let Some(successor) = self.successor {
            let line = match successor {
                true => "Successor    another process listens here now, and agents move to it",
                false => "Successor    none: nobody listens here until a relay is started",
            };
            text.push_str(&look.wrap_as_it_is(line, "             "));
        }
        text
    }

    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn well(&self) -> String {
        let counts = self.connections;
        let linked = counts.active + counts.deactivated;
        format!("{} of {linked} agents linked", self.links_online)
    }

    fn figures(&self) -> [(&'static str, String); 5] {
        let counts = self.connections;
        [
            ("active", counts.active.to_string()),
            ("pending", counts.pending.to_string()),
            ("links_up", self.links_online.to_string()),
            ("calls_in_flight", self.calls_in_flight.to_string()),
            ("conditions", self.conditions.len().to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::golden;
    use crate::condition::Severity;
    use crate::relay::api::views::CountsView;

    const TERMINAL: Look = Look {
        width: Some(80),
        height: Some(24),
        colours: false,
    };

    fn view(conditions: Vec<Condition>) -> StatusView {
        StatusView {
            version: 1,
            software: "relay-agent/0.1.0".to_owned(),
            status: "serving".to_owned(),
            stopping: None,
            successor: None,
            started_at: "2026-01-01T10:00:00Z".to_owned(),
            listen: "0.0.0.0:8443".to_owned(),
            public_url: "https://relay.example.com:8443".to_owned(),
            identity: "ed25519_".to_owned() + &"A".repeat(43),
            log_level: "info".to_owned(),
            connections: CountsView {
                active: 2,
                pending: 1,
                ..CountsView::default()
            },
            links_online: 2,
            calls_in_flight: 3,
            health: String::new(),
            conditions,
        }
    }

    fn absent() -> Condition {
        Condition {
            code: "agent-absent".to_owned(),
            severity: Severity::Critical,
            subject: "acme_to_widgets".to_owned(),
            text: "the agent is not linked, so calls fail: last seen at 2026-01-01T14:02:00Z"
                .to_owned(),
            remedy: "Ask the far side's admin to run: agent status".to_owned(),
            since: "2026-01-01T14:02:00Z".to_owned(),
        }
    }

    #[test]
    fn a_relay_says_in_the_first_line_whether_all_is_well() {
        let now = humantime::parse_rfc3339("2026-01-01T14:30:00Z").unwrap();
        for (name, conditions, first) in [
            (
                "relay-status-well",
                Vec::new(),
                "All is well: 2 of 2 agents linked.",
            ),
            (
                "relay-status-absent",
                vec![absent()],
                "1 critical: Ask the far side's admin to run: agent status",
            ),
        ] {
            let screen = view(conditions).screen(&TERMINAL, now);
            assert_eq!(screen.lines().next(), Some(first));
            assert!(screen.lines().all(|line| line.chars().count() <= 80));
            golden::check(name, &screen);
        }
    }
}
