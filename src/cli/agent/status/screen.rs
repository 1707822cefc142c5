//! The screen of `agent status`: pure, from a snapshot to text. Fits the terminal's width; what comes from elsewhere is
//! made harmless.

use std::time::SystemTime;

use crate::agent::status::{
    AgentStatus, AuditStatus, CandidateStatus, ConnectionState, ConnectionStatus, KeyStatus,
    UpstreamStatus,
};
use crate::cli::age;
use crate::cli::health::headline;
use crate::cli::output::{printable, table};
use crate::cli::terminal::Look;

/// The whole screen.
pub(super) fn screen(status: &AgentStatus, look: &Look, now: SystemTime) -> String {
    let mut text = headline(&status.conditions, &well(status), look, now);
    text.push('\n');
    let stopping = if status.draining { " stopping" } else { "" };
    let former = if status.has_former_process {
        "; the process before it still finishes its calls"
    } else {
        ""
    };
    let daemon = format!(
        "{}{stopping}, process {}, since {}, log level {}{former}",
        printable(&status.software),
        status.process_id,
        printable(&status.started_at),
        printable(&status.log_level)
    );
    text.push_str(&look.wrap(&daemon, "    "));
    text.push('\n');
    push_lines(&mut text, look, &connection_table(&status.connections, now));
    for connection in &status.connections {
        if let Some(remark) = last_cut(connection) {
            text.push_str(&look.wrap(&remark, "    "));
        }
    }
    text.push('\n');
    push_lines(&mut text, look, &upstream_table(&status.upstreams));
    for upstream in &status.upstreams {
        if let Some(candidate) = &upstream.candidate {
            let line = format!(
                "{}: {}",
                printable(&upstream.name),
                candidate_line(candidate)
            );
            text.push_str(&look.wrap(&line, "    "));
        }
    }
    // Last of the tables: what changes once a month may be cut off at a small terminal's end.
    if let Some(keys) = key_table(&status.connections, now) {
        text.push('\n');
        push_lines(&mut text, look, &keys);
    }
    text.push('\n');
    text.push_str(&look.wrap(&audit_line(status.audit.as_ref()), "    "));
    text
}

/// What there is to say when all is well.
pub(super) fn well(status: &AgentStatus) -> String {
    let connections = &status.connections;
    let up = connections.iter().filter(|it| it.link.is_online()).count();
    format!("{up} of {} links online", connections.len())
}

/// The connections as a table, and below it a line for each that someone should look at.
pub(in crate::cli::agent) fn connection_rows(
    connections: &[ConnectionStatus],
    now: SystemTime,
) -> String {
    let mut text = connection_table(connections, now);
    for connection in connections {
        text.push_str(&remarks(connection));
    }
    text
}

/// A table is cut where the terminal ends; a single sentence is wrapped.
fn push_lines(text: &mut String, look: &Look, lines: &str) {
    if lines.lines().count() == 1 {
        text.push_str(&look.wrap(lines.trim_end(), "    "));
        return;
    }
    for line in lines.lines() {
        text.push_str(&look.cut(line));
        text.push('\n');
    }
}

fn connection_table(connections: &[ConnectionStatus], now: SystemTime) -> String {
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
                last_seen(connection, now),
                relay_of(connection).to_owned(),
            ]
        })
        .collect();
    table(
        ["NAME", "PUBLIC SIDE", "STATE", "LINK", "LAST SEEN", "RELAY"],
        &rows,
    )
}

/// Where the relay is, without what all have in common: the column is narrow.
fn relay_of(connection: &ConnectionStatus) -> &str {
    let url = connection.relay_url.as_str();
    url.strip_prefix("https://").unwrap_or(url)
}

fn last_seen(connection: &ConnectionStatus, now: SystemTime) -> String {
    if connection.link.is_online() {
        return "now".to_owned();
    }
    age::seen(connection.link.last_seen.as_deref(), now)
}

/// The identity keys that are known: how old they are, and when they are replaced.
fn key_table(connections: &[ConnectionStatus], now: SystemTime) -> Option<String> {
    let known = connections
        .iter()
        .filter_map(|connection| Some((&connection.name, connection.key.as_ref()?)));
    let rows: Vec<[String; 4]> = known
        .map(|(name, key)| {
            let age = age::since(&key.since, now).map_or_else(String::new, age::in_words);
            [
                name.clone(),
                key.fingerprint.clone(),
                age,
                next_rotation(key, now),
            ]
        })
        .collect();
    let headings = ["KEY OF", "FINGERPRINT", "AGE", "NEXT ROTATION"];
    (!rows.is_empty()).then(|| table(headings, &rows))
}

fn next_rotation(key: &KeyStatus, now: SystemTime) -> String {
    let due_at = key.due_at.as_deref();
    match (key.rotation.as_str(), due_at) {
        ("automatic", Some(due_at)) => match age::until(due_at, now) {
            Some(left) => format!("in {}", age::in_words(left)),
            None => "due".to_owned(),
        },
        ("by-hand", _) => "by hand: agent rotate".to_owned(),
        ("failing", _) => "fails, and is tried again".to_owned(),
        ("unsupported", _) => "none: the relay is too old".to_owned(),
        (word, _) => word.to_owned(),
    }
}

/// What somebody should know of a connection: why its link is not up, how it was last cut, who has its identity.
fn remarks(connection: &ConnectionStatus) -> String {
    let name = printable(&connection.name);
    let link = &connection.link;
    let mut text = String::new();
    if let Some(why) = &link.why {
        let advice = advice(connection);
        text.push_str(&format!("{name}: {}{advice}\n", printable(why)));
    } else if let Some(remark) = last_cut(connection) {
        text.push_str(&remark);
        text.push('\n');
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

fn last_cut(connection: &ConnectionStatus) -> Option<String> {
    let link = &connection.link;
    let cut = link.last_cut.as_ref().filter(|_| link.is_online())?;
    let times = match link.resumed {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    Some(format!(
        "{}: last cut at {} ({}); resumed {times} so far",
        printable(&connection.name),
        printable(&cut.at),
        printable(&cut.why)
    ))
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

fn upstream_table(upstreams: &[UpstreamStatus]) -> String {
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
    table(["UPSTREAM", "ADDRESS", "RULES", "CALLS"], &rows)
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

fn audit_line(audit: Option<&AuditStatus>) -> String {
    let Some(audit) = audit else {
        return "No audit log (audit.enabled = false).".to_owned();
    };
    let head = format!(
        "{} lines, head {}",
        audit.line,
        printable(audit.hash.as_deref().unwrap_or("none"))
    );
    match &audit.why {
        None => format!("Audit log: written; {head}"),
        Some(_) => format!(
            "Audit log: CANNOT BE WRITTEN since {}, {} calls refused so far; {head}",
            printable(audit.since.as_deref().unwrap_or("the start")),
            audit.refused,
        ),
    }
}

#[cfg(test)]
mod tests;
