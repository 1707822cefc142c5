//! Sets of rules as one finds them, and calls of which the first rule decides, the last, or none.

use std::fmt;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use relay_agent::agent::policy::{
    self, Asked, Expected, GivenBody, Literal, Policy, Predicate, Rule, RuleError, Values,
    WholeBody, decide,
};

use crate::failure::Failure;

/// What the rules of a set differ in, and so what is looked at in each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditions {
    /// The path alone.
    Path,
    /// Path alike, the value of a parameter of the query.
    Query,
    /// Path alike, the value of a header.
    Header,
    /// Path alike, a text in the body of 1 KiB.
    Body,
    /// Rules that deny, by their paths, before one that allows everything.
    Deny,
}

/// Which rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first.
    First,
    /// The last.
    Last,
    /// None; of rules that deny, the one behind them.
    Nowhere,
}

/// Rules, and one call.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) policy: Policy,
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    pub(crate) headers: HeaderMap,
    pub(crate) is_allowed: bool,
    body: Bytes,
}

impl Conditions {
    pub(crate) const ALL: [Self; 5] = [
        Self::Path,
        Self::Query,
        Self::Header,
        Self::Body,
        Self::Deny,
    ];
}

impl Place {
    pub(crate) const ALL: [Self; 3] = [Self::First, Self::Last, Self::Nowhere];
}

impl Case {
    pub(crate) fn new(rules: usize, conditions: Conditions, place: Place) -> Result<Self, Failure> {
        let made: Result<Vec<Rule>, RuleError> =
            (0..rules).map(|number| rule(conditions, number)).collect();
        let mut made = made.map_err(Failure::because("make the rules"))?;
        if conditions == Conditions::Deny {
            let all = Rule::parse(&["GET"], "/{*rest}");
            made.push(all.map_err(Failure::because("make a rule"))?);
        }
        let name = "jira".parse().map_err(Failure::because("name it"))?;
        let number = match place {
            Place::First => 0,
            Place::Last => rules - 1,
            Place::Nowhere => rules,
        };
        let (path, header) = match conditions {
            Conditions::Path | Conditions::Deny => (format!("/rest/api/2/thing{number}/OPS-1"), 0),
            Conditions::Query => (format!("/rest/api/2/issue/OPS-1?kind=k{number}&more=x"), 0),
            Conditions::Header => ("/rest/api/2/issue/OPS-1".to_owned(), number),
            Conditions::Body => ("/rest/api/2/issue".to_owned(), 0),
        };
        let filling = "x".repeat(900);
        let body = format!(
            r#"{{"fields":{{"project":{{"key":"K{number}"}},"summary":"of some length","description":"{filling}"}}}}"#
        );
        let looks = conditions == Conditions::Body;
        Ok(Self {
            policy: Policy::new([(name, made)]),
            method: if looks { Method::POST } else { Method::GET },
            target: path.parse().map_err(Failure::because("make a path"))?,
            headers: headers(header)?,
            is_allowed: (place == Place::Nowhere) == (conditions == Conditions::Deny),
            body: if looks { body.into() } else { Bytes::new() },
        })
    }

    /// The body, not read yet.
    pub(crate) fn body(&self) -> WholeBody {
        WholeBody::new(self.body.clone())
    }

    /// The call, as it is asked about.
    pub(crate) fn asked<'a>(&'a self, body: &'a WholeBody) -> Asked<'a> {
        Asked {
            upstream: "jira",
            method: &self.method,
            path_and_query: &self.target,
            headers: &self.headers,
            caller: Some("reports"),
            body: GivenBody::Whole(body),
        }
    }

    /// That the rules say what this case is about.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let body = self.body();
        let decided = decide(&self.policy, &self.asked(&body));
        match decided.is_ok() == self.is_allowed {
            true => Ok(()),
            false => Err(Failure::new(format!("{} is decided wrongly", self.target))),
        }
    }
}

fn rule(conditions: Conditions, number: usize) -> Result<Rule, RuleError> {
    let all = policy::Conditions::default();
    let one = |text: String| Values::OneOf(vec![text]);
    let get = |path: &str| Rule::parse(&["GET"], path);
    let thing = format!("/rest/api/2/thing{number}/{{key}}");
    let issue = "/rest/api/2/issue/{key}";
    Ok(match conditions {
        Conditions::Path => get(&thing)?,
        Conditions::Deny => Rule::parse_deny::<&str>(&[], &thing)?,
        Conditions::Query => {
            let kind = ("kind".to_owned(), one(format!("k{number}")));
            let query = vec![kind, ("more?".to_owned(), Values::like("*"))];
            get(issue)?.requiring(all.with_query(query)?)
        }
        Conditions::Header => {
            let kind = ("x-kind".to_owned(), one(format!("k{number}")));
            get(issue)?.requiring(all.with_headers(vec![kind])?)
        }
        Conditions::Body => {
            let key = Expected::OneOf(vec![Literal::Text(format!("K{number}"))]);
            let predicate = Predicate::new("/fields/project/key", key)?;
            let rule = Rule::parse(&["POST"], "/rest/api/2/issue")?;
            rule.requiring(all.with_body(vec![predicate])?)
        }
    })
}

/// Those of an ordinary call.
fn headers(number: usize) -> Result<HeaderMap, Failure> {
    let kind = format!("k{number}");
    let kind = HeaderValue::try_from(kind).map_err(Failure::because("make a header"))?;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate"),
        ("content-type", "application/json"),
        ("user-agent", "reports/1.0"),
        ("forwarded", "for=192.0.2.7;proto=https"),
        ("relay-caller", "reports"),
        ("relay-request-id", "4711"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("x-kind", kind);
    Ok(headers)
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Body => "body of 1 KiB",
            Self::Deny => "path, denying",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Last => "last",
            Self::Nowhere => "none",
        })
    }
}
