//! What the policy alone says to the paths and headers of the corpus, and why.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use relay_agent::agent::policy::{Asked, Policy, Rule, decide};

use super::corpus::Corpus;

/// The corpus with this many requests, so that none is lost unnoticed.
const AT_LEAST: usize = 270;

#[test]
fn every_request_of_the_corpus_has_its_verdict() {
    let corpus = Corpus::read();
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
