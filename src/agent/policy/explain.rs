//! Why a call would be permitted or not, for the administrator of the private side.
//!
//! Shows rules, so its answer never goes to a caller.

use http::Method;
use http::uri::PathAndQuery;

use super::{Denied, Mismatch, Policy, Rule, decide};

/// The answer to "may this be called, and why?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// This rule allows it.
    Allowed {
        /// Which of the upstream's rules, counted from zero.
        index: usize,
        /// The rule.
        rule: Rule,
    },
    /// Nothing allows it.
    Denied {
        /// What a caller would be told.
        reason: Denied,
        /// For each rule of the upstream the first condition that was not met; empty when the
        /// decision did not come to the rules.
        rules: Vec<RuleVerdict>,
    },
}

/// A rule, and the first of its conditions that was not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleVerdict {
    /// The rule.
    pub rule: Rule,
    /// What did not fit.
    pub mismatch: Mismatch,
}

/// Explains what [`decide`] says to the same question.
#[must_use]
pub fn explain(
    policy: &Policy,
    upstream: &str,
    method: &Method,
    path_and_query: &PathAndQuery,
) -> Explanation {
    let rules = policy
        .upstreams
        .get(upstream)
        .map_or(&[][..], Vec::as_slice);
    match decide(policy, upstream, method, path_and_query) {
        Ok(permitted) => Explanation::Allowed {
            index: permitted.rule(),
            rule: rules[permitted.rule()].clone(),
        },
        Err(reason @ (Denied::UnknownUpstream | Denied::Ambiguous(_) | Denied::Override(_))) => {
            Explanation::Denied {
                reason,
                rules: Vec::new(),
            }
        }
        Err(reason @ Denied::NoRule) => Explanation::Denied {
            reason,
            rules: rules
                .iter()
                .filter_map(|rule| {
                    let mismatch = rule.check(method, path_and_query.path()).err()?;
                    Some(RuleVerdict {
                        rule: rule.clone(),
                        mismatch,
                    })
                })
                .collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_names_the_rule_or_what_each_rule_missed() {
        let rule = |method, template| Rule::parse(&[method], template).unwrap();
        let rules = vec![rule("PUT", "/issue/{key}"), rule("GET", "/issue/{key}")];
        let policy = Policy::new([("jira".parse().unwrap(), rules.clone())]);
        let ask =
            |upstream, path: &str| explain(&policy, upstream, &Method::GET, &path.parse().unwrap());
        assert_eq!(
            ask("jira", "/issue/A-1"),
            Explanation::Allowed {
                index: 1,
                rule: rules[1].clone()
            }
        );
        let verdict = |rule: &Rule, mismatch| RuleVerdict {
            rule: rule.clone(),
            mismatch,
        };
        assert_eq!(
            ask("jira", "/search"),
            Explanation::Denied {
                reason: Denied::NoRule,
                rules: vec![
                    verdict(&rules[0], Mismatch::Method),
                    verdict(&rules[1], Mismatch::Segment(1))
                ]
            }
        );
        assert_eq!(
            ask("git", "/"),
            Explanation::Denied {
                reason: Denied::UnknownUpstream,
                rules: Vec::new()
            }
        );
    }
}
