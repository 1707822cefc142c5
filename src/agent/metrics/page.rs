//! The agent's figures as a page of metrics, from a snapshot and the counters. `docs/status.md` lists them all.

use std::sync::Arc;
use std::time::SystemTime;

use super::OfUpstream;
use crate::agent::status::{AgentStatus, ConnectionStatus, Crossed, LinkStatus};
use crate::condition::Severity;
use crate::metric::process::Process;
use crate::metric::text::{Format, Kind, Page};

/// One figure of every link; the label is the connection's name.
struct LinkSeries {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&LinkStatus) -> Option<f64>,
}

/// One figure of every lane of every link.
struct LaneSeries {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&Crossed) -> u64,
}

const LINKS: [LinkSeries; 6] = [
    LinkSeries {
        name: "relay_agent_link_up",
        kind: Kind::Gauge,
        help: "Whether the connection's link is online.",
        value: |link| Some(f64::from(u8::from(link.is_online()))),
    },
    LinkSeries {
        name: "relay_agent_link_away",
        kind: Kind::Gauge,
        help: "Whether the link has lost its WebSocket and is kept, with its calls, until there is another.",
        value: |link| Some(f64::from(u8::from(link.is_away()))),
    },
    LinkSeries {
        name: "relay_agent_link_since_seconds",
        kind: Kind::Gauge,
        help: "Since when the link is up, in seconds since 1970; a link that lost its WebSocket and is kept has this, too.",
        value: |link| {
            let since = humantime::parse_rfc3339(link.since.as_deref()?).ok()?;
            let since = since.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(since.as_secs_f64())
        },
    },
    LinkSeries {
        name: "relay_agent_link_round_trip_seconds",
        kind: Kind::Gauge,
        help: "The time to the relay and back, smoothed.",
        value: |link| link.round_trip_us.map(|it| count(it) / 1e6),
    },
    LinkSeries {
        name: "relay_agent_link_resumed",
        kind: Kind::Counter,
        help: "How often a link went on over another WebSocket since the start, with its calls.",
        value: |link| Some(count(link.resumed)),
    },
    LinkSeries {
        name: "relay_agent_links_made",
        kind: Kind::Counter,
        help: "Links made since the start; one that goes on over another WebSocket counts once.",
        value: |link| Some(count(link.links_made)),
    },
];

const LANES: [LaneSeries; 5] = [
    LaneSeries {
        name: "relay_agent_link_sent_bytes",
        kind: Kind::Counter,
        help: "Bytes sent on a lane, each counted once.",
        value: |lane| lane.bytes_sent,
    },
    LaneSeries {
        name: "relay_agent_link_received_bytes",
        kind: Kind::Counter,
        help: "Bytes received on a lane, each counted once.",
        value: |lane| lane.bytes_received,
    },
    LaneSeries {
        name: "relay_agent_link_sent_frames",
        kind: Kind::Counter,
        help: "Data frames sent on a lane, repeated ones among them.",
        value: |lane| lane.frames_sent,
    },
    LaneSeries {
        name: "relay_agent_link_received_frames",
        kind: Kind::Counter,
        help: "Data frames received on a lane, repeated ones among them.",
        value: |lane| lane.frames_received,
    },
    LaneSeries {
        name: "relay_agent_link_unacknowledged_bytes",
        kind: Kind::Gauge,
        help: "Bytes sent on a lane that the relay has not acknowledged.",
        value: |lane| lane.unacknowledged,
    },
];

/// The whole page.
#[must_use]
pub fn page(
    format: Format,
    status: &AgentStatus,
    upstreams: &[Arc<OfUpstream>],
    process: &Process,
    started_at: SystemTime,
) -> String {
    let mut page = Page::new(format);
    page.family(
        "relay_agent_build_info",
        Kind::Gauge,
        "Always 1; the label says which version runs.",
    )
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    conditions(&mut page, status);
    links(&mut page, &status.connections);
    keys(&mut page, &status.connections);
    calls(&mut page, upstreams);
    credentials(&mut page, status);
    candidates(&mut page, status);
    audit(&mut page, status);
    disks(&mut page, status);
    process.write(&mut page, started_at);
    page.finish()
}

fn conditions(page: &mut Page, status: &AgentStatus) {
    let mut family = page.family(
        "relay_agent_condition",
        Kind::Gauge,
        "1 for each condition that holds; the subject is a connection, an upstream, or empty.",
    );
    for one in &status.conditions {
        let (code, severity) = (one.code.as_str(), one.severity.word());
        let labels = [
            ("code", code),
            ("severity", severity),
            ("subject", &one.subject),
        ];
        family.sample(&labels, 1);
    }
    let mut family = page.family(
        "relay_agent_conditions",
        Kind::Gauge,
        "How many conditions hold, by severity.",
    );
    for severity in [Severity::Critical, Severity::Warning] {
        let holds = status.conditions.iter();
        let number = holds.filter(|one| one.severity == severity).count();
        family.sample(&[("severity", severity.word())], number);
    }
}

fn links(page: &mut Page, connections: &[ConnectionStatus]) {
    for series in LINKS {
        let mut family = page.family(series.name, series.kind, series.help);
        for one in connections {
            if let Some(value) = (series.value)(&one.link) {
                family.sample(&[("connection", &one.name)], value);
            }
        }
    }
    let mut family = page.family(
        "relay_agent_reconnects",
        Kind::Counter,
        "WebSockets lost, links ended and dials that failed, by reason.",
    );
    for one in connections {
        for (reason, count) in &one.link.reconnects {
            family.sample(&[("connection", &one.name), ("reason", reason)], count);
        }
    }
    for series in LANES {
        let mut family = page.family(series.name, series.kind, series.help);
        for one in connections {
            let lanes = [("inward", &one.link.inward), ("outward", &one.link.outward)];
            for (lane, crossed) in lanes {
                let labels = [("connection", one.name.as_str()), ("lane", lane)];
                family.sample(&labels, (series.value)(crossed));
            }
        }
    }
}

fn keys(page: &mut Page, connections: &[ConnectionStatus]) {
    let known = || {
        let all = connections.iter();
        all.filter_map(|one| Some((one.name.as_str(), one.key.as_ref()?)))
    };
    let mut family = page.family(
        "relay_agent_key_since_seconds",
        Kind::Gauge,
        "Since when the identity key is the connection's, in seconds since 1970.",
    );
    for (name, key) in known() {
        let since = humantime::parse_rfc3339(&key.since).ok();
        if let Some(since) = since.and_then(|it| it.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            family.sample(&[("connection", name)], since.as_secs());
        }
    }
    let mut family = page.family(
        "relay_agent_key_rotation_failures",
        Kind::Gauge,
        "Tries in a row to replace the identity key that failed.",
    );
    for (name, key) in known() {
        family.sample(&[("connection", name)], key.failures);
    }
}

fn calls(page: &mut Page, upstreams: &[Arc<OfUpstream>]) {
    let mut family = page.family(
        "relay_agent_calls",
        Kind::Counter,
        "Calls answered, by upstream, method and class of status.",
    );
    for upstream in upstreams {
        for (method, class, count) in upstream.calls.counted() {
            let labels = [
                ("upstream", upstream.name()),
                ("method", method),
                ("status", class),
            ];
            family.sample(&labels, count);
        }
    }
    let mut family = page.family(
        "relay_agent_call_duration_seconds",
        Kind::Histogram,
        "From the head of a call to the head of its answer.",
    );
    for upstream in upstreams {
        let durations = upstream.calls.durations();
        if durations.count() > 0 {
            family.histogram(&[("upstream", upstream.name())], &durations);
        }
    }
    let mut family = page.family(
        "relay_agent_calls_waiting",
        Kind::Gauge,
        "Calls under way that have no head of an answer yet.",
    );
    for upstream in upstreams {
        family.sample(&[("upstream", upstream.name())], upstream.waiting());
    }
    let mut family = page.family(
        "relay_agent_refusals",
        Kind::Counter,
        "Calls that the agent answered itself, by the code of its problem document.",
    );
    for upstream in upstreams {
        for (reason, count) in upstream.refusals.counted() {
            family.sample(&[("upstream", upstream.name()), ("reason", reason)], count);
        }
    }
    let mut family = page.family(
        "relay_agent_denials",
        Kind::Counter,
        "Calls that the policy denied, by kind of denial.",
    );
    for upstream in upstreams {
        for (kind, count) in upstream.denials.counted() {
            family.sample(&[("upstream", upstream.name()), ("kind", kind)], count);
        }
    }
}

fn credentials(page: &mut Page, status: &AgentStatus) {
    let mut family = page.family(
        "relay_agent_credential_troubles",
        Kind::Gauge,
        "Credentials of an upstream that are not to be had.",
    );
    for upstream in &status.upstreams {
        let troubles = upstream.credential_troubles.len();
        family.sample(&[("upstream", &upstream.name)], troubles);
    }
    let mut family = page.family(
        "relay_agent_credential_fetches",
        Kind::Counter,
        "Credentials fetched from commands and token endpoints since they are configured as they are, by outcome.",
    );
    for upstream in &status.upstreams {
        let Some(renewals) = upstream.credential_renewals else {
            continue;
        };
        for (outcome, count) in [("ok", renewals.ok), ("failed", renewals.failed)] {
            let labels = [("upstream", upstream.name.as_str()), ("outcome", outcome)];
            family.sample(&labels, count);
        }
    }
}

fn candidates(page: &mut Page, status: &AgentStatus) {
    let mut family = page.family(
        "relay_agent_candidate_calls",
        Kind::Counter,
        "Calls that passed, by what candidate rules would have decided.",
    );
    for upstream in &status.upstreams {
        let Some(candidate) = &upstream.candidate else {
            continue;
        };
        for (verdict, count) in [
            ("allowed", candidate.allowed),
            ("denied", candidate.denied),
            ("undecided", candidate.undecided),
        ] {
            let labels = [("upstream", upstream.name.as_str()), ("verdict", verdict)];
            family.sample(&labels, count);
        }
    }
}

fn audit(page: &mut Page, status: &AgentStatus) {
    let Some(audit) = &status.audit else { return };
    page.family(
        "relay_agent_audit_writable",
        Kind::Gauge,
        "Whether the audit log can be written. No call is taken while it cannot.",
    )
    .sample(&[], u8::from(audit.writable));
    page.family(
        "relay_agent_audit_line",
        Kind::Gauge,
        "The number of the audit log's last line.",
    )
    .sample(&[], audit.line);
    page.family(
        "relay_agent_audit_waiting",
        Kind::Gauge,
        "Lines that wait to be written to the audit log.",
    )
    .sample(&[], audit.waiting);
    page.family(
        "relay_agent_audit_refused",
        Kind::Counter,
        "Calls refused because the audit log could not be written.",
    )
    .sample(&[], audit.refused);
    page.family(
        "relay_agent_audit_not_sent",
        Kind::Counter,
        "Lines that a further target of the audit log did not take; the file has them.",
    )
    .sample(&[], audit.not_sent);
}

fn disks(page: &mut Page, status: &AgentStatus) {
    let mut family = page.family(
        "relay_agent_disk_free_bytes",
        Kind::Gauge,
        "What may still be written to the directory's file system.",
    );
    for disk in &status.disks {
        family.sample(&[("directory", &disk.directory)], disk.free_bytes);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of links and round trips stay far below 2^53"
)]
fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
