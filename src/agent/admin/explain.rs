//! `GET /v1/policy/explain?method=…&url=…`, and perhaps `upstream=…`, `caller=…` and `header=…` for each
//! header: which rule would allow a call, or why none does. `POST`, with the body of the call: the same for
//! rules that look at it.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::api::ExplainAnswer;
use crate::agent::config::UpstreamConfig;
use crate::agent::policy::{Asked, GivenBody, WholeBody};
use crate::agent::serve::Gateway;
use crate::problem::Problem;

/// The longest body that is asked about, in bytes: far more than any rule looks at, and no more than one person's
/// question may take of the agent's memory.
pub(super) const MAX_BODY: usize = 16 * 1024 * 1024;
/// What is said of a header that is none.
const NOT_A_HEADER: &str = "a header is written as 'Name: value'";

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    method: Method,
    url: Uri,
    upstream: Option<String>,
    caller: Option<String>,
    headers: HeaderMap,
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
    body: Option<Bytes>,
) -> Result<ExplainAnswer, BadQuestion> {
    let question = Question::read(query)?;
    let (upstream, path) = target(upstreams, &question)?;
    let length = body.as_ref().map_or(0, Bytes::len);
    let body = body.map(WholeBody::new);
    let asked = Asked {
        upstream: &upstream,
        method: &question.method,
        path_and_query: &path,
        headers: &question.headers,
        caller: question.caller.as_deref(),
        body: body.as_ref().map_or(GivenBody::NotGathered, GivenBody::of),
    };
    let explanation = gateway.explain(&asked);
    Ok(ExplainAnswer::of(&asked, length as u64, &explanation))
}

impl Question {
    fn read(query: &str) -> Result<Self, BadQuestion> {
        let mut method = None;
        let mut url = None;
        let mut upstream = None;
        let mut caller = None;
        let mut headers = HeaderMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| bad("the query is not well encoded"))?;
            match key {
                "method" => method = Some(value),
                "url" => url = Some(value),
                "upstream" => upstream = Some(value),
                "caller" => caller = Some(value),
                "header" => {
                    let (name, value) = header(&value).ok_or_else(|| bad(NOT_A_HEADER))?;
                    headers.append(name, value);
                }
                _ => {
                    let known = "the query takes method, url, upstream, caller and header";
                    return Err(bad(known));
                }
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
            caller,
            headers,
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

/// A header as it is written in a request.
fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.parse().ok()?, value.trim().parse().ok()?))
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
    use crate::agent::config::CredentialsConfig;
    use crate::agent::policy::{Conditions, Expected, Limits, Literal, Predicate, Rule};

    fn upstream(name: &str, url: &'static str) -> UpstreamConfig {
        UpstreamConfig {
            name: name.parse().unwrap(),
            url: Uri::from_static(url),
            ca_file: None,
            addresses: crate::agent::addresses::Addresses::default(),
            credentials: CredentialsConfig::default(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            max_in_flight: 1,
            candidate: None,
            rules: vec![
                Rule::parse(&["GET"], "/issue/{key}").unwrap(),
                Rule::parse_deny::<&str>(&[], "/issue/SECRET-1").unwrap(),
                by_body(),
            ],
        }
    }

    /// Allows to create issues of one project, with short bodies.
    fn by_body() -> Rule {
        let key = Expected::OneOf(vec![Literal::Text("OPS".to_owned())]);
        let body = vec![Predicate::new("/key", key).unwrap()];
        let rule = Rule::parse(&["POST"], "/issue").unwrap();
        let rule = rule.requiring(Conditions::default().with_body(body).unwrap());
        rule.limited(Limits {
            max_body: Some(20),
            ..Limits::NONE
        })
    }

    fn ask(query: &str) -> Result<ExplainAnswer, BadQuestion> {
        ask_with(query, None)
    }

    fn ask_with(query: &str, body: Option<&'static str>) -> Result<ExplainAnswer, BadQuestion> {
        let upstreams = [
            upstream("jira", "http://jira.corp.local:8080/jira"),
            upstream("git", "http://git.corp.local"),
        ];
        let gateway = Gateway::open(&upstreams, None, &Gateway::default()).unwrap();
        explain(&gateway, &upstreams, query, body.map(Into::into))
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
        assert_eq!(answer.rules.len(), 3);
        assert!(answer.rules[0].denies, "{answer:?}");
    }

    #[test]
    fn the_whole_head_is_asked_about() {
        let ask = |more: &str| ask(&format!("method=GET&url=/issue/A&upstream=git{more}")).unwrap();
        assert!(ask("&header=X-Fine:%201&caller=reports").allowed);
        let answer = ask("&header=X-Original-URL:%20/admin");
        assert!(!answer.allowed && answer.rules.is_empty(), "{answer:?}");
        assert!(answer.reason.contains("x-original-url"), "{answer:?}");
    }

    #[test]
    fn a_body_is_looked_at_where_a_rule_does_and_held_against_the_rules_limit() {
        let query = "method=POST&url=/issue&upstream=git&header=Content-Type:application/json";
        let answer = ask(query).unwrap();
        assert!(
            !answer.allowed && answer.reason.contains("not given"),
            "{answer:?}"
        );
        assert!(ask_with(query, Some(r#"{"key":"OPS"}"#)).unwrap().allowed);
        for body in [r#"{"key":"WEB"}"#, r#"{"key":"OPS","key":"WEB"}"#, ""] {
            let answer = ask_with(query, Some(body)).unwrap();
            assert!(!answer.allowed, "{body}: {answer:?}");
            let why_not = &answer.rules.last().unwrap().why_not;
            assert!(why_not.contains("body"), "{body}: {why_not}");
        }
        let answer = ask_with(query, Some(r#"{"key":"OPS","text":"too long"}"#)).unwrap();
        assert!(!answer.allowed, "{answer:?}");
        assert_eq!(
            answer.reason,
            "rule 2 allows it, and its max_body only 20 bytes of a body: 413"
        );
    }

    #[test]
    fn a_question_that_makes_no_sense_is_told_so() {
        for query in [
            "",
            "method=GET",
            "method=G%20T&url=/",
            "method=GET&url=/&colour=red",
            "url=%zz",
            "method=GET&url=/&header=nothing",
        ] {
            assert!(Question::read(query).is_err(), "{query}");
        }
    }
}
