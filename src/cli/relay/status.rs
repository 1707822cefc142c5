//! `relay status`: whether all is well and what to do otherwise; once, as JSON, again and again, or as one line for a
//! monitor.

use std::time::{Duration, SystemTime};

use clap::Args;
use http::Method;

use crate::cli::daemon::{AskError, Daemon};
use crate::cli::exit_code::Failure;
use crate::cli::health::{self, headline};
use crate::cli::output::{print, print_json, printable, to_json};
use crate::cli::terminal::Look;
use crate::cli::watch::{Interval, watch};
use crate::relay::api::views::StatusView;

/// `relay status`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// As JSON; docs/relay-status.schema.json describes it.
    #[arg(long)]
    json: bool,
    /// Again and again, in place, until Ctrl-C; where there is no terminal, whenever it has changed.
    #[arg(long)]
    watch: bool,
    /// With --watch: the time between two looks [default: 1s].
    #[arg(long, value_name = "TIME", requires = "watch")]
    interval: Option<Interval>,
    /// As one line for a monitor (Nagios, Icinga, Zabbix); ends with 0 well, 1 warning, 2 critical, 3 unknown.
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    check: bool,
}

impl Show {
    pub(super) async fn carry_out(self, relay: &Daemon) -> Result<(), Failure> {
        let target = "/v1/status";
        if self.check {
            let asked: Result<StatusView, AskError> =
                relay.try_ask(Method::GET, target, None).await;
            return match asked {
                Ok(view) => health::check(&view.conditions, &well(&view), &figures(&view)),
                Err(error) => Err(health::check_failed(&error)),
            };
        }
        if self.watch {
            let interval = self.interval.unwrap_or(Interval(Duration::from_secs(1)));
            return watch(interval, async |look| {
                let view: StatusView = relay.ask(Method::GET, target, None).await?;
                if self.json {
                    to_json(&view)
                } else {
                    Ok(screen(&view, look, SystemTime::now()))
                }
            })
            .await;
        }
        let view: StatusView = relay.ask(Method::GET, target, None).await?;
        if self.json {
            return print_json(&view);
        }
        print(&screen(&view, &Look::of_output(), SystemTime::now()));
        Ok(())
    }
}

fn screen(view: &StatusView, look: &Look, now: SystemTime) -> String {
    let mut text = headline(&view.conditions, &well(view), look, now);
    text.push('\n');
    let counts = view.connections;
    for line in [
        format!(
            "{} {} on {}, since {}",
            view.software, view.status, view.listen, view.started_at
        ),
        format!("Public URL   {}", view.public_url),
        format!("Identity     {}", view.identity),
        format!(
            "Connections  {} active, {} pending, {} deactivated, {} removed by the far side",
            counts.active, counts.pending, counts.deactivated, counts.removed
        ),
        format!("Links        {} online", view.links_online),
        format!("Calls        {} under way", view.calls_in_flight),
        format!("Log level    {}", view.log_level),
    ] {
        text.push_str(&look.wrap_as_it_is(&printable(&line), "             "));
    }
    text
}

/// What there is to say when all is well.
fn well(view: &StatusView) -> String {
    let counts = view.connections;
    let linked = counts.active + counts.deactivated;
    format!("{} of {linked} agents linked", view.links_online)
}

/// The figures of a check.
fn figures(view: &StatusView) -> [(&'static str, String); 5] {
    let counts = view.connections;
    [
        ("active", counts.active.to_string()),
        ("pending", counts.pending.to_string()),
        ("links_up", view.links_online.to_string()),
        ("calls_in_flight", view.calls_in_flight.to_string()),
        ("conditions", view.conditions.len().to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::golden;
    use crate::condition::{Condition, Severity};
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
            let screen = screen(&view(conditions), &TERMINAL, now);
            assert_eq!(screen.lines().next(), Some(first));
            assert!(screen.lines().all(|line| line.chars().count() <= 80));
            golden::check(name, &screen);
        }
    }
}
