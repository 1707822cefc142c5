//! Why a call would be permitted or not, for the administrator of the private side.
//!
//! Shows rules, so its answer never goes to a caller.

use super::{Asked, Denied, Mismatch, Permitted, Policy, Rule, consider};

/// The answer to "may this be called, and why?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Which of the upstream's rules that allow it is, counted from zero, or what a caller would be told.
    pub outcome: Result<usize, Denied>,
    /// The rules that were looked at, in that order; empty when the decision did not come to them.
    /// Where a rule decides, it is the last.
    pub tried: Vec<Tried>,
}

/// A rule, and what it says to the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The rule.
    pub rule: Rule,
    /// The first of its conditions that was not met, if any.
    pub verdict: Result<(), Mismatch>,
}

/// Explains what [`decide`](super::decide) says to the same question.
#[must_use]
pub fn explain(policy: &Policy, asked: &Asked<'_>) -> Explanation {
    let mut tried = Vec::new();
    let decided = consider(policy, asked, |rule, verdict| {
        tried.push(Tried {
            rule: rule.clone(),
            verdict: verdict.clone(),
        });
    });
    Explanation {
        outcome: decided
            .as_ref()
            .map(Permitted::rule)
            .map_err(|denial| denial.reason),
        tried,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_shows_each_rule_that_was_tried_and_what_it_missed() {
        let rule = |method, template| Rule::parse(&[method], template).unwrap();
        let rules = [
            rule("PUT", "/issue/{key}"),
            rule("GET", "/issue/{key}"),
            rule("GET", "/{*rest}"),
        ];
        let policy = Policy::new([("jira".parse().unwrap(), rules[..2].to_vec())]);
        let ask =
            |upstream, path: &str| explain(&policy, &Asked::get(upstream, &path.parse().unwrap()));
        let tried = |verdicts: [Result<(), Mismatch>; 2]| {
            let pairs = rules.iter().cloned().zip(verdicts);
            pairs
                .map(|(rule, verdict)| Tried { rule, verdict })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            ask("jira", "/issue/A-1"),
            Explanation {
                outcome: Ok(1),
                tried: tried([Err(Mismatch::Method), Ok(())])
            }
        );
        assert_eq!(
            ask("jira", "/search"),
            Explanation {
                outcome: Err(Denied::NoRule),
                tried: tried([Err(Mismatch::Method), Err(Mismatch::Segment(1))])
            }
        );
        assert_eq!(
            ask("git", "/"),
            Explanation {
                outcome: Err(Denied::UnknownUpstream),
                tried: Vec::new()
            }
        );
    }
}
