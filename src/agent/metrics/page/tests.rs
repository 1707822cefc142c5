//! The page, from a snapshot that has one of everything.

use std::sync::Arc;

use http::{Method, Request, Response};

use super::*;
use crate::agent::conditions::tests::upstream;
use crate::agent::lifecycle::Phase;
use crate::agent::metrics::Metrics;
use crate::agent::metrics::upstream::DenialKind;
use crate::agent::state::tests::example;
use crate::agent::status::{AuditStatus, KeyStatus, LinkFacts, RenewalStatus, UpstreamStatus};
use crate::condition::Condition;
use crate::disk::Room;

fn status(phase: &Phase) -> AgentStatus {
    let mut facts = LinkFacts {
        links_made: 2,
        resumed: 7,
        ..LinkFacts::default()
    };
    facts.count("websocket-lost");
    let mut connection = ConnectionStatus::of(&example("acme_to_widgets"), phase, &facts);
    connection.key = Some(KeyStatus {
        fingerprint: "0a1b-2c3d-4e5f-6071".to_owned(),
        since: "1970-01-01T01:00:00Z".to_owned(),
        rotation: "failing".to_owned(),
        due_at: None,
        trouble: Some("no space".to_owned()),
        failures: 3,
    });
    connection.link.round_trip_us = Some(1_500);
    connection.link.inward.bytes_sent = 4096;
    AgentStatus {
        version: 1,
        software: "relay-agent/0.1.0".to_owned(),
        process_id: 1,
        started_at: "1970-01-01T00:00:00Z".to_owned(),
        draining: false,
        stopping: None,
        has_former_process: false,
        log_level: "info".to_owned(),
        health: "warning".to_owned(),
        conditions: vec![Condition {
            code: "clock-skew".to_owned(),
            severity: Severity::Warning,
            subject: "acme_to_widgets".to_owned(),
            text: "it is off".to_owned(),
            remedy: "Check it.".to_owned(),
            since: "1970-01-01T00:00:00Z".to_owned(),
        }],
        connections: vec![connection],
        upstreams: vec![UpstreamStatus {
            credential_renewals: Some(RenewalStatus { ok: 5, failed: 2 }),
            ..upstream()
        }],
        audit: Some(AuditStatus {
            writable: true,
            since: None,
            why: None,
            line: 12,
            hash: None,
            refused: 0,
            waiting: 3,
            not_sent: 0,
        }),
        refused_configuration: None,
        withheld_configuration: None,
        withdrawn_upstreams: None,
        disks: vec![Room {
            directory: "/var/lib/relay-agent".to_owned(),
            free_bytes: 4096,
            size_bytes: 8192,
        }],
        silent_disks: Vec::new(),
    }
}

fn page_of(phase: &Phase) -> String {
    let metrics = Metrics::new(["jira"]);
    let request = Request::builder().method(Method::POST);
    let request = request.uri("http://jira/x").body(()).unwrap();
    metrics.begin(&request).end(&Response::new(()));
    let mut denied = Response::new(());
    denied.extensions_mut().insert(DenialKind("no-rule"));
    metrics.begin(&request).end(&denied);
    let process = Process {
        resident: Some(8 << 20),
        processor: Some(0.25),
        files: Some(12),
    };
    let all: Vec<Arc<OfUpstream>> = metrics.all();
    let started_at = SystemTime::UNIX_EPOCH;
    page(
        Format::Prometheus,
        &status(phase),
        &all,
        &process,
        started_at,
    )
}

#[test]
fn a_link_that_is_kept_without_a_websocket_is_told_from_one_that_is_down() {
    let figures = |phase: &Phase| {
        let text = page_of(phase);
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
fn the_page_tells_conditions_traffic_calls_and_what_the_process_costs() {
    let text = page_of(&Phase::Online {
        since: SystemTime::UNIX_EPOCH,
    });
    for line in [
        "relay_agent_condition{code=\"clock-skew\",severity=\"warning\",subject=\"acme_to_widgets\"} 1",
        "relay_agent_conditions{severity=\"critical\"} 0",
        "relay_agent_conditions{severity=\"warning\"} 1",
        "relay_agent_link_round_trip_seconds{connection=\"acme_to_widgets\"} 0.0015",
        "relay_agent_reconnects_total{connection=\"acme_to_widgets\",reason=\"websocket-lost\"} 1",
        "relay_agent_key_since_seconds{connection=\"acme_to_widgets\"} 3600",
        "relay_agent_key_rotation_failures{connection=\"acme_to_widgets\"} 3",
        "relay_agent_link_sent_bytes_total{connection=\"acme_to_widgets\",lane=\"inward\"} 4096",
        "relay_agent_calls_total{upstream=\"jira\",method=\"POST\",status=\"2xx\"} 2",
        "relay_agent_denials_total{upstream=\"jira\",kind=\"no-rule\"} 1",
        "relay_agent_credential_fetches_total{upstream=\"jira\",outcome=\"ok\"} 5",
        "relay_agent_credential_fetches_total{upstream=\"jira\",outcome=\"failed\"} 2",
        "relay_agent_disk_free_bytes{directory=\"/var/lib/relay-agent\"} 4096",
        "relay_agent_call_duration_seconds_count{upstream=\"jira\"} 2",
        "relay_agent_calls_waiting{upstream=\"(unknown)\"} 0",
        "relay_agent_audit_waiting 3",
        "process_resident_memory_bytes 8388608",
        "process_cpu_seconds_total 0.25",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}:\n{text}");
    }
}
