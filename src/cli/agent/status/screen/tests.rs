//! What `agent status` shows, screen by screen; the screens themselves are under `tests/screens`.

use super::*;
use crate::agent::conditions;
use crate::agent::status::{
    Cut, Duplicate, LinkStatus, NotRenewedStatus, RefusedConfiguration, UnreachableStatus,
};
use crate::cli::golden;
use crate::condition::{Ledger, verdict};
use crate::disk::Room;

const TERMINAL: Look = Look {
    width: Some(80),
    height: Some(24),
    colours: false,
};

fn now() -> SystemTime {
    humantime::parse_rfc3339("2026-01-01T14:30:00Z").unwrap()
}

fn text(words: &str) -> String {
    words.to_owned()
}

fn connection(name: &str) -> ConnectionStatus {
    ConnectionStatus {
        name: text(name),
        connection: text("c_x"),
        public_side: text("acme"),
        private_side: text("widgets"),
        relay_url: text("https://relay.example.com"),
        project: None,
        state: ConnectionState::Active,
        deactivated_here: false,
        deactivated_there: false,
        key: Some(KeyStatus {
            fingerprint: text("0a1b-2c3d-4e5f-6071"),
            since: text("2025-12-20T14:00:00Z"),
            rotation: text("automatic"),
            due_at: Some(text("2026-01-19T16:00:00Z")),
            trouble: None,
            failures: 0,
        }),
        link: LinkStatus {
            status: text("online"),
            since: Some(text("2026-01-01T10:00:00Z")),
            last_seen: Some(text("2026-01-01T14:29:58Z")),
            ..LinkStatus::default()
        },
    }
}

fn down(name: &str, trouble: &str, why: &str) -> ConnectionStatus {
    let mut connection = connection(name);
    connection.link = LinkStatus {
        status: text("reconnecting"),
        last_seen: Some(text("2026-01-01T14:02:00Z")),
        why: Some(text(why)),
        trouble: Some(text(trouble)),
        next_dial_at: Some(text("2026-01-01T14:30:05Z")),
        ..LinkStatus::default()
    };
    connection
}

fn upstream() -> UpstreamStatus {
    UpstreamStatus {
        name: text("jira"),
        url: text("https://jira.corp.local:8443"),
        rules: 3,
        calls_under_way: 0,
        calls: [(text("2xx"), 1204), (text("4xx"), 3)].into(),
        credential_troubles: Vec::new(),
        credentials_not_renewed: Vec::new(),
        credential_renewals: None,
        unreachable: None,
        candidate: None,
    }
}

fn agent(connections: Vec<ConnectionStatus>) -> AgentStatus {
    AgentStatus {
        version: 1,
        software: text("relay-agent/0.1.0"),
        process_id: 4711,
        started_at: text("2026-01-01T10:00:00Z"),
        draining: false,
        stopping: None,
        has_former_process: false,
        log_level: text("info"),
        health: String::new(),
        conditions: Vec::new(),
        connections,
        upstreams: vec![upstream()],
        audit: Some(AuditStatus {
            writable: true,
            since: None,
            why: None,
            line: 1207,
            hash: Some("ab".repeat(32)),
            refused: 0,
            waiting: 0,
            not_sent: 0,
        }),
        refused_configuration: None,
        withheld_configuration: None,
        withdrawn_upstreams: None,
        disks: Vec::new(),
        silent_disks: Vec::new(),
    }
}

/// With the conditions that the daemon finds, begun at 14:02.
fn looked_at(mut status: AgentStatus) -> AgentStatus {
    let mut ledger = Ledger::default();
    let begun = humantime::parse_rfc3339("2026-01-01T14:02:00Z").unwrap();
    ledger.look(conditions::of(&status, now()), begun);
    status.conditions = ledger.conditions();
    status.health = verdict(&status.conditions).to_owned();
    status
}

fn shown(name: &str, status: AgentStatus) -> String {
    let screen = screen(&looked_at(status), &TERMINAL, now());
    for line in screen.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    golden::check(name, &screen);
    screen
}

#[test]
fn an_agent_that_is_well_says_so_in_the_first_line_and_fits_a_terminal() {
    let mut cut = connection("acme_to_widgets");
    cut.link.resumed = 3;
    cut.link.last_cut = Some(Cut {
        at: text("2026-01-01T12:00:00Z"),
        why: text("the other side hung up without a word"),
    });
    let screen = shown("agent-status-well", agent(vec![cut, connection("globex")]));
    assert!(screen.starts_with("All is well: 2 of 2 links online.\n"));
    assert!(screen.lines().count() <= 24);
}

#[test]
fn a_password_that_the_proxy_refuses_is_told_with_what_to_do_first() {
    let connection = down(
        "acme_to_widgets",
        "no-link-proxy-password",
        "the proxy proxy.corp.local:3128 does not open the way to relay.example.com:443: it wants to know who is asking (407); it offers Basic",
    );
    let screen = shown("agent-status-proxy-password", agent(vec![connection]));
    let first = screen.lines().next().unwrap();
    assert!(
        first.starts_with("1 critical: Write user and password"),
        "{first}"
    );
    assert!(screen.contains("since 14:02 UTC"), "{screen}");
}

#[test]
fn an_agent_of_which_much_is_the_matter_shows_the_worst_first() {
    let mut deactivated = connection("globex");
    deactivated.state = ConnectionState::Deactivated;
    deactivated.deactivated_there = true;
    let mut doubled = connection("initech");
    doubled.link.duplicate = Some(Duplicate {
        at: text("2026-01-01T14:29:00Z"),
        from: text("192.0.2.7:5000"),
    });
    doubled.link.clock_ahead = Some(-312);
    let mut status = agent(vec![deactivated, doubled]);
    status.refused_configuration = Some(RefusedConfiguration {
        at: text("2026-01-01T14:10:00Z"),
        why: text(
            "the configuration has mistakes:\n/etc/relay-agent/agent.toml: upstream.colour: no such key",
        ),
    });
    status.upstreams = vec![UpstreamStatus {
        credential_troubles: vec![text("the file /etc/token cannot be read: No such file")],
        unreachable: Some(UnreachableStatus {
            since: text("2026-01-01T14:20:00Z"),
            last_at: text("2026-01-01T14:29:00Z"),
            calls: 12,
            code: text("upstream-unreachable"),
        }),
        ..upstream()
    }];
    let audit = status.audit.as_mut().unwrap();
    audit.writable = false;
    audit.since = Some(text("2026-01-01T14:25:00Z"));
    audit.why = Some(text("No space left on device"));
    let screen = shown("agent-status-much", status);
    let words = [
        "CANNOT BE WRITTEN",
        "NOT IN FORCE",
        "192.0.2.7",
        "312 s ahead of",
    ];
    for words in words {
        assert!(screen.contains(words), "{words}: {screen}");
    }
}

#[test]
fn credentials_keys_and_disks_that_will_be_a_trouble_are_told_before_they_are() {
    let mut failing = connection("acme_to_widgets");
    let key = failing.key.as_mut().unwrap();
    key.rotation = text("failing");
    (key.trouble, key.failures) = (Some(text("No space left on device (os error 28)")), 4);
    let mut status = agent(vec![failing]);
    status.upstreams[0].credentials_not_renewed = vec![NotRenewedStatus {
        why: text("/usr/bin/vault gave no credential: it ended with 2"),
        usable_until: text("2026-01-01T14:52:00Z"),
    }];
    status.disks = vec![Room {
        directory: text("/var/lib/relay-agent"),
        free_bytes: 12 << 20,
        size_bytes: 40 << 30,
    }];
    let screen = shown("agent-status-soon", status);
    assert!(screen.starts_with("3 warnings: "), "{screen}");
    for words in [
        "12 MiB of 40 GiB",
        "fails, and is tried again",
        "2026-01-01T14:52:00Z",
    ] {
        assert!(screen.contains(words), "{words}: {screen}");
    }
}

#[test]
fn a_key_is_shown_with_its_age_and_when_it_is_replaced() {
    let key = connection("acme").key.unwrap();
    let next = |rotation: &str, due_at: Option<&str>| {
        let key = KeyStatus {
            rotation: text(rotation),
            due_at: due_at.map(text),
            ..key.clone()
        };
        next_rotation(&key, now())
    };
    assert_eq!(
        next("automatic", Some("2026-01-19T16:00:00Z")),
        "in 18 days"
    );
    assert_eq!(next("automatic", Some("2026-01-01T14:00:00Z")), "due");
    assert_eq!(next("by-hand", None), "by hand: agent rotate");
    assert_eq!(next("unsupported", None), "none: the relay is too old");
    assert_eq!(next("unknown", None), "unknown");
    let table = key_table(&[connection("acme")], now()).unwrap();
    let row = table.lines().nth(1).unwrap();
    assert_eq!(row, "acme    0a1b-2c3d-4e5f-6071  12 days  in 18 days");
    let mut none = connection("acme");
    none.key = None;
    assert_eq!(key_table(&[none], now()), None);
}

#[test]
fn a_new_agent_says_what_comes_next() {
    let mut status = agent(Vec::new());
    status.upstreams = Vec::new();
    status.audit = None;
    let screen = shown("agent-status-new", status);
    assert!(screen.contains("agent accept"), "{screen}");
    assert!(screen.contains("[[upstream]]"), "{screen}");
}

#[test]
fn an_ended_connection_is_cleared_with_a_command_that_is_told() {
    let mut ended = connection("acme_to_widgets");
    ended.state = ConnectionState::Ended;
    ended.link = LinkStatus {
        status: text("ended"),
        why: Some(text("the public side removed this connection")),
        ended_at: Some(text("2025-12-24T08:00:00Z")),
        ..LinkStatus::default()
    };
    let screen = shown("agent-status-ended", agent(vec![ended]));
    assert!(screen.contains("agent remove acme_to_widgets"), "{screen}");
    assert!(screen.contains("since 2025-12-24"), "{screen}");
}

#[test]
fn no_name_and_no_text_of_a_relay_steers_the_terminal() {
    let mut connection = down("a\x1b[2J\nb", "no-link-dns", "no\x1b]0;title\x07 route\r\n");
    connection.public_side = text("\u{9b}31m");
    let mut status = agent(vec![connection]);
    status.software = text("\x1b[31m");
    status.upstreams[0].name = text("\x1b[5m");
    for look in [TERMINAL, Look::default()] {
        let screen = screen(&looked_at(status.clone()), &look, now());
        let control = |c: char| c.is_control() && c != '\n';
        assert!(!screen.chars().any(control), "{screen:?}");
    }
}

#[test]
fn colours_mark_the_words_that_matter_and_nothing_else() {
    let look = Look {
        colours: true,
        ..TERMINAL
    };
    let status = looked_at(agent(vec![down("acme", "no-link-dns", "no such host")]));
    let screen = screen(&status, &look, now());
    assert_eq!(screen.matches("\x1b[1;31m").count(), 2, "{screen:?}");
    let plain = super::screen(&status, &TERMINAL, now());
    let stripped = screen.replace("\x1b[1;31m", "").replace("\x1b[0m", "");
    assert_eq!(stripped, plain);
}

#[test]
fn the_list_of_connections_shows_a_reason_and_what_comes_next() {
    let list = connection_rows(&[down("acme", "no-link-dns", "no route\x1b[2J")], now());
    assert!(list.contains("no route"), "{list}");
    assert!(list.contains("next try at 2026-01-01T14:30:05Z"), "{list}");
    assert!(!list.contains('\x1b'), "{list}");
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
