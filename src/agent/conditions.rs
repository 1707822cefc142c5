//! What can be the matter with the agent, found in a snapshot of it. Pure.
//!
//! The table of codes is [`code`]; what a failed dial means is [`trouble`]. The same conditions stand in
//! `agent status`, `GET /v1/status`, `/healthz`, `/metrics` and the log.

pub mod code;
pub mod trouble;

use std::time::{Duration, SystemTime};

pub use self::code::Code;
pub use self::trouble::Trouble;
use crate::agent::status::{
    AgentStatus, AuditStatus, ConnectionState, ConnectionStatus, UpstreamStatus,
};
use crate::condition::Finding;

/// From how many seconds on a clock is said to be wrong: certificates, tokens and logs of two sides no longer fit.
const CLOCK_OFF: i64 = 60;
/// For how long a second machine with this identity is told of: one that was cloned tries again every half minute.
const DUPLICATE_TOLD: Duration = Duration::from_secs(600);
/// From how many waiting lines on the disk of the audit log is slow: a disk that keeps up has none for long.
const AUDIT_BEHIND: usize = 1024;
/// From how many tries in a row on a rotation keeps failing: one that met a busy relay is repeated a minute later.
const ROTATIONS_FAILED: u32 = 2;
/// For how long an upstream that no call has reached since is told of: after that nobody seems to need it.
const UNREACHABLE_TOLD: Duration = Duration::from_secs(3600);
/// For how long upstreams that files took away are told of: until somebody who comes in the morning has seen it.
const WITHDRAWN_TOLD: Duration = Duration::from_secs(24 * 3600);

/// Everything that is the matter, as the snapshot shows it at `now`.
#[must_use]
pub fn of(status: &AgentStatus, now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    if status.draining {
        let mut finding = Code::Draining.found("");
        if let Some(stopping) = &status.stopping {
            let since = time_of(&stopping.since);
            finding = finding.details(stopping.in_words()).since(since);
        }
        findings.push(finding);
    }
    if status.connections.is_empty() {
        findings.push(Code::NoConnection.found(""));
    }
    if status.upstreams.is_empty() {
        findings.push(Code::NoUpstream.found(""));
    }
    if let Some(refused) = &status.refused_configuration {
        let finding = Code::ConfigurationRefused.found("");
        let since = time_of(&refused.at);
        findings.push(finding.details(refused.why.as_str()).since(since));
    }
    if let Some(withheld) = &status.withheld_configuration {
        let finding = Code::ConfigurationWithheld.found("");
        let since = time_of(&withheld.at);
        findings.push(finding.details(withheld.what.as_str()).since(since));
    }
    if let Some(withdrawn) = &status.withdrawn_upstreams
        && time_of(&withdrawn.at).is_some_and(|at| is_within(WITHDRAWN_TOLD, at, now))
    {
        let finding = Code::UpstreamsWithdrawn.found("");
        let since = time_of(&withdrawn.at);
        findings.push(finding.details(withdrawn.names.join(", ")).since(since));
    }
    for connection in &status.connections {
        of_connection(connection, now, &mut findings);
    }
    for upstream in &status.upstreams {
        of_upstream(upstream, now, &mut findings);
    }
    if let Some(audit) = &status.audit {
        of_audit(audit, &mut findings);
    }
    for disk in status.disks.iter().filter(|disk| disk.is_short()) {
        let finding = Code::DiskNearlyFull.found(disk.directory.as_str());
        findings.push(finding.details(disk.left()));
    }
    for disk in &status.silent_disks {
        let finding = Code::DiskSilent.found(disk.directory.as_str());
        findings.push(
            finding
                .details(disk.why.as_str())
                .since(time_of(&disk.since)),
        );
    }
    findings
}

fn of_connection(connection: &ConnectionStatus, now: SystemTime, findings: &mut Vec<Finding>) {
    let name = connection.name.as_str();
    let link = &connection.link;
    let why = link.why.clone().unwrap_or_default();
    match connection.state {
        ConnectionState::Ended => {
            let ended_at = link.ended_at.as_deref().and_then(time_of);
            findings.push(Code::Ended.found(name).details(why).since(ended_at));
            return;
        }
        ConnectionState::Damaged => {
            findings.push(Code::RecordDamaged.found(name).details(why));
            return;
        }
        ConnectionState::Removing => findings.push(Code::RemovalNotTold.found(name)),
        ConnectionState::Deactivated => {
            if connection.deactivated_here {
                findings.push(Code::DeactivatedHere.found(name));
            }
            if connection.deactivated_there {
                findings.push(Code::DeactivatedThere.found(name));
            }
        }
        ConnectionState::Active => {}
    }
    findings.extend(of_link(connection));
    if let Some(key) = &connection.key
        && key.failures >= ROTATIONS_FAILED
    {
        let finding = Code::KeyNotReplaced.found(name);
        findings.push(finding.details(key.trouble.clone().unwrap_or_default()));
    }
    if let Some(ahead) = link
        .clock_ahead
        .filter(|ahead| ahead.abs() >= CLOCK_OFF && link.is_online())
    {
        let order = if ahead > 0 { "behind" } else { "ahead of" };
        let details = format!("{} s {order} the relay's", ahead.abs());
        findings.push(Code::ClockSkew.found(name).details(details));
    }
    if let Some(duplicate) = &link.duplicate {
        let at = time_of(&duplicate.at);
        if at.is_some_and(|at| is_within(DUPLICATE_TOLD, at, now)) {
            let details = format!("it came from {}, last at {}", duplicate.from, duplicate.at);
            findings.push(Code::DuplicateIdentity.found(name).details(details));
        }
    }
}

/// Why a link is not up, or cannot be relied on.
fn of_link(connection: &ConnectionStatus) -> Option<Finding> {
    let (name, link) = (connection.name.as_str(), &connection.link);
    if link.is_online() {
        return link.doubtful.then(|| Code::LinkDoubtful.found(name));
    }
    // The daemon's own end: the drain is a condition of its own.
    if link.status == "stopped" {
        return None;
    }
    let known = link.trouble.as_deref().and_then(Code::parse);
    let code = match known {
        Some(code) => code,
        None if link.is_away() => Code::LinkAway,
        None if link.status == "connecting" => Code::LinkConnecting,
        None => Code::LinkLost,
    };
    let mut finding = code.found(name).remedy(link.remedy.clone());
    if let Some(why) = &link.why {
        finding = finding.details(why.as_str());
    }
    Some(finding)
}

fn of_upstream(upstream: &UpstreamStatus, now: SystemTime, findings: &mut Vec<Finding>) {
    let name = upstream.name.as_str();
    for trouble in &upstream.credential_troubles {
        findings.push(
            Code::CredentialFailing
                .found(name)
                .details(trouble.as_str()),
        );
    }
    for not_renewed in &upstream.credentials_not_renewed {
        let (until, why) = (&not_renewed.usable_until, &not_renewed.why);
        let details = format!("until {until}; {why}");
        findings.push(Code::CredentialNotRenewed.found(name).details(details));
    }
    if let Some(unreachable) = &upstream.unreachable
        && time_of(&unreachable.last_at).is_some_and(|at| is_within(UNREACHABLE_TOLD, at, now))
    {
        let details = format!(
            "{} since, the last at {} ({})",
            match unreachable.calls {
                1 => "1 call".to_owned(),
                calls => format!("{calls} calls"),
            },
            unreachable.last_at,
            unreachable.code
        );
        let finding = Code::UpstreamUnreachable.found(name).details(details);
        findings.push(finding.since(time_of(&unreachable.since)));
    }
}

fn of_audit(audit: &AuditStatus, findings: &mut Vec<Finding>) {
    if let Some(why) = &audit.why {
        let since = audit.since.as_deref().and_then(time_of);
        let finding = Code::AuditNotWritten.found("").details(why.as_str());
        findings.push(finding.since(since));
    } else if audit.waiting >= AUDIT_BEHIND {
        let details = format!("{} lines wait to be written", audit.waiting);
        findings.push(Code::AuditSlow.found("").details(details));
    }
}

fn is_within(duration: Duration, at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|ago| ago <= duration) || at > now
}

fn time_of(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

#[cfg(test)]
pub(in crate::agent) mod tests;
