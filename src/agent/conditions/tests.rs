//! Which snapshot of the agent has which conditions.

use super::*;
use crate::agent::lifecycle::Phase;
use crate::agent::state::tests::example;
use crate::agent::status::{Duplicate, KeyFacts, LinkFacts, NotRenewedStatus, UnreachableStatus};
use crate::condition::{Condition, Ledger, Severity};
use crate::disk::{Room, Silent};

fn now() -> SystemTime {
    humantime::parse_rfc3339("2026-01-01T14:00:00Z").unwrap()
}

fn online(facts: &LinkFacts) -> ConnectionStatus {
    let since = now();
    ConnectionStatus::of(&example("acme"), &Phase::Online { since }, facts)
}

pub(in crate::agent) fn upstream() -> UpstreamStatus {
    UpstreamStatus {
        name: "jira".to_owned(),
        url: "https://jira".to_owned(),
        rules: 1,
        calls_under_way: 0,
        calls: Default::default(),
        credential_troubles: Vec::new(),
        credentials_not_renewed: Vec::new(),
        credential_renewals: None,
        unreachable: None,
        candidate: None,
    }
}

/// An agent of which nothing is the matter.
fn well() -> AgentStatus {
    AgentStatus {
        version: 1,
        software: "relay-agent/0.1.0".to_owned(),
        process_id: 1,
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        draining: false,
        stopping: None,
        has_former_process: false,
        log_level: "info".to_owned(),
        health: String::new(),
        conditions: Vec::new(),
        connections: vec![online(&LinkFacts::default())],
        upstreams: vec![upstream()],
        audit: None,
        refused_configuration: None,
        withheld_configuration: None,
        withdrawn_upstreams: None,
        disks: Vec::new(),
        silent_disks: Vec::new(),
    }
}

fn conditions(status: &AgentStatus) -> Vec<Condition> {
    let mut ledger = Ledger::default();
    ledger.look(of(status, now()), now());
    ledger.conditions()
}

fn codes(status: &AgentStatus) -> Vec<String> {
    conditions(status).into_iter().map(|one| one.code).collect()
}

#[test]
fn nothing_is_the_matter_with_an_agent_that_is_well() {
    assert_eq!(codes(&well()), [""; 0]);
}

#[test]
fn a_new_agent_lacks_connections_and_upstreams() {
    let mut status = well();
    (status.connections, status.upstreams) = (Vec::new(), Vec::new());
    status.draining = true;
    assert_eq!(codes(&status), ["draining", "no-connection", "no-upstream"]);
}

#[test]
fn a_link_that_is_not_up_has_the_condition_of_its_phase_or_of_the_last_dial() {
    let code = |phase: &Phase, trouble: Option<Code>| {
        let facts = LinkFacts {
            trouble: trouble.map(|code| Trouble::new(code, "so it is".to_owned())),
            ..LinkFacts::default()
        };
        let mut status = well();
        status.connections = vec![ConnectionStatus::of(&example("acme"), phase, &facts)];
        conditions(&status).pop().map(|one| (one.code, one.text))
    };
    let waiting = Phase::Waiting {
        until: now(),
        why: "hung up".to_owned(),
        failures: 0,
    };
    let away = Phase::Resuming {
        since: now(),
        until: None,
        why: "cut".to_owned(),
        failures: 0,
    };
    let first = |found: Option<(String, String)>| found.map(|(code, _)| code);
    assert_eq!(
        first(code(&Phase::begin(), None)).unwrap(),
        "link-connecting"
    );
    assert_eq!(first(code(&waiting, None)).unwrap(), "link-lost");
    assert_eq!(first(code(&away, None)).unwrap(), "link-away");
    assert_eq!(first(code(&Phase::Stopped, None)), None);
    // While the next dial is under way the last one's trouble is still told, with its words.
    let dialling = Phase::Dialling { failures: 1 };
    let (word, text) = code(&dialling, Some(Code::NoLinkProxyPassword)).unwrap();
    assert_eq!(word, "no-link-proxy-password");
    assert!(text.ends_with(": so it is"), "{text}");
    let (word, _) = code(&waiting, Some(Code::NoLinkDns)).unwrap();
    assert_eq!(word, "no-link-dns");
    let since = now();
    assert_eq!(code(&Phase::Online { since }, Some(Code::NoLinkDns)), None);
}

#[test]
fn a_connection_that_ended_says_since_when_and_how_to_clear_it() {
    let at = now() - Duration::from_secs(3600);
    let phase = Phase::ended("revoked".to_owned(), at);
    let mut record = example("acme");
    record.standing = crate::agent::state::Standing::Ended {
        why: "revoked".to_owned(),
        at: 0,
    };
    let mut status = well();
    status.connections = vec![ConnectionStatus::of(&record, &phase, &LinkFacts::default())];
    let [ended] = conditions(&status).try_into().unwrap();
    assert_eq!(ended.code, "connection-ended");
    assert_eq!(ended.since, "2026-01-01T13:00:00Z");
    assert!(
        ended.remedy.contains("agent remove acme"),
        "{}",
        ended.remedy
    );
    assert!(ended.text.ends_with(": revoked"), "{}", ended.text);
}

#[test]
fn either_side_that_deactivated_is_named_and_a_removal_that_is_not_told() {
    let mut status = well();
    let connection = &mut status.connections[0];
    connection.state = ConnectionState::Deactivated;
    (connection.deactivated_here, connection.deactivated_there) = (true, true);
    assert_eq!(codes(&status), ["deactivated-here", "deactivated-there"]);
    status.connections[0].state = ConnectionState::Removing;
    assert_eq!(codes(&status), ["removal-not-told"]);
}

#[test]
fn doubt_a_wrong_clock_and_a_double_are_told_of_a_link_that_is_up() {
    let duplicate = |at: &str| Duplicate {
        at: at.to_owned(),
        from: "192.0.2.7:5000".to_owned(),
    };
    let mut status = well();
    let link = &mut status.connections[0].link;
    link.doubtful = true;
    link.clock_ahead = Some(CLOCK_OFF);
    link.duplicate = Some(duplicate("2026-01-01T13:55:00Z"));
    assert_eq!(
        codes(&status),
        ["duplicate-identity", "clock-skew", "link-doubtful"]
    );
    let link = &mut status.connections[0].link;
    link.clock_ahead = Some(1 - CLOCK_OFF);
    link.duplicate = Some(duplicate("2026-01-01T13:45:00Z"));
    assert_eq!(codes(&status), ["link-doubtful"]);
}

#[test]
fn upstreams_credentials_audit_and_configuration_have_their_own() {
    let mut status = well();
    let upstream = &mut status.upstreams[0];
    upstream.credential_troubles = vec!["no such file".to_owned()];
    let unreachable = |last_at: &str| {
        Some(UnreachableStatus {
            since: "2026-01-01T13:00:00Z".to_owned(),
            last_at: last_at.to_owned(),
            calls: 2,
            code: "connect-timeout".to_owned(),
        })
    };
    upstream.unreachable = unreachable("2026-01-01T13:59:00Z");
    status.refused_configuration = Some(crate::agent::status::RefusedConfiguration {
        at: "2026-01-01T12:00:00Z".to_owned(),
        why: "a mistake".to_owned(),
    });
    let mut audit = AuditStatus {
        writable: true,
        since: None,
        why: None,
        line: 1,
        hash: None,
        refused: 0,
        waiting: AUDIT_BEHIND,
        not_sent: 0,
    };
    status.audit = Some(audit.clone());
    assert_eq!(
        codes(&status),
        [
            "credential-failing",
            "upstream-unreachable",
            "audit-slow",
            "configuration-refused"
        ]
    );
    (audit.writable, audit.why) = (false, Some("disk full".to_owned()));
    status.audit = Some(audit);
    status.upstreams[0].unreachable = unreachable("2026-01-01T12:30:00Z");
    assert_eq!(
        codes(&status),
        [
            "audit-not-written",
            "credential-failing",
            "configuration-refused"
        ]
    );
}

#[test]
fn a_credential_that_is_not_renewed_is_told_before_it_ends() {
    let mut status = well();
    status.upstreams[0].credentials_not_renewed = vec![NotRenewedStatus {
        why: "the vault is sealed".to_owned(),
        usable_until: "2026-01-01T14:20:00Z".to_owned(),
    }];
    let [one] = conditions(&status).try_into().unwrap();
    assert_eq!(one.code, "credential-not-renewed");
    let end = ": until 2026-01-01T14:20:00Z; the vault is sealed";
    assert!(one.text.ends_with(end), "{}", one.text);
}

#[test]
fn a_rotation_that_failed_once_is_nothing_and_one_that_keeps_failing_is() {
    let with = |failures| {
        let key = KeyFacts {
            fingerprint: "0a1b-2c3d-4e5f-6071".to_owned(),
            since: now(),
            due_at: None,
            is_supported: Some(true),
            trouble: Some("no space left on device".to_owned()),
            failures,
        };
        let facts = LinkFacts {
            key: Some(key),
            ..LinkFacts::default()
        };
        let mut status = well();
        status.connections = vec![online(&facts)];
        conditions(&status)
    };
    assert!(with(1).is_empty());
    let [one] = with(2).try_into().unwrap();
    assert_eq!(
        (one.code.as_str(), one.subject.as_str()),
        ("key-not-replaced", "acme")
    );
    assert!(
        one.text.ends_with(": no space left on device"),
        "{}",
        one.text
    );
}

#[test]
fn a_disk_that_is_nearly_full_is_told_with_its_directory_and_what_is_left() {
    let mut status = well();
    let disk = |directory: &str, free_bytes| Room {
        directory: directory.to_owned(),
        free_bytes,
        size_bytes: 40 << 30,
    };
    status.disks = vec![
        disk("/var/lib/relay-agent", 300 << 20),
        disk("/srv", 3 << 30),
    ];
    let [one] = conditions(&status).try_into().unwrap();
    assert_eq!(one.code, "disk-nearly-full");
    assert_eq!(one.subject, "/var/lib/relay-agent");
    assert!(
        one.text.ends_with(": 300 MiB of 40 GiB are left"),
        "{}",
        one.text
    );
    assert!(
        one.remedy.contains("/var/lib/relay-agent"),
        "{}",
        one.remedy
    );
}

#[test]
fn a_disk_that_does_not_answer_is_told_with_its_directory_since_when_and_why() {
    let mut status = well();
    status.silent_disks = vec![Silent {
        directory: "/srv".to_owned(),
        since: "2026-01-01T13:00:00Z".to_owned(),
        why: "Stale file handle (os error 116)".to_owned(),
    }];
    let [one] = conditions(&status).try_into().unwrap();
    assert_eq!(one.code, "disk-silent");
    assert_eq!(one.severity, Severity::Critical);
    assert_eq!(one.since, "2026-01-01T13:00:00Z");
    assert!(one.text.contains("Stale file handle"), "{}", one.text);
    assert!(one.remedy.contains("/srv"), "{}", one.remedy);
}

#[test]
fn every_code_is_unique_and_is_read_back() {
    let mut words: Vec<_> = Code::ALL.iter().map(|code| code.kind().code).collect();
    for code in Code::ALL {
        assert_eq!(Code::parse(code.kind().code), Some(*code));
    }
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Code::ALL.len());
}
