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

mod condition;
mod cover;
mod explain;
mod head;
mod limits;
mod mismatch;
mod path;
mod pattern;
#[cfg(test)]
mod properties;
mod readings;
mod rule;
mod rule_set;
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

use self::rule_set::{PlacedRule, RuleSet};
use crate::name::Name;

/// How many bytes of a body are gathered for the rules that look at it: an issue with a long description has some
/// ten KiB. Each call of such a rule can take so much memory.
pub const MAX_GATHERED: usize = 256 * 1024;

/// Everything that may be asked: for each upstream, its rules.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    upstreams: BTreeMap<Arc<str>, Rules>,
}

/// The rules of one upstream.
#[derive(Debug, Clone)]
struct Rules {
    in_force: RuleSet,
    /// Rules that are tried beside them, and decide nothing.
    candidate: Option<RuleSet>,
}

/// Proof that a rule in force allows this method and path of this upstream. Made by [`decide`] alone.
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

/// Why a call is not permitted. The text goes to the caller, so it names no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The configuration has no upstream of this name.
    #[error("no upstream of this name is configured")]
    UnknownUpstream,
    /// The path could be read in more than one way.
    #[error(transparent)]
    Ambiguous(Ambiguity),
    /// A header or parameter asks for another method or path than the request's own, which the rules are about.
    #[error("{0}, a header or parameter, asks for another method or path than the request's own")]
    Override(&'static str),
    /// More than one length, or one that is not written in plain digits.
    #[error("the call says more than once how long its body is, or not in plain digits")]
    UnclearLength,
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
            .map(|(name, rules)| {
                let rules = Rules {
                    in_force: RuleSet::new(rules),
                    candidate: None,
                };
                (Arc::from(name.as_str()), rules)
            })
            .collect();
        Self { upstreams }
    }

    /// The policy with rules that are tried beside those of an upstream, and decide nothing: see [`observe`].
    #[must_use]
    pub fn trying(mut self, upstream: &Name, candidate: Vec<Rule>) -> Self {
        if let Some(rules) = self.upstreams.get_mut(upstream.as_str()) {
            rules.candidate = Some(RuleSet::new(candidate));
        }
        self
    }

    /// Whether some rule of the upstream looks at bodies. Where none does, no decision ever needs one.
    #[must_use]
    pub fn looks_at_bodies(&self, upstream: &str) -> bool {
        let rules = self.upstreams.get(upstream);
        rules.is_some_and(|rules| rules.in_force.looks_at_bodies())
    }
}

/// Decides whether a call is permitted.
///
/// # Errors
/// [`Denial`] with the reason when it is not.
pub fn decide(policy: &Policy, asked: &Asked<'_>) -> Result<Permitted, Denial> {
    let (upstream, rules) = policy
        .upstreams
        .get_key_value(asked.upstream)
        .ok_or(Denied::UnknownUpstream)?;
    let rule = rules.in_force.judge(asked, |_, _| {})?;
    Ok(Permitted {
        upstream: Arc::clone(upstream),
        method: asked.method.clone(),
        path_and_query: asked.path_and_query.clone(),
        rule: Arc::clone(rule),
    })
}

/// What the candidate rules of an upstream would say to a call that those in force permit; nothing where none are
/// tried. Gives no permit, whatever they say.
#[must_use]
pub fn observe(policy: &Policy, asked: &Asked<'_>) -> Option<Result<(), Denial>> {
    let candidate = policy.upstreams.get(asked.upstream)?.candidate.as_ref()?;
    Some(candidate.judge(asked, |_, _| {}).map(drop))
}

/// Of a decision that [waits for the body](Denied::NeedsBody): the rules of which one could then allow the call, each
/// by its place among those that allow, counted from zero, with its limits.
#[must_use]
pub fn could_allow<'a>(policy: &'a Policy, asked: &Asked<'_>) -> Vec<(usize, &'a Limits)> {
    let rules = policy.upstreams.get(asked.upstream);
    rules.map_or_else(Vec::new, |rules| rules.in_force.could_allow(asked))
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
            Self::UnclearLength => "unclear-length",
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
