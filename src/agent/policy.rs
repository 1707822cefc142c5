//! What callers may reach: default deny, and a permit for what a rule allows.
//!
//! Pure: a configuration in, a decision out; no clock, no files, no network. A [`Permitted`] can be
//! made nowhere else, and whatever handles credentials or upstreams takes nothing else, so a secret
//! cannot reach what no rule allows: that would not compile.
//!
//! ```compile_fail
//! // The fields are private: outside of this module there is no other way than `decide`.
//! let permit = relay_agent::agent::policy::Permitted { rule: 0 };
//! ```
//!
//! Rules that deny are tried first, then those that allow, in the order in which they are written; the
//! first that matches decides. Where none does, the call is denied.
//!
//! What was matched is what is sent, byte for byte. A path that two programs could read differently
//! (see [`Ambiguity`]) is refused before any rule is looked at.

#[cfg(test)]
mod attacks;
mod cover;
mod explain;
mod head;
mod path;
mod rule;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use http::uri::PathAndQuery;

pub use explain::{Explanation, Tried, explain};
pub use head::Asked;
pub use path::Ambiguity;
pub use rule::{Mismatch, Rule, RuleError};

use self::path::PlainPath;
use crate::name::Name;

/// Everything that may be asked: for each upstream, its rules.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    upstreams: BTreeMap<Arc<str>, Vec<Arc<PlacedRule>>>,
}

/// Proof that a rule allows this method and path of this upstream. Made by [`decide`] alone.
#[derive(Debug)]
pub struct Permitted {
    upstream: Arc<str>,
    method: Method,
    path_and_query: PathAndQuery,
    rule: Arc<PlacedRule>,
}

/// That a call is not permitted: why, for the caller, and by which rule, for the private side alone.
#[derive(Debug, Clone)]
pub struct Denial {
    /// What the caller is told.
    pub reason: Denied,
    rule: Option<Arc<PlacedRule>>,
}

/// A rule with its place among those of its kind.
#[derive(Debug)]
struct PlacedRule {
    rule: Rule,
    /// Counted from one, as people do.
    number: usize,
    name: Box<str>,
}

/// Why a call is not permitted. The text goes to the caller, so it names no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The configuration has no upstream of this name.
    #[error("no upstream of this name is configured")]
    UnknownUpstream,
    /// The path could be read in more than one way.
    #[error(transparent)]
    Ambiguous(Ambiguity),
    /// A header asks for another method or path than the request's own, which the rules are about.
    #[error("the header {0} asks for another method or path than the request's own")]
    Override(&'static str),
    /// A rule denies it.
    #[error("a rule of the private side denies this call")]
    ByRule,
    /// None of the upstream's rules allows this method on this path.
    #[error("no rule of the private side allows this method on this path")]
    NoRule,
}

impl Policy {
    /// A policy of these upstreams with their rules. Of two upstreams with the same name the later
    /// stands; the configuration refuses such a pair before.
    pub fn new(upstreams: impl IntoIterator<Item = (Name, Vec<Rule>)>) -> Self {
        let upstreams = upstreams
            .into_iter()
            .map(|(name, mut rules)| {
                // Stable: each kind stays in its order.
                rules.sort_by_key(|rule| !rule.denies());
                (Arc::from(name.as_str()), place(rules))
            })
            .collect();
        Self { upstreams }
    }
}

/// Counts the rules, each kind by itself.
fn place(rules: Vec<Rule>) -> Vec<Arc<PlacedRule>> {
    let mut denying = 0;
    let mut allowing = 0;
    let place = |rule: Rule| {
        let (kind, count) = match rule.denies() {
            true => ("deny", &mut denying),
            false => ("allow", &mut allowing),
        };
        *count += 1;
        Arc::new(PlacedRule {
            number: *count,
            name: format!("{kind} {count}: {}", rule.conditions()).into(),
            rule,
        })
    };
    rules.into_iter().map(place).collect()
}

/// Decides whether a call is permitted.
///
/// # Errors
/// [`Denial`] with the reason when it is not.
pub fn decide(policy: &Policy, asked: &Asked<'_>) -> Result<Permitted, Denial> {
    consider(policy, asked, |_, _| {})
}

/// The one way to a decision: `tried` is told each rule that was looked at, and what it said.
fn consider(
    policy: &Policy,
    asked: &Asked<'_>,
    mut tried: impl FnMut(&Rule, Result<(), Mismatch>),
) -> Result<Permitted, Denial> {
    let (upstream, rules) = policy
        .upstreams
        .get_key_value(asked.upstream)
        .ok_or(Denied::UnknownUpstream)?;
    let path = PlainPath::read(asked.path_and_query).map_err(Denied::Ambiguous)?;
    head::check(asked.headers)?;
    let mut reason = match path.has_encoded_slash() {
        true => Denied::Ambiguous(Ambiguity::EncodedSlash),
        false => Denied::NoRule,
    };
    for placed in rules {
        let rule = &placed.rule;
        let verdict = rule.check(asked, path);
        tried(rule, verdict);
        match verdict {
            Ok(()) if rule.denies() => {
                return Err(Denial {
                    reason: Denied::ByRule,
                    rule: Some(Arc::clone(placed)),
                });
            }
            Ok(()) => {
                return Ok(Permitted {
                    upstream: Arc::clone(upstream),
                    method: asked.method.clone(),
                    path_and_query: asked.path_and_query.clone(),
                    rule: Arc::clone(placed),
                });
            }
            Err(Mismatch::EncodedDelimiter) => {
                reason = Denied::Ambiguous(Ambiguity::EncodedDelimiter);
            }
            Err(_) => {}
        }
    }
    Err(reason.into())
}

impl Permitted {
    /// The upstream's name.
    #[must_use]
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// The method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Path and query, as they were matched and as they are sent.
    #[must_use]
    pub const fn path_and_query(&self) -> &PathAndQuery {
        &self.path_and_query
    }

    /// Which of the upstream's rules that allow it was, counted from zero.
    #[must_use]
    pub fn rule(&self) -> usize {
        self.rule.number - 1
    }

    /// The rule for people, such as `allow 3: GET /rest/api/2/issue/{key}`: for log and audit, never for callers.
    #[must_use]
    pub fn rule_name(&self) -> &str {
        &self.rule.name
    }

    /// The query parameters whose values may stand in the audit log; of all others only the names.
    #[must_use]
    pub fn audit_query(&self) -> &[String] {
        self.rule.rule.audit_query()
    }
}

impl Denial {
    /// The rule that denies it, such as `deny 1: /admin/{*rest}`, where one does: for log and audit, never for callers.
    #[must_use]
    pub fn rule_name(&self) -> Option<&str> {
        self.rule.as_ref().map(|placed| &*placed.name)
    }
}

impl From<Denied> for Denial {
    /// Denied by no rule in particular.
    fn from(reason: Denied) -> Self {
        Self { reason, rule: None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_reachable_without_an_upstream_and_nothing_of_it_without_a_rule() {
        let verdict = |policy: &Policy| denial(policy, "jira", "GET", "/");
        assert_eq!(verdict(&Policy::default()), Some(Denied::UnknownUpstream));
        let bare = policy(&[("jira", &[])]);
        assert_eq!(verdict(&bare), Some(Denied::NoRule));
    }

    #[test]
    fn a_rule_allows_its_methods_on_its_paths_and_nothing_beside() {
        let policy = policy(&[("jira", &[("GET", "/issue/{key}"), ("PUT", "/issue/{key}")])]);
        let denied = |method, path| denial(&policy, "jira", method, path);
        assert_eq!(denied("GET", "/issue/A-1"), None);
        assert_eq!(denied("GET", "/issue/A-1?fields=x/../y"), None);
        assert_eq!(denied("POST", "/issue/A-1"), Some(Denied::NoRule));
        assert_eq!(denied("get", "/issue/A-1"), Some(Denied::NoRule));
        assert_eq!(denied("HEAD", "/issue/A-1"), Some(Denied::NoRule));
        assert_eq!(denied("GET", "/issue/A-1/comment"), Some(Denied::NoRule));
        assert_eq!(denied("GET", "/issue/"), Some(Denied::NoRule));
        assert_eq!(
            denial(&policy, "Jira", "GET", "/issue/A-1"),
            Some(Denied::UnknownUpstream)
        );
    }

    #[test]
    fn a_permit_carries_what_was_matched_byte_for_byte() {
        let policy = policy(&[("jira", &[("POST", "/x"), ("GET", "/{*rest}")])]);
        let asked: PathAndQuery = "/%C3%BC/a+b?q=%2F..%2F&&x".parse().unwrap();
        let permitted = decide(&policy, &Asked::get("jira", &asked)).unwrap();
        assert_eq!(permitted.path_and_query(), &asked);
        assert_eq!(permitted.method(), Method::GET);
        assert_eq!((permitted.upstream(), permitted.rule()), ("jira", 1));
    }

    #[test]
    fn the_rule_that_decides_is_named_for_the_private_side() {
        let rules = vec![
            Rule::parse(&["PUT"], "/issue/{key}").unwrap(),
            Rule::parse_deny::<&str>(&[], "/admin/{*rest}").unwrap(),
            Rule::parse(&["GET"], "/issue/{key}")
                .unwrap()
                .showing_in_audit(vec!["fields".to_owned()]),
        ];
        let policy = Policy::new([("jira".parse().unwrap(), rules)]);
        let decide = |path: &str| decide(&policy, &Asked::get("jira", &path.parse().unwrap()));
        let permitted = decide("/issue/A-1?fields=x").unwrap();
        assert_eq!(permitted.rule_name(), "allow 2: GET /issue/{key}");
        assert_eq!(
            (permitted.rule(), permitted.audit_query()),
            (1, &["fields".to_owned()][..])
        );
        let name = |denial: Denial| denial.rule_name().map(str::to_owned);
        let denied_by = decide("/admin/x").map_err(name).unwrap_err();
        assert_eq!(denied_by.as_deref(), Some("deny 1: /admin/{*rest}"));
        assert_eq!(decide("/other").map_err(name).unwrap_err(), None);
    }

    #[test]
    fn an_ambiguous_path_is_refused_whatever_the_rules() {
        let policy = policy(&[("jira", &[("GET", "/{*rest}")])]);
        assert_eq!(
            denial(&policy, "jira", "GET", "/a/%2e%2e/b"),
            Some(Denied::Ambiguous(Ambiguity::DotSegment))
        );
    }

    proptest! {
        #[test]
        fn the_same_question_has_the_same_answer(path in paths(), template in templates()) {
            let policy = policy(&[("jira", &[("GET", &template)])]);
            prop_assert_eq!(
                denial(&policy, "jira", "GET", &path),
                denial(&policy, "jira", "GET", &path)
            );
        }

        #[test]
        fn another_upstream_changes_nothing_for_this_one(
            path in paths(),
            mine in templates(),
            theirs in templates(),
        ) {
            let alone = policy(&[("jira", &[("GET", &mine)])]);
            let beside = policy(&[("git", &[("GET", &theirs)]), ("jira", &[("GET", &mine)])]);
            prop_assert_eq!(
                denial(&alone, "jira", "GET", &path),
                denial(&beside, "jira", "GET", &path)
            );
        }

        #[test]
        fn another_rule_never_takes_a_permit_away(
            path in paths(),
            mine in templates(),
            more in templates(),
        ) {
            let fewer = policy(&[("jira", &[("GET", &mine)])]);
            let both = policy(&[("jira", &[("POST", &more), ("GET", &more), ("GET", &mine)])]);
            if denial(&fewer, "jira", "GET", &path).is_none() {
                prop_assert_eq!(denial(&both, "jira", "GET", &path), None);
            }
        }

        #[test]
        fn a_rule_that_denies_never_allows_more(
            path in paths(),
            mine in templates(),
            denied in templates(),
        ) {
            let rules = || vec![Rule::parse(&["GET"], &mine).unwrap().taking_encoded_slash(true)];
            let mut fewer = rules();
            fewer.push(Rule::parse_deny::<&str>(&[], &denied).unwrap());
            let name = || "jira".parse().unwrap();
            let (open, narrow) = (Policy::new([(name(), rules())]), Policy::new([(name(), fewer)]));
            if denial(&open, "jira", "GET", &path).is_some() {
                prop_assert!(denial(&narrow, "jira", "GET", &path).is_some());
            }
        }

        #[test]
        fn what_is_denied_is_denied_in_every_encoding(
            escapes in proptest::collection::vec(0..4_u8, 24),
            suffix in proptest::sample::select(vec!["", "/", "%3F", "%23x", "?x", "%3fx/y"]),
        ) {
            let spelled: String = "/admin/keys".bytes().zip(escapes).map(|(byte, how)| match how {
                _ if byte == b'/' => "/".to_owned(),
                0 => format!("%{byte:02x}"),
                1 => format!("%25{byte:02X}"),
                2 => char::from(byte).to_ascii_uppercase().into(),
                _ => char::from(byte).into(),
            }).collect();
            let rules = vec![
                Rule::parse(&["GET"], "/{*rest}").unwrap(),
                Rule::parse_deny(&["GET"], "/admin/{what}").unwrap(),
            ];
            let policy = Policy::new([("jira".parse().unwrap(), rules)]);
            let asked = format!("{spelled}{suffix}");
            prop_assert_eq!(denial(&policy, "jira", "GET", &asked), Some(Denied::ByRule), "{}", asked);
        }

        #[test]
        fn explain_agrees_with_decide(path in paths(), template in templates(), other in templates()) {
            let policy = policy(&[("jira", &[("GET", &other), ("GET", &template)])]);
            let path: PathAndQuery = path.parse().unwrap();
            let asked = Asked::get("jira", &path);
            let explained = explain(&policy, &asked);
            let decided = decide(&policy, &asked).map(|permitted| permitted.rule());
            let decided = decided.map_err(|denial| denial.reason);
            let last = explained.tried.last().map(|tried| tried.verdict);
            prop_assert_eq!(&explained.outcome, &decided);
            prop_assert_eq!(last == Some(Ok(())), decided.is_ok());
        }
    }

    fn paths() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            proptest::sample::select(vec![
                "/", "a", "b", ".", "%2e", "%2F", "%41", ";", "%25", "2e",
            ]),
            0..8,
        )
        .prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    fn templates() -> impl Strategy<Value = String> {
        proptest::sample::select(vec![
            "/",
            "/a",
            "/{x}",
            "/a/{x}",
            "/a/b",
            "/{*rest}",
            "/a/{*rest}",
        ])
        .prop_map(str::to_owned)
    }

    fn policy(upstreams: &[(&str, &[(&str, &str)])]) -> Policy {
        Policy::new(upstreams.iter().map(|(name, rules)| {
            let rule = |(method, path): &(&str, &str)| Rule::parse(&[*method], path).unwrap();
            (name.parse().unwrap(), rules.iter().map(rule).collect())
        }))
    }

    fn denial(policy: &Policy, upstream: &str, method: &str, path: &str) -> Option<Denied> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = path.parse().unwrap();
        let asked = Asked {
            method: &method,
            ..Asked::get(upstream, &path)
        };
        decide(policy, &asked).err().map(|denial| denial.reason)
    }
}
