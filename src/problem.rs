//! Problem documents (RFC 9457): how every error of ours looks over HTTP, and how to read one.
//!
//! Says who failed in `Proxy-Status` (RFC 9209), so that a caller can tell an error of relay or agent
//! from the private service's own answer. Texts are for people; programs go by `code`.

use std::borrow::Cow;
use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};

use crate::body::{self, Body};

/// The media type of a problem document.
pub const CONTENT_TYPE_PROBLEM: &str = "application/problem+json";
/// The header that says which intermediary failed.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// What the `type` of each of our problems begins with; the code follows.
const TYPE_PREFIX: &str = "urn:relay-agent:problem:";
/// The longest problem document that is read, in bytes: ours have a few hundred.
pub const MAX_LENGTH: usize = 16 * 1024;

/// An error on its way to an HTTP client.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: Cow<'static, str>,
    title: Cow<'static, str>,
    detail: Option<String>,
    members: Map<String, Value>,
    proxy_status: Option<String>,
    retry_after: Option<Duration>,
}

/// The word of the problem that a response tells, for those of this program whom it passes on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemCode(pub Cow<'static, str>);

/// A problem document that someone sent us.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedProblem {
    /// The word that programs go by; empty when the document is not one of ours.
    pub code: String,
    /// What happened, in a few words.
    pub title: String,
    /// What happened this time.
    pub detail: Option<String>,
    /// All members of the document, those above included.
    pub members: Map<String, Value>,
}

impl Problem {
    /// A problem with its status, its code for programs and its title for people.
    pub fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        title: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            title: title.into(),
            detail: None,
            members: Map::new(),
            proxy_status: None,
            retry_after: None,
        }
    }

    /// What happened this time and what to do, in a sentence or two.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// One more member of the document.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Who failed (`relay` or `agent`), the error type of RFC 9209 section 2.3 and details.
    #[must_use]
    pub fn proxy_status(mut self, who: &'static str, error: &'static str, details: &str) -> Self {
        let details = structured_string(details);
        self.proxy_status = Some(format!("{who}; error={error}; details={details}"));
        self
    }

    /// When to try again, in whole seconds, rounded up.
    #[must_use]
    pub const fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The status of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The word that programs go by.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The document.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut document = self.members.clone();
        document.insert("type".into(), format!("{TYPE_PREFIX}{}", self.code).into());
        document.insert("status".into(), self.status.as_u16().into());
        document.insert("title".into(), self.title.as_ref().into());
        if let Some(detail) = &self.detail {
            document.insert("detail".into(), detail.as_str().into());
        }
        Value::Object(document)
    }

    /// The response, with its headers.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(body::full(self.to_json().to_string()));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(ProblemCode(self.code));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_PROBLEM));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(value) = self.proxy_status.and_then(|text| text.try_into().ok()) {
            headers.insert(PROXY_STATUS, value);
        }
        if let Some(delay) = self.retry_after {
            let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// Reads a problem document; `None` when the bytes are not one.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<ParsedProblem> {
    if bytes.len() > MAX_LENGTH {
        return None;
    }
    let members: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let title = text("title")?.to_owned();
    let code = text("type")
        .and_then(|kind| kind.strip_prefix(TYPE_PREFIX))
        .unwrap_or_default();
    Some(ParsedProblem {
        code: code.to_owned(),
        title,
        detail: text("detail").map(str::to_owned),
        members,
    })
}

/// A string of structured fields (RFC 9651, section 3.3.3): quoted printable ASCII.
fn structured_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_problem_becomes_a_response_and_is_read_back() {
        let response = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "agent-offline", "no agent")
            .detail("the agent of \"acme\" is offline")
            .member("last_seen", 17)
            .proxy_status("relay", "destination_unavailable", "no \"link\"\r\nX: y ü")
            .retry_after(Duration::from_millis(1_500))
            .into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
        assert_eq!(response.headers()[CONTENT_TYPE], CONTENT_TYPE_PROBLEM);
        assert_eq!(
            response.headers()[PROXY_STATUS],
            r#"relay; error=destination_unavailable; details="no \"link\"??X: y ?""#
        );
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let problem = parse(&bytes).unwrap();
        assert_eq!(problem.code, "agent-offline");
        assert_eq!(problem.title, "no agent");
        assert_eq!(
            problem.detail.as_deref(),
            Some("the agent of \"acme\" is offline")
        );
        assert_eq!(problem.members["last_seen"], 17);
        assert_eq!(problem.members["status"], 503);
    }

    #[test]
    fn what_is_not_a_problem_is_not_taken_for_one() {
        for bytes in ["", "[]", "{}", "<html>", r#"{"title":1}"#] {
            assert_eq!(parse(bytes.as_bytes()), None, "{bytes}");
        }
        let foreign = parse(br#"{"type":"about:blank","title":"Not Found"}"#).unwrap();
        assert_eq!(
            (foreign.code.as_str(), foreign.title.as_str()),
            ("", "Not Found")
        );
        let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(MAX_LENGTH));
        assert_eq!(parse(long.as_bytes()), None);
    }
}
