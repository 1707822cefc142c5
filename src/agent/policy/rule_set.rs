//! The rules of one upstream, in the order in which they are tried, and what they say to a call.

use std::sync::Arc;

use super::head;
use super::readings::Readings;
use super::{Ambiguity, Asked, Denial, Denied, Limits, MAX_GATHERED, Mismatch, Rule};

/// Rules that are tried together.
#[derive(Debug, Clone)]
pub(super) struct RuleSet {
    /// Those that deny, then those that allow.
    rules: Vec<Arc<PlacedRule>>,
    /// How much of a body is gathered where a rule looks at it; nothing where none does.
    gathers: Option<usize>,
}

/// A rule with its place among those of its kind.
#[derive(Debug)]
pub(super) struct PlacedRule {
    pub(super) rule: Rule,
    /// Counted from one, as people do.
    pub(super) number: usize,
    pub(super) name: Box<str>,
}

impl RuleSet {
    pub(super) fn new(mut rules: Vec<Rule>) -> Self {
        // Stable: each kind stays in its order.
        rules.sort_by_key(|rule| !rule.denies());
        let looks_at_body = rules.iter().any(Rule::looks_at_body);
        Self {
            gathers: looks_at_body.then_some(MAX_GATHERED),
            rules: place(rules),
        }
    }

    /// Whether some rule looks at bodies.
    pub(super) const fn looks_at_bodies(&self) -> bool {
        self.gathers.is_some()
    }

    /// The one way to a decision: the rule that allows the call. `tried` is told each rule that was looked at, and
    /// what it said.
    pub(super) fn judge(
        &self,
        asked: &Asked<'_>,
        mut tried: impl FnMut(&Rule, &Result<(), Mismatch>),
    ) -> Result<&Arc<PlacedRule>, Denial> {
        let path = Readings::of(asked.path_and_query).map_err(Denied::Ambiguous)?;
        head::check(asked.headers)?;
        if let Some(query) = asked.path_and_query.query() {
            head::check_query(query)?;
        }
        let mut reason = match path.has_encoded_slash() {
            true => Denied::Ambiguous(Ambiguity::EncodedSlash),
            false => Denied::NoRule,
        };
        for placed in &self.rules {
            let rule = &placed.rule;
            let verdict = rule.check(asked, &path);
            tried(rule, &verdict);
            match verdict {
                Ok(()) if rule.denies() => {
                    return Err(Denial {
                        reason: Denied::ByRule,
                        rule: Some(Arc::clone(placed)),
                    });
                }
                Ok(()) => return Ok(placed),
                Err(Mismatch::BodyNotGiven) => {
                    return Err(Denied::NeedsBody(self.gathers.unwrap_or_default()).into());
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

    /// The rules that allow of which one could, once the body of the call is at hand: their places, counted from
    /// zero, and their limits.
    pub(super) fn could_allow<'a>(&'a self, asked: &Asked<'_>) -> Vec<(usize, &'a Limits)> {
        let Ok(path) = Readings::of(asked.path_and_query) else {
            return Vec::new();
        };
        let mut could = Vec::new();
        for placed in self.rules.iter().filter(|placed| !placed.rule.denies()) {
            let verdict = placed.rule.check(asked, &path);
            if matches!(verdict, Ok(()) | Err(Mismatch::BodyNotGiven)) {
                could.push((placed.number - 1, placed.rule.limits()));
            }
            if verdict.is_ok() {
                // Whatever the body is, none behind it is looked at.
                break;
            }
        }
        could
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
