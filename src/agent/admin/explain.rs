//! `GET /v1/policy/explain?method=…&url=…&upstream=…`: which rule would allow a call, or why none does.

use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};

use super::api::{ExplainAnswer, ExplainedRule};
use crate::agent::config::UpstreamConfig;
use crate::agent::policy::Explanation;
use crate::agent::serve::Gateway;
use crate::problem::Problem;

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    method: Method,
    url: Uri,
    upstream: Option<String>,
}

/// Why a question cannot be answered, for people.
#[derive(Debug)]
pub(super) struct BadQuestion(&'static str);

impl BadQuestion {
    /// The answer.
    pub(super) fn problem(&self) -> Problem {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad-question",
            "the question cannot be answered",
        )
        .detail(self.0)
    }
}

pub(super) fn explain(
    gateway: &Gateway,
    upstreams: &[UpstreamConfig],
    query: &str,
) -> Result<ExplainAnswer, BadQuestion> {
    let question = Question::read(query)?;
    let (upstream, path) = target(upstreams, &question)?;
    let explanation = gateway.explain(&upstream, &question.method, &path);
    let (allowed, reason, rules) = match explanation {
        Explanation::Allowed { index, rule } => {
            (true, format!("rule {}: {rule}", index + 1), Vec::new())
        }
        Explanation::Denied { reason, rules } => {
            let rules = rules
                .iter()
                .map(|verdict| ExplainedRule {
                    rule: verdict.rule.to_string(),
                    why_not: verdict.mismatch.to_string(),
                })
                .collect();
            (false, reason.to_string(), rules)
        }
    };
    Ok(ExplainAnswer {
        allowed,
        upstream,
        method: question.method.to_string(),
        path: path.to_string(),
        reason,
        rules,
    })
}

impl Question {
    fn read(query: &str) -> Result<Self, BadQuestion> {
        let mut method = None;
        let mut url = None;
        let mut upstream = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| bad("the query is not well encoded"))?;
            match key {
                "method" => method = Some(value),
                "url" => url = Some(value),
                "upstream" => upstream = Some(value),
                _ => return Err(bad("the query takes method, url and upstream")),
            }
        }
        Ok(Self {
            method: method
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| bad("method is missing, or is not a method"))?,
            url: url
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| bad("url is missing, or is not a URL"))?,
            upstream,
        })
    }
}

/// The upstream and the path that a call to this URL would have.
fn target(
    upstreams: &[UpstreamConfig],
    question: &Question,
) -> Result<(String, PathAndQuery), BadQuestion> {
    let url = &question.url;
    let path = url
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    if url.authority().is_none() {
        return match (&question.upstream, upstreams) {
            (Some(name), _) => Ok((name.clone(), path)),
            (None, [only]) => Ok((only.name.to_string(), path)),
            (None, _) => Err(bad("give --upstream, or the whole URL of an upstream")),
        };
    }
    let below = |upstream: &UpstreamConfig| {
        let same = upstream.url.scheme() == url.scheme() && port(&upstream.url) == port(url) && {
            let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
            host(&upstream.url) == host(url)
        };
        let rest = path
            .as_str()
            .strip_prefix(upstream.url.path().trim_end_matches('/'))?;
        let rest = if rest.starts_with('/') {
            rest.to_owned()
        } else if rest.is_empty() || rest.starts_with('?') {
            format!("/{rest}")
        } else {
            return None;
        };
        same.then(|| rest.parse().ok()).flatten()
    };
    upstreams
        .iter()
        .filter(|upstream| {
            question
                .upstream
                .as_deref()
                .is_none_or(|name| name == upstream.name.as_str())
        })
        .find_map(|upstream| Some((upstream.name.to_string(), below(upstream)?)))
        .ok_or_else(|| bad("the URL lies below no configured upstream"))
}

fn port(uri: &Uri) -> Option<u16> {
    uri.port_u16().or_else(|| match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })
}

/// The reverse of percent-encoding, in which `+` stands for itself.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

const fn bad(detail: &'static str) -> BadQuestion {
    BadQuestion(detail)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::agent::config::RawRule;

    fn upstream(name: &str, url: &'static str) -> UpstreamConfig {
        UpstreamConfig {
            name: name.parse().unwrap(),
            url: Uri::from_static(url),
            ca_file: None,
            set_headers: Vec::new(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            max_in_flight: 1,
            allow: vec![RawRule {
                methods: vec!["GET".to_owned()],
                path: "/issue/{key}".to_owned(),
            }],
        }
    }

    fn ask(query: &str) -> Result<ExplainAnswer, BadQuestion> {
        let upstreams = [
            upstream("jira", "http://jira.corp.local:8080/jira"),
            upstream("git", "http://git.corp.local"),
        ];
        explain(&Gateway::open(&upstreams, None).unwrap(), &upstreams, query)
    }

    #[test]
    fn the_upstream_is_found_by_the_url_and_its_prefix_is_left_out() {
        let answer =
            ask("method=GET&url=http%3A%2F%2FJira.corp.local%3A8080%2Fjira%2Fissue%2FA-1%3Fx=1")
                .unwrap();
        assert!(answer.allowed, "{answer:?}");
        assert_eq!(
            (answer.upstream.as_str(), answer.path.as_str()),
            ("jira", "/issue/A-1?x=1")
        );
        assert!(ask("method=GET&url=http://jira.corp.local:8080/jirax/issue/A").is_err());
        assert!(
            ask("method=GET&url=http://git.corp.local:80/issue/A")
                .unwrap()
                .allowed
        );
    }

    #[test]
    fn a_path_alone_needs_the_upstream() {
        assert!(ask("method=GET&url=/issue/A").is_err());
        let answer = ask("method=PUT&url=/issue/A&upstream=git").unwrap();
        assert!(!answer.allowed);
        assert_eq!(answer.rules.len(), 1);
    }

    #[test]
    fn a_question_that_makes_no_sense_is_told_so() {
        for query in [
            "",
            "method=GET",
            "method=G%20T&url=/",
            "method=GET&url=/&colour=red",
            "url=%zz",
        ] {
            assert!(Question::read(query).is_err(), "{query}");
        }
    }
}
