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
mod condition;
mod cover;
mod explain;
mod head;
mod limits;
mod mismatch;
mod path;
mod pattern;
mod rule;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use http::uri::PathAndQuery;

pub use condition::{Conditions, Expected, GivenBody, Literal, Predicate, WholeBody};
pub use explain::{Explanation, Tried, explain};
pub use head::Asked;
pub use limits::{Bucket, Limits, NotARate, Rate};
pub use mismatch::{Mismatch, RuleError};
pub use path::Ambiguity;
pub use pattern::Values;
pub use rule::Rule;

use self::path::PlainPath;
use crate::name::Name;

/// How many bytes of a body are gathered for the rules that look at it: an issue with a long description has some
/// ten KiB. Each call of such a rule can take so much memory.
pub const MAX_GATHERED: usize = 256 * 1024;

/// Everything that may be asked: for each upstream, its rules.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    upstreams: BTreeMap<Arc<str>, RuleSet>,
}

/// The rules of one upstream.
#[derive(Debug, Clone)]
struct RuleSet {
    /// Those that deny, then those that allow.
    rules: Vec<Arc<PlacedRule>>,
    /// How much of a body is gathered where a rule looks at it; nothing where none does.
    gathers: Option<usize>,
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
    /// A rule that could decide looks at the body, which is not given: gather up to so many bytes, and ask again.
    #[error("the private side decides by the body, which is not given")]
    NeedsBody(usize),
    /// A rule allows this method on this path, and asks for more than the call has.
    #[error("no rule of the private side allows this call with its query, headers and body")]
    Unmet,
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
                (Arc::from(name.as_str()), RuleSet::new(rules))
            })
            .collect();
        Self { upstreams }
    }

    /// Whether some rule of the upstream looks at bodies. Where none does, no decision ever needs one.
    #[must_use]
    pub fn looks_at_bodies(&self, upstream: &str) -> bool {
        let rules = self.upstreams.get(upstream);
        rules.is_some_and(|rules| rules.gathers.is_some())
    }
}

impl RuleSet {
    fn new(rules: Vec<Rule>) -> Self {
        let looks_at_body = rules.iter().any(Rule::looks_at_body);
        Self {
            gathers: looks_at_body.then_some(MAX_GATHERED),
            rules: place(rules),
        }
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
            name: format!("{kind} {count}: {}", rule.shown()).into(),
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
    mut tried: impl FnMut(&Rule, &Result<(), Mismatch>),
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
    for placed in &rules.rules {
        let rule = &placed.rule;
        let verdict = rule.check(asked, path);
        tried(rule, &verdict);
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
            Err(Mismatch::BodyNotGiven) => {
                return Err(Denied::NeedsBody(rules.gathers.unwrap_or_default()).into());
            }
            Err(Mismatch::EncodedDelimiter) => {
                reason = Denied::Ambiguous(Ambiguity::EncodedDelimiter);
            }
            Err(mismatch) if mismatch.is_beyond_path() && !rule.denies() => {
                reason = Denied::Unmet;
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

    /// The limits that the rule has for its calls.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.rule.rule.limits()
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

impl Denied {
    /// The reason as one word, which does not change: for tables of expectations and for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::UnknownUpstream => "unknown-upstream",
            Self::Ambiguous(ambiguity) => ambiguity.word(),
            Self::Override(_) => "override",
            Self::ByRule => "by-rule",
            Self::NeedsBody(_) => "needs-body",
            Self::Unmet => "unmet",
            Self::NoRule => "no-rule",
        }
    }
}

impl From<Denied> for Denial {
    /// Denied by no rule in particular.
    fn from(reason: Denied) -> Self {
        Self { reason, rule: None }
    }
}

#[cfg(test)]
mod tests;
