//! The corpus of requests that try to be something else, `tests/vectors/policy/attacks.toml`: what the
//! policy alone says to their paths and headers. `tests/it/attacks.rs` sends them.

use std::collections::BTreeMap;

use config::{Config, File, FileFormat};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;

use super::{Asked, Policy, Rule, decide};

/// The corpus with this many requests, so that none is lost unnoticed.
const AT_LEAST: usize = 270;

#[derive(Deserialize)]
struct Corpus {
    denied: BTreeMap<String, Vec<String>>,
    allowed: Allowed,
    headers: Headers,
}

#[derive(Deserialize)]
struct Allowed {
    requests: Vec<String>,
}

#[derive(Deserialize)]
struct Headers {
    denied: Vec<String>,
    allowed: Vec<String>,
    /// Allowed, and lost on the way.
    dropped: Vec<String>,
}

#[test]
fn every_request_of_the_corpus_has_its_verdict() {
    let corpus = corpus();
    let none = HeaderMap::new();
    let mut requests = 0;
    let mut wrong = Vec::new();
    let mut judge = |line: &str, headers: &HeaderMap, expected: &str| {
        requests += 1;
        let verdict = verdict(line, headers);
        if verdict != expected {
            wrong.push(format!("{line} {headers:?}: {verdict}, not {expected}"));
        }
    };
    for (reason, lines) in &corpus.denied {
        lines.iter().for_each(|line| judge(line, &none, reason));
    }
    for line in &corpus.allowed.requests {
        judge(line, &none, "allowed");
    }
    for (lines, expected) in [
        (&corpus.headers.denied, "override"),
        (&corpus.headers.allowed, "allowed"),
        (&corpus.headers.dropped, "allowed"),
    ] {
        for line in lines {
            judge("GET /open/x", &header(line), expected);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(requests >= AT_LEAST, "only {requests}");
}

fn header(line: &str) -> HeaderMap {
    let (name, value) = line.split_once(':').unwrap();
    let name: HeaderName = name.parse().unwrap();
    let value: HeaderValue = value.trim().parse().unwrap();
    HeaderMap::from_iter([(name, value)])
}

fn corpus() -> Corpus {
    let text = include_str!("../../../tests/vectors/policy/attacks.toml");
    let file = File::from_str(text, FileFormat::Toml);
    let whole = Config::builder().add_source(file).build().unwrap();
    whole.try_deserialize().unwrap()
}

/// The rules that the corpus names.
fn policy() -> Policy {
    let allow = |methods: &[&str], path| Rule::parse(methods, path).unwrap();
    let rules = vec![
        allow(&["GET", "POST"], "/open/{*rest}"),
        allow(&["GET"], "/issue/{key}/watchers"),
        allow(&["GET"], "/projects/{id}").taking_encoded_slash(true),
        allow(&["GET"], "/projects/{id}/variables").taking_encoded_slash(true),
        Rule::parse_deny::<&str>(&[], "/open/keys/{*rest}").unwrap(),
        Rule::parse_deny(&["GET"], "/projects/{id}/variables").unwrap(),
    ];
    Policy::new([("web".parse().unwrap(), rules)])
}

fn verdict(line: &str, headers: &HeaderMap) -> &'static str {
    let (method, path) = line.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let path = path.parse().unwrap();
    let asked = Asked {
        method: &method,
        headers,
        ..Asked::get("web", &path)
    };
    match decide(&policy(), &asked) {
        Ok(permitted) => {
            assert_eq!(permitted.path_and_query().as_str(), path.as_str());
            "allowed"
        }
        Err(denial) => denial.reason.word(),
    }
}
