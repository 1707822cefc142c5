//! The rules of the house that neither the compiler nor clippy knows.

use crate::sources::{Source, below};

/// No file is longer, in lines: it would no longer read from the top like a page.
const CEILING: usize = 500;
/// Nine in ten files of the programs are shorter.
const LONG: usize = 400;
/// Half of the files of the programs are shorter.
const MEDIAN: usize = 200;

/// The modules that take values and return values: they touch no runtime, no file and no clock.
const PURE: [&str; 5] = [
    "agent/policy",
    "identity",
    "invitation",
    "protocol",
    "session",
];
/// The one child of a pure module that may touch files.
const IMPURE: &str = "src/identity/key_file.rs";
/// What a pure module never names.
const IMPURITIES: [&str; 5] = [
    "tokio",
    "std::fs",
    "Instant::now",
    "SystemTime",
    "std::net::Tcp",
];

/// What no part of the programs names, and why.
const NOWHERE: [(&str, &str); 2] = [
    ("thread::sleep", "it blocks every task of the runtime"),
    ("process::exit", "it skips destructors"),
];

/// Crates that one module alone may name: the word, and where.
const CONFINED: [(&str, &str); 4] = [
    ("rustls", "link/tls"),
    ("webpki", "link/tls"),
    ("backoff::", "backoff"),
    ("rusqlite", "relay/store"),
];

/// Whether a file is a module or one of its children.
fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix("src/")
        .and_then(|path| path.strip_prefix(module))
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Everything that a file does against the rules.
fn faults(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let path = source.path.as_str();
    let mut fault = |text: String| faults.push(format!("{path}: {text}"));
    if !source.text.starts_with("//! ") {
        fault("does not open with //! and what it is for".to_owned());
    }
    if source.length() > CEILING {
        fault(format!(
            "has {} lines, more than {CEILING}",
            source.length()
        ));
    }
    if path.starts_with("src/") && path.ends_with("/mod.rs") {
        fault("is called mod.rs; call it after its module, beside the folder".to_owned());
    }
    for word in [concat!("TO", "DO"), concat!("FIX", "ME")] {
        if source.text.contains(word) {
            fault(format!("says {word}; do it, or open an issue"));
        }
    }
    let production = source.production();
    if production.contains("use super::*") {
        fault("imports super::* outside its tests".to_owned());
    }
    if path != IMPURE && PURE.iter().any(|module| is_within(path, module)) {
        for word in IMPURITIES
            .into_iter()
            .filter(|word| production.contains(word))
        {
            fault(format!("names {word} in a pure module"));
        }
    }
    for (word, reason) in NOWHERE {
        if production.contains(word) {
            fault(format!("names {word}: {reason}"));
        }
    }
    for (word, home) in CONFINED
        .into_iter()
        .filter(|(_, home)| !is_within(path, home))
    {
        if names_crate(&production, word) {
            fault(format!("names {word}, which only src/{home} may"));
        }
    }
    faults
}

/// Whether code names a crate, and not a module of ours of the same name.
fn names_crate(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = &code[..at];
        let is_ours = ["crate::", "relay_agent::", "super::"]
            .iter()
            .any(|p| before.ends_with(p));
        !is_ours
    })
}

#[test]
fn every_file_follows_the_rules() {
    let programs = below("src");
    let around = ["tests", "benches", "examples", "fuzz"]
        .into_iter()
        .flat_map(below);
    let sources: Vec<_> = programs.into_iter().chain(around).collect();
    assert!(
        sources.len() >= 40,
        "only {} files were found",
        sources.len()
    );
    let faults: Vec<_> = sources.iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// A number that stands in two places drifts.
#[test]
fn the_readme_names_the_rust_version_of_the_manifest() {
    let manifest = include_str!("../../Cargo.toml");
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "));
    let wanted = format!("Rust {} or newer", version.unwrap().trim_matches('"'));
    assert!(
        include_str!("../../README.md").contains(&wanted),
        "{wanted:?} is not in README.md"
    );
}

#[test]
fn files_are_short() {
    let mut lengths: Vec<_> = below("src").iter().map(Source::length).collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median < MEDIAN, "the median file has {median} lines");
    let ninth = lengths[lengths.len() * 9 / 10];
    assert!(ninth < LONG, "one file in ten has {ninth} lines or more");
}

#[test]
fn every_rule_catches_what_it_is_for() {
    let long = "//! X.\n".repeat(CEILING + 1);
    for (path, text) in [
        ("src/x.rs", "use std::fmt;\n"),
        ("src/x.rs", long.as_str()),
        ("src/x/mod.rs", "//! X.\n"),
        ("tests/it/x.rs", concat!("//! X.\n// TO", "DO: x\n")),
        ("src/x.rs", concat!("//! X.\n// FIX", "ME\n")),
        (
            "src/x.rs",
            "//! X.\nuse super::*;\n#[cfg(test)]\nmod tests {}\n",
        ),
        ("src/session.rs", "//! X.\nuse tokio::time;\n"),
        (
            "src/session/clock.rs",
            "//! X.\nfn f() { std::time::Instant::now(); }\n",
        ),
        ("src/identity.rs", "//! X.\nuse std::fs;\n"),
        (
            "src/agent/policy/x.rs",
            "//! X.\nuse std::time::SystemTime;\n",
        ),
        ("src/relay/x.rs", "//! X.\nuse rustls::ServerConfig;\n"),
        ("src/relay/x.rs", "//! X.\nuse tokio_rustls::TlsStream;\n"),
        (
            "src/agent/x.rs",
            "//! X.\nuse backoff::ExponentialBackoff;\n",
        ),
        ("src/x.rs", "//! X.\nfn f() { std::thread::sleep(d); }\n"),
        ("src/relay/x.rs", "//! X.\nuse rusqlite::Connection;\n"),
    ] {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(
            faults(&source).len(),
            1,
            "{path}: {text:?} gives {:?}",
            faults(&source)
        );
    }
}

#[test]
fn the_rules_let_through_what_they_are_not_for() {
    for (path, text) in [
        (
            "src/x.rs",
            "//! X.\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n",
        ),
        (
            "src/session/tests.rs",
            "//! X, with tokio.\nuse super::*;\nuse tokio::time;\n",
        ),
        ("src/identity/key_file.rs", "//! X.\nuse std::fs;\n"),
        ("src/sessions.rs", "//! X.\nuse tokio::time;\n"),
        ("src/protocol.rs", "//! Pure: no tokio, no SystemTime.\n"),
        (
            "src/link/tls/pin.rs",
            "//! X.\nuse rustls::pki_types::CertificateDer;\n",
        ),
        ("src/agent/x.rs", "//! X.\nuse crate::backoff::Redial;\n"),
        (
            "src/relay/store/tokens.rs",
            "//! X.\nuse rusqlite::Connection;\n",
        ),
    ] {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(faults(&source), Vec::<String>::new(), "{path}");
    }
}
