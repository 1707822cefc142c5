//! The reference configuration is whole, and mistakes are told together.

use std::collections::BTreeSet;

use super::*;

const REFERENCE: &str = include_str!("../../../config/relay.toml");

fn load(text: &str) -> Result<RelayConfig, String> {
    load_with(text, &[])
}

fn load_with(text: &str, environment: &[(&str, &str)]) -> Result<RelayConfig, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.toml");
    std::fs::write(&path, text).unwrap();
    let environment = environment
        .iter()
        .map(|(key, value)| (OsString::from(key), OsString::from(value)));
    RelayConfig::load(Some(&path), environment).map_err(|mistakes| mistakes.to_string())
}

/// The lines of the reference that are keys or tables, with the comment sign off those that show a default.
fn uncommented() -> String {
    let is_setting = |line: &str| {
        line.starts_with('[')
            || line
                .split_once(" = ")
                .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let lines = REFERENCE.lines().filter_map(|line| {
        let line = line.strip_prefix("#").unwrap_or(line);
        is_setting(line).then_some(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_reference_is_a_working_configuration() {
    let config = load(REFERENCE).unwrap();
    assert_eq!(config.listen, DEFAULT_LISTEN);
    assert!(matches!(config.tls, TlsMode::Files { .. }));
}

#[test]
fn what_the_reference_shows_as_defaults_are_the_defaults() {
    let short = "public_url = 'https://relay.example.com:8443'\n[tls]\nmode = 'self-signed'\n";
    let defaults = load(short).unwrap();
    let shown = load(&uncommented()).unwrap();
    assert_eq!(shown.state_dir, defaults.state_dir);
    assert_eq!(shown.invitation_life, defaults.invitation_life);
    assert_eq!(shown.drain_timeout, defaults.drain_timeout);
    assert_eq!(shown.admin.socket, defaults.admin.socket);
    assert_eq!(format!("{:?}", shown.log), format!("{:?}", defaults.log));
    assert_eq!(
        format!("{:?}", shown.limits),
        format!("{:?}", defaults.limits)
    );
    assert_eq!(format!("{:?}", shown.link), format!("{:?}", defaults.link));
}

#[test]
fn the_reference_has_every_key_that_is_known_and_no_other() {
    // Unknown keys are mistakes that list the known ones: one bad key in each table names them all.
    let tables = [
        "",
        "[admin]\n",
        "[log]\n",
        "[metrics]\n",
        "[limits]\n",
        "[link]\n",
        "[tls]\n",
    ];
    let mut known = BTreeSet::new();
    for table in tables {
        let error = load(&format!("{table}zzzzzzzzzzzzzzzzzzzz = 1\n")).unwrap_err();
        let listed = error.split("known here: ").nth(1).unwrap();
        let listed = listed.lines().next().unwrap();
        let prefix = table.trim().trim_matches(['[', ']']);
        known.extend(listed.split(", ").map(|key| format!("{prefix}/{key}")));
    }
    let mut shown = BTreeSet::new();
    let mut prefix = String::new();
    for line in uncommented().lines() {
        if let Some(table) = line.strip_prefix('[') {
            prefix = table.trim_end_matches(']').to_owned();
            shown.insert(format!("/{prefix}"));
        } else if let Some((key, _)) = line.split_once(" = ") {
            shown.insert(format!("{prefix}/{key}"));
        }
    }
    assert_eq!(shown, known);
    assert_eq!(shown.len(), 35);
}

#[test]
fn all_mistakes_are_told_at_once_with_their_remedies() {
    let error = load(
        "listen = 'here'\nplain_listen = '0.0.0.0:80'\ninvitation_lifes = '1h'\n\
         [tls]\nmode = 'fies'\n[limits]\nsockets = 1\n",
    )
    .unwrap_err();
    for part in [
        "listen: cannot be used",
        "plain_listen: is not a loopback address",
        "did you mean invitation_life?",
        "public_url: is missing",
        "tls.mode: is none of the choices; write one of files, self-signed, off",
        "limits.sockets: is out of range",
    ] {
        assert!(error.contains(part), "{part:?} is not in:\n{error}");
    }
}

#[test]
fn tls_files_must_be_named_and_the_public_url_must_agree() {
    let error = load("public_url = 'https://r.example'\n").unwrap_err();
    assert!(error.contains("tls.certificate: is missing"));
    assert!(error.contains("tls.key: is missing"));
    let error = load("public_url = 'http://r.example'\n[tls]\nmode = 'self-signed'\n").unwrap_err();
    assert!(error.contains("public_url: begins with http://"));
    load("public_url = 'http://r.example'\n[tls]\nmode = 'off'\n").unwrap();
}

#[test]
fn behind_a_load_balancer_one_address_may_take_every_place_for_a_handshake() {
    let limits = |text: &str| {
        load(&format!("public_url = 'https://r.example'\n{text}"))
            .unwrap()
            .limits
    };
    let own = limits("[tls]\nmode = 'self-signed'\n");
    assert!(own.handshakes_per_address < own.handshakes);
    let behind = limits("[tls]\nmode = 'off'\n");
    assert_eq!(behind.handshakes_per_address, behind.handshakes);
    let chosen = limits("[tls]\nmode = 'off'\n[limits]\nhandshakes_per_address = 7\n");
    assert_eq!(chosen.handshakes_per_address, 7);
}

#[test]
fn the_environment_overrides_the_file() {
    let environment = [
        ("RELAY__LISTEN", "127.0.0.1:0"),
        ("RELAY__TLS__MODE", "off"),
    ];
    let config = load_with(REFERENCE, &environment).unwrap();
    assert_eq!(config.listen, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    assert_eq!(config.tls, TlsMode::Off);
}
