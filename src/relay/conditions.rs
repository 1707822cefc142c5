//! What can be the matter with the relay, found in values that were gathered elsewhere. Pure.
//!
//! The table of codes is [`code`]. The same conditions stand in `relay status`, `GET /v1/status`, `/metrics`, the log and
//! the admin socket's `/healthz`; strangers who ask `/healthz` from outside get none of them.

pub mod code;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::code::Code;
use super::api::views::ConnectionView;
use super::metrics::Happened;
use super::store::WriteTrouble;
use crate::condition::Finding;
use crate::disk;
use crate::link::tls::server::CertificateHealth;
use crate::shutdown::Draining;

/// How long before its end a certificate should have been renewed: automatic renewals come with a third of the life
/// left, which is 30 days of the usual 90.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);
/// For how long something that happened is told of.
const LATELY: u64 = 600;

/// What the relay is judged by.
#[derive(Debug, Default)]
pub struct Seen {
    /// What it waits for, when it is about to stop.
    pub draining: Option<Draining>,
    /// Whether its database answers.
    pub store_answers: bool,
    /// Why the last change did not reach the disk.
    pub store_trouble: Option<WriteTrouble>,
    /// The disk of its state.
    pub disks: disk::Seen,
    /// Listeners that accept.
    pub listeners: usize,
    /// Whether its certificate is one for trials.
    pub is_trial: bool,
    /// Its certificate, where TLS ends here.
    pub certificate: Option<CertificateHealth>,
    /// Sockets turned away because there were too many.
    pub sockets_turned_away: Happened,
    /// Agents turned away because there were too many handshakes.
    pub agents_turned_away: Happened,
    /// Calls refused because their connection had too many under way.
    pub calls_turned_away: Happened,
    /// Sockets that could not be accepted.
    pub accepts_failed: Happened,
    /// Every connection.
    pub connections: Vec<ConnectionView>,
}

/// Everything that is the matter at `now`.
#[must_use]
pub fn of(seen: &Seen, now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(draining) = &seen.draining {
        let finding = Code::Draining.found("").details(draining.in_words());
        findings.push(finding.since(time_of(&draining.since)));
    } else if seen.listeners == 0 {
        findings.push(Code::NoListener.found(""));
    }
    if !seen.store_answers {
        findings.push(Code::StoreSilent.found(""));
    }
    if let Some(WriteTrouble { since, why }) = &seen.store_trouble {
        let finding = Code::StoreNotWritten.found("");
        findings.push(finding.details(why.as_str()).since(Some(*since)));
    }
    for disk in seen.disks.rooms.iter().filter(|disk| disk.is_short()) {
        let finding = Code::DiskNearlyFull.found(disk.directory.as_str());
        findings.push(finding.details(disk.left()));
    }
    for disk in &seen.disks.silent {
        let finding = Code::DiskSilent.found(disk.directory.as_str());
        findings.push(
            finding
                .details(disk.why.as_str())
                .since(time_of(&disk.since)),
        );
    }
    if seen.is_trial {
        findings.push(Code::TrialCertificate.found(""));
    }
    if let Some(certificate) = &seen.certificate {
        of_certificate(certificate, now, &mut findings);
    }
    for (happened, code) in [
        (seen.sockets_turned_away, Code::SocketsTurnedAway),
        (seen.agents_turned_away, Code::AgentsTurnedAway),
        (seen.calls_turned_away, Code::CallsTurnedAway),
        (seen.accepts_failed, Code::AcceptsFail),
    ] {
        if happened.is_within(LATELY, now) {
            let details = format!("{} times since the start", happened.times);
            findings.push(code.found("").details(details));
        }
    }
    if seen.connections.is_empty() {
        findings.push(Code::NoConnection.found(""));
    }
    for connection in &seen.connections {
        of_connection(connection, now, &mut findings);
    }
    findings
}

fn of_certificate(certificate: &CertificateHealth, now: SystemTime, findings: &mut Vec<Finding>) {
    if let Some(refused) = &certificate.refused {
        let finding = Code::CertificateRefused.found("");
        let finding = finding.details(refused.why.as_str());
        findings.push(finding.since(Some(refused.since)));
    }
    let Some(expires_at) = certificate.expires_at else {
        return;
    };
    let at = humantime::format_rfc3339_seconds(expires_at).to_string();
    match expires_at.duration_since(now) {
        Err(_) => {
            let finding = Code::CertificateExpired
                .found("")
                .details(format!("at {at}"));
            findings.push(finding.since(Some(expires_at)));
        }
        Ok(left) if left < EXPIRES_SOON => {
            let details = format!("at {at}");
            findings.push(Code::CertificateExpires.found("").details(details));
        }
        Ok(_) => {}
    }
}

fn of_connection(connection: &ConnectionView, now: SystemTime, findings: &mut Vec<Finding>) {
    let name = connection.name.as_str();
    match connection.state.as_str() {
        "pending" => {
            let invitation = connection.invitation.as_ref();
            if let Some(invitation) = invitation.filter(|it| it.state != "open") {
                let details = format!("the code is {}", invitation.state);
                findings.push(Code::InvitationClosed.found(name).details(details));
            }
            return;
        }
        "removed" => {
            findings.push(Code::RemovedThere.found(name));
            return;
        }
        _ => {}
    }
    if connection.deactivated.here {
        findings.push(Code::DeactivatedHere.found(name));
    }
    if connection.deactivated.there {
        findings.push(Code::DeactivatedThere.found(name));
    }
    if connection.link.status == "offline" {
        let seen_at = connection.last_seen_at.as_deref();
        let details = match seen_at {
            Some(at) => format!("last seen at {at}"),
            None => "it has not been seen yet".to_owned(),
        };
        let finding = Code::AgentAbsent.found(name).details(details);
        findings.push(finding.since(seen_at.and_then(time_of)));
    }
    if let Some(duplicate) = &connection.link.duplicate
        && time_of(&duplicate.at)
            .is_some_and(|at| seconds(now).saturating_sub(seconds(at)) < LATELY)
    {
        let details = format!("from {}, last at {}", duplicate.address, duplicate.at);
        findings.push(Code::DuplicateIdentity.found(name).details(details));
    }
}

fn time_of(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs())
}

#[cfg(test)]
mod tests;
