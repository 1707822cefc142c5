//! Why a call would be permitted or not, for the administrator of the private side.
//!
//! Shows rules, so its answer never goes to a caller.

use super::rule_set::RuleSet;
use super::{Asked, Denied, Limits, Mismatch, Policy, Rule};

/// The answer to "may this be called, and why?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Which of the upstream's rules that allow it is, counted from zero, or what a caller would be told.
    pub outcome: Result<usize, Denied>,
    /// The rule that decides, such as `allow 2: GET /issue/{key}`, where one does.
    pub decided_by: Option<String>,
    /// The rules that were looked at, in that order; empty when the decision did not come to them.
    /// Where a rule decides, it is the last.
    pub tried: Vec<Tried>,
    /// What the candidate rules say to a call that those in force allow, where some are tried.
    pub candidate: Option<Box<Self>>,
}

/// A rule, and what it says to the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The rule.
    pub rule: Rule,
    /// The first of its conditions that was not met, if any.
    pub verdict: Result<(), Mismatch>,
}

/// Explains what [`decide`](super::decide) and [`observe`](super::observe) say to the same question.
#[must_use]
pub fn explain(policy: &Policy, asked: &Asked<'_>) -> Explanation {
    let Some(rules) = policy.upstreams.get(asked.upstream) else {
        return Explanation {
            outcome: Err(Denied::UnknownUpstream),
            decided_by: None,
            tried: Vec::new(),
            candidate: None,
        };
    };
    let mut explanation = explain_by(&rules.in_force, asked);
    if explanation.outcome.is_ok() {
        let candidate = rules.candidate.as_ref();
        explanation.candidate = candidate.map(|rules| Box::new(explain_by(rules, asked)));
    }
    explanation
}

fn explain_by(rules: &RuleSet, asked: &Asked<'_>) -> Explanation {
    let mut tried = Vec::new();
    let decided = rules.judge(asked, |rule, verdict| {
        tried.push(Tried {
            rule: rule.clone(),
            verdict: verdict.clone(),
        });
    });
    let (outcome, decided_by) = match decided {
        Ok(placed) => (Ok(placed.number - 1), Some(placed.name.to_string())),
        Err(denial) => {
            let by = denial.rule_name().map(str::to_owned);
            (Err(denial.reason), by)
        }
    };
    Explanation {
        outcome,
        decided_by,
        tried,
        candidate: None,
    }
}

impl Explanation {
    /// The limits of the rule that allows it; nothing where none does.
    #[must_use]
    pub fn limits(&self) -> Option<&Limits> {
        let allowing = self.tried.last().filter(|_| self.outcome.is_ok());
        allowing.map(|tried| tried.rule.limits())
    }

    /// Where no rule decides: the rule that allows of which most conditions hold, the first among equals.
    #[must_use]
    pub fn nearest(&self) -> Option<&Tried> {
        let nearness = |tried: &&Tried| {
            let mismatch = tried.verdict.as_ref().err();
            mismatch.map_or(0, Mismatch::nearness)
        };
        let undecided = self.decided_by.is_none();
        let allowing = self.tried.iter().filter(|tried| !tried.rule.denies());
        // Backwards, since of equals the last is taken.
        allowing.rev().max_by_key(nearness).filter(|_| undecided)
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
                decided_by: Some("allow 2: GET /issue/{key}".to_owned()),
                tried: tried([Err(Mismatch::Method), Ok(())]),
                candidate: None,
            }
        );
        assert_eq!(
            ask("jira", "/search"),
            Explanation {
                outcome: Err(Denied::NoRule),
                decided_by: None,
                tried: tried([Err(Mismatch::Method), Err(Mismatch::Segment(1))]),
                candidate: None,
            }
        );
        assert_eq!(
            ask("git", "/"),
            Explanation {
                outcome: Err(Denied::UnknownUpstream),
                decided_by: None,
                tried: Vec::new(),
                candidate: None,
            }
        );
    }
}
