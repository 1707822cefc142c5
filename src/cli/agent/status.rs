//! `agent status`: the daemon, its connections and links, its upstreams; once, as JSON, or again and again.

use std::time::Duration;

use clap::Args;
use http::Method;

use crate::agent::status::{
    AgentStatus, AuditStatus, CandidateStatus, ConnectionState, ConnectionStatus, UpstreamStatus,
};
use crate::cli::daemon::Daemon;
use crate::cli::exit_code::Failure;
use crate::cli::output::{print, print_json, printable, table};

/// Between two looks: what a person can follow.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Clears the terminal and moves to its corner (ECMA-48: ED 2, CUP).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// `agent status`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Again every second, until interrupted
    #[arg(long)]
    watch: bool,
}

impl Show {
    pub(super) async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        loop {
            let status: AgentStatus = daemon.ask(Method::GET, "/v1/status", None).await?;
            match (self.json, self.watch) {
                (true, _) => print_json(&status)?,
                (false, true) => print(&format!("{CLEAR}{}", describe(&status))),
                (false, false) => print(&describe(&status)),
            }
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }
}

fn describe(status: &AgentStatus) -> String {
    let state = if status.draining {
        "stopping"
    } else {
        "running"
    };
    let mut text = format!(
        "{} {state}, process {}, since {}, log level {}\n\n",
        printable(&status.software),
        status.process_id,
        printable(&status.started_at),
        printable(&status.log_level)
    );
    if let Some(refused) = &status.refused_configuration {
        text.push_str(&format!(
            "The configuration that was read at {} is NOT IN FORCE; the one before it still is. {}\nCorrect it: it is read again when its files change.\n\n",
            printable(&refused.at),
            refused.why.lines().map(printable).collect::<Vec<_>>().join("\n")
        ));
    }
    text.push_str(&connection_rows(&status.connections));
    text.push('\n');
    text.push_str(&upstream_rows(&status.upstreams));
    text.push('\n');
    text.push_str(&audit_line(status.audit.as_ref()));
    text
}

fn audit_line(audit: Option<&AuditStatus>) -> String {
    let Some(audit) = audit else {
        return "No audit log (audit.enabled = false).\n".to_owned();
    };
    let head = format!(
        "{} lines, head {}",
        audit.line,
        printable(audit.hash.as_deref().unwrap_or("none"))
    );
    match &audit.why {
        None => format!("Audit log: written; {head}\n"),
        Some(why) => format!(
            "Audit log: CANNOT BE WRITTEN since {}, so no call is taken ({} refused so far): {}; {head}\n",
            printable(audit.since.as_deref().unwrap_or("the start")),
            audit.refused,
            printable(why)
        ),
    }
}

/// The connections as a table, and below it a line for each that someone should look at.
pub(super) fn connection_rows(connections: &[ConnectionStatus]) -> String {
    if connections.is_empty() {
        return "No connections yet. Accept an invitation with: agent accept\n".to_owned();
    }
    let rows: Vec<[String; 6]> = connections
        .iter()
        .map(|connection| {
            [
                connection.name.clone(),
                connection.public_side.clone(),
                state_of(connection).to_owned(),
                connection.link.status.clone(),
                connection
                    .link
                    .last_seen
                    .clone()
                    .unwrap_or_else(|| "never".to_owned()),
                connection.relay_url.clone(),
            ]
        })
        .collect();
    let mut text = table(
        ["NAME", "PUBLIC SIDE", "STATE", "LINK", "LAST SEEN", "RELAY"],
        &rows,
    );
    for connection in connections {
        text.push_str(&remarks(connection));
    }
    text
}

/// What somebody should know of a connection: why its link is not up, how it was last cut, who has its identity.
fn remarks(connection: &ConnectionStatus) -> String {
    let name = printable(&connection.name);
    let link = &connection.link;
    let mut text = String::new();
    if let Some(why) = &link.why {
        let advice = advice(connection);
        text.push_str(&format!("{name}: {}{advice}\n", printable(why)));
    } else if let Some(cut) = &link.last_cut {
        let at = printable(&cut.at);
        let times = match link.resumed {
            1 => "once".to_owned(),
            times => format!("{times} times"),
        };
        text.push_str(&format!(
            "{name}: last cut at {at} ({}); resumed {times} so far\n",
            printable(&cut.why)
        ));
    }
    if let Some(duplicate) = &link.duplicate {
        let (at, from) = (printable(&duplicate.at), printable(&duplicate.from));
        text.push_str(&format!(
            "{name}: another machine ({from}) has this agent's identity and was refused, last at {at}; \
             remove the copy of the state directory there, and accept an invitation of its own\n"
        ));
    }
    text
}

fn state_of(connection: &ConnectionStatus) -> &'static str {
    match (
        connection.state,
        connection.deactivated_here,
        connection.deactivated_there,
    ) {
        (ConnectionState::Deactivated, true, false) => "deactivated here",
        (ConnectionState::Deactivated, false, true) => "deactivated there",
        (ConnectionState::Deactivated, ..) => "deactivated by both",
        (ConnectionState::Removing, ..) => "removed, relay not told yet",
        (ConnectionState::Active | ConnectionState::Ended | ConnectionState::Damaged, ..) => {
            connection.state.word()
        }
    }
}

fn advice(connection: &ConnectionStatus) -> String {
    match (&connection.state, &connection.link.next_dial_at) {
        (ConnectionState::Ended, _) => {
            let name = printable(&connection.name);
            format!("; to clear it: agent remove {name}")
        }
        (_, Some(at)) => format!("; next try at {}", printable(at)),
        (_, None) => String::new(),
    }
}

fn upstream_rows(upstreams: &[UpstreamStatus]) -> String {
    if upstreams.is_empty() {
        return "No upstreams: nothing in the private network can be reached. Configure [[upstream]]s.\n"
            .to_owned();
    }
    let rows: Vec<[String; 4]> = upstreams
        .iter()
        .map(|upstream| {
            let calls: Vec<String> = upstream
                .calls
                .iter()
                .map(|(class, count)| format!("{class}: {count}"))
                .collect();
            [
                upstream.name.clone(),
                upstream.url.clone(),
                upstream.rules.to_string(),
                calls.join(", "),
            ]
        })
        .collect();
    let mut text = table(["UPSTREAM", "ADDRESS", "RULES", "CALLS"], &rows);
    for upstream in upstreams {
        let name = printable(&upstream.name);
        for trouble in &upstream.credential_troubles {
            text.push_str(&format!(
                "{name}: {}; calls are refused\n",
                printable(trouble)
            ));
        }
        if let Some(candidate) = &upstream.candidate {
            text.push_str(&format!("{name}: {}\n", candidate_line(candidate)));
        }
    }
    text
}

fn candidate_line(candidate: &CandidateStatus) -> String {
    let CandidateStatus {
        allowed,
        denied,
        undecided,
    } = candidate;
    let unseen = match undecided {
        0 => String::new(),
        unseen => format!("; of {unseen} more they did not see the body"),
    };
    format!(
        "candidate rules are tried: they would deny {denied} of {} calls that passed{unseen}",
        allowed + denied
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::{Cut, Duplicate, LinkStatus};

    fn connection(state: ConnectionState) -> ConnectionStatus {
        ConnectionStatus {
            name: "acme_to_widgets".to_owned(),
            connection: "c_x".to_owned(),
            public_side: "acme".to_owned(),
            private_side: "widgets".to_owned(),
            relay_url: "https://relay.example.com".to_owned(),
            project: None,
            state,
            deactivated_here: false,
            deactivated_there: true,
            key: None,
            link: LinkStatus {
                status: "reconnecting".to_owned(),
                why: Some("no route\x1b[2J".to_owned()),
                next_dial_at: Some("2026-01-01T00:00:00Z".to_owned()),
                ..LinkStatus::default()
            },
        }
    }

    #[test]
    fn a_link_that_is_not_up_is_shown_with_its_reason_and_what_comes_next() {
        let text = connection_rows(&[connection(ConnectionState::Active)]);
        assert!(text.contains("no route"), "{text}");
        assert!(text.contains("next try at 2026-01-01T00:00:00Z"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn a_link_that_was_cut_and_a_double_are_remarked() {
        let mut connection = connection(ConnectionState::Active);
        connection.link = LinkStatus {
            status: "online".to_owned(),
            resumed: 3,
            last_cut: Some(Cut {
                at: "2026-01-01T00:00:00Z".to_owned(),
                why: "hung up".to_owned(),
            }),
            duplicate: Some(Duplicate {
                at: "2026-01-01T00:00:00Z".to_owned(),
                from: "192.0.2.7:5000".to_owned(),
            }),
            ..LinkStatus::default()
        };
        let text = connection_rows(&[connection]);
        assert!(text.contains("(hung up); resumed 3 times"), "{text}");
        assert!(text.contains("another machine (192.0.2.7:5000)"), "{text}");
    }

    #[test]
    fn the_side_that_deactivated_is_named() {
        let text = connection_rows(&[connection(ConnectionState::Deactivated)]);
        assert!(text.contains("deactivated there"), "{text}");
    }

    #[test]
    fn rules_that_are_tried_are_shown_with_what_they_would_deny() {
        let candidate = |undecided| CandidateStatus {
            allowed: 38,
            denied: 2,
            undecided,
        };
        assert_eq!(
            candidate_line(&candidate(0)),
            "candidate rules are tried: they would deny 2 of 40 calls that passed"
        );
        assert!(candidate_line(&candidate(3)).ends_with("; of 3 more they did not see the body"));
    }

    #[test]
    fn an_agent_without_connections_says_what_to_do() {
        assert!(connection_rows(&[]).contains("agent accept"));
        assert!(upstream_rows(&[]).contains("[[upstream]]"));
    }
}
