//! Which relay has which conditions.

use serde_json::{Value, json};

use super::*;
use crate::condition::{Condition, Ledger};
use crate::disk::{Room, Silent};
use crate::link::tls::server::RefusedCertificate;

fn now() -> SystemTime {
    time_of("2026-01-01T14:00:00Z").unwrap()
}

fn connection(changes: &[(&str, Value)]) -> ConnectionView {
    let mut view = json!({
        "id": "c_x", "name": "acme_to_widgets", "local": "acme", "remote": "widgets", "mode": "script",
        "description": "", "project": null, "state": "active", "state_text": "active",
        "deactivated": {"here": false, "there": false},
        "link": {"status": "online", "since": null, "address": null, "software": null},
        "last_seen_at": "2026-01-01T13:00:00Z", "far_side": null, "invitation": null,
        "created_at": "2026-01-01T00:00:00Z", "calls_in_flight": 0,
    });
    for (pointer, value) in changes {
        *view.pointer_mut(pointer).unwrap() = value.clone();
    }
    serde_json::from_value(view).unwrap()
}

fn well() -> Seen {
    Seen {
        store_answers: true,
        listeners: 1,
        connections: vec![connection(&[])],
        ..Seen::default()
    }
}

fn conditions(seen: &Seen) -> Vec<Condition> {
    let mut ledger = Ledger::default();
    ledger.look(of(seen, now()), now());
    ledger.conditions()
}

fn codes(seen: &Seen) -> Vec<String> {
    conditions(seen).into_iter().map(|one| one.code).collect()
}

#[test]
fn nothing_is_the_matter_with_a_relay_that_is_well() {
    assert_eq!(codes(&well()), [""; 0]);
}

#[test]
fn the_relay_itself_is_judged() {
    let mut seen = Seen {
        store_answers: false,
        is_trial: true,
        ..Seen::default()
    };
    assert_eq!(
        codes(&seen),
        [
            "no-listener",
            "store-silent",
            "no-connection",
            "trial-certificate"
        ]
    );
    seen = well();
    seen.store_trouble = Some(WriteTrouble {
        since: time_of("2026-01-01T13:00:00Z").unwrap(),
        why: "database or disk is full".to_owned(),
    });
    let [not_written] = conditions(&seen).try_into().unwrap();
    assert_eq!(not_written.code, "store-not-written");
    assert_eq!(not_written.since, "2026-01-01T13:00:00Z");
    assert!(not_written.text.ends_with(": database or disk is full"));
    seen = well();
    seen.disks.rooms = vec![Room {
        directory: "/var/lib/relay".into(),
        free_bytes: 1024,
        size_bytes: 1024 * 1024,
    }];
    let [nearly_full] = conditions(&seen).try_into().unwrap();
    assert_eq!(nearly_full.code, "disk-nearly-full");
    assert!(nearly_full.text.ends_with(": 1 KiB of 1 MiB are left"));
    assert!(nearly_full.remedy.contains("/var/lib/relay"));
    seen = well();
    seen.disks.silent = vec![Silent {
        directory: "/var/lib/relay".into(),
        since: "2026-01-01T13:00:00Z".into(),
        why: "Stale file handle".into(),
    }];
    let [silent] = conditions(&seen).try_into().unwrap();
    assert_eq!(silent.code, "disk-silent");
    assert_eq!(silent.since, "2026-01-01T13:00:00Z");
    assert!(silent.text.ends_with(": Stale file handle"));
    seen = well();
    seen.listeners = 0;
    seen.draining = Some(Draining {
        since: "2026-01-01T13:59:00Z".into(),
        until: "2026-01-01T13:59:30Z".into(),
        calls_under_way: 1,
    });
    let [draining] = conditions(&seen).try_into().unwrap();
    assert_eq!(draining.code, "draining");
    assert_eq!(draining.since, "2026-01-01T13:59:00Z");
    assert!(draining.text.contains("1 call is under way") && draining.text.contains("13:59:30Z"));
}

#[test]
fn a_certificate_is_told_of_before_it_expires_when_it_has_and_when_the_new_one_is_of_no_use() {
    let with = |expires_at: &str, refused| {
        let certificate = CertificateHealth {
            expires_at: time_of(expires_at),
            refused,
        };
        codes(&Seen {
            certificate: Some(certificate),
            ..well()
        })
    };
    assert_eq!(with("2026-01-16T14:00:00Z", None), [""; 0]);
    assert_eq!(with("2026-01-15T13:00:00Z", None), ["certificate-expires"]);
    let refused = RefusedCertificate {
        since: now(),
        why: "no key".to_owned(),
    };
    assert_eq!(
        with("2026-01-01T13:00:00Z", Some(refused)),
        ["certificate-expired", "certificate-refused"]
    );
}

#[test]
fn a_limit_that_was_met_is_told_of_for_a_while() {
    let happened = |at: &str| Happened {
        times: 3,
        last_at: seconds(time_of(at).unwrap()),
    };
    let mut seen = well();
    seen.sockets_turned_away = happened("2026-01-01T13:59:00Z");
    seen.agents_turned_away = happened("2026-01-01T13:59:00Z");
    seen.calls_turned_away = happened("2026-01-01T13:40:00Z");
    assert_eq!(codes(&seen), ["agents-turned-away", "sockets-turned-away"]);
}

#[test]
fn connections_have_their_own() {
    let of = |changes: &[(&str, Value)]| {
        let connections = vec![connection(changes)];
        let conditions = conditions(&Seen {
            connections,
            ..well()
        });
        conditions
            .into_iter()
            .map(|one| format!("{} {}", one.code, one.since))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(&[("/link/status", json!("offline"))]),
        ["agent-absent 2026-01-01T13:00:00Z"]
    );
    let sides = json!({"here": true, "there": true});
    let changes = [("/deactivated", sides), ("/state", json!("deactivated"))];
    let now = "2026-01-01T14:00:00Z";
    assert_eq!(
        of(&changes),
        [
            format!("deactivated-here {now}"),
            format!("deactivated-there {now}")
        ]
    );
    let closed = json!({"state": "expired", "issued_at": "x", "expires_at": "y"});
    let changes = [("/state", json!("pending")), ("/invitation", closed)];
    assert_eq!(of(&changes), [format!("invitation-closed {now}")]);
    assert_eq!(
        of(&[
            ("/state", json!("removed")),
            ("/link/status", json!("offline"))
        ]),
        [format!("removed-there {now}")]
    );
}
