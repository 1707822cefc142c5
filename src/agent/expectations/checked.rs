//! One case of a table, and what the policy says to it: whether all is as expected, and if not, what happened.

use std::fmt;

use super::{Case, Verdict};
use crate::agent::policy::{Asked, Explanation, GivenBody, Policy, Tried, explain};

/// A case and what the policy says to it.
#[derive(Debug)]
pub struct Checked<'a> {
    /// Its place in the table, counted from one.
    pub number: usize,
    case: &'a Case,
    explanation: Explanation,
    /// What the rule would refuse after it has allowed the call: more than its `max_body`.
    too_long: Option<u64>,
}

impl<'a> Checked<'a> {
    pub(super) fn new(number: usize, case: &'a Case, policy: &Policy) -> Self {
        let explanation = explain(
            policy,
            &Asked {
                upstream: &case.upstream,
                method: &case.method,
                path_and_query: &case.path,
                headers: &case.headers,
                caller: case.caller.as_deref(),
                body: GivenBody::of(&case.body),
            },
        );
        let most = explanation.limits().and_then(|limits| limits.max_body);
        Self {
            number,
            too_long: most.filter(|most| case.body.bytes().len() as u64 > *most),
            case,
            explanation,
        }
    }

    /// What becomes of the call.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.explanation.outcome.is_ok() && self.too_long.is_none() {
            true => Verdict::Allow,
            false => Verdict::Deny,
        }
    }

    /// What the candidate rules would make of a call that passes, where some are tried.
    #[must_use]
    pub fn candidate(&self) -> Option<Verdict> {
        let candidate = self.explanation.candidate.as_ref()?;
        Some(match candidate.outcome {
            Ok(_) => Verdict::Allow,
            Err(_) => Verdict::Deny,
        })
    }

    /// Whether all is as expected: the verdict, and rule, reason and candidate where they are given.
    #[must_use]
    pub fn is_met(&self) -> bool {
        let is_reason = |expected: &String| expected == self.reason();
        self.verdict() == self.case.expected
            && self.case.rule.as_deref().is_none_or(|it| self.is_rule(it))
            && self.case.reason.as_ref().is_none_or(is_reason)
            && (self.case.candidate.is_none() || self.case.candidate == self.candidate())
    }

    /// Whether a text names the rule that decides: `allow 2`, or what it matches, or both as they are shown.
    fn is_rule(&self, text: &str) -> bool {
        let Some(name) = self.explanation.decided_by.as_deref() else {
            return false;
        };
        let (place, shown) = name.split_once(": ").unwrap_or((name, ""));
        text == name || text == place || text == shown
    }

    /// Why the call is denied, as one word; empty where it is not.
    fn reason(&self) -> &'static str {
        match (&self.explanation.outcome, self.too_long) {
            (Err(denied), _) => denied.word(),
            (Ok(_), Some(_)) => "body-too-long",
            (Ok(_), None) => "",
        }
    }

    /// What was expected, for people.
    #[must_use]
    pub fn expected(&self) -> String {
        let case = self.case;
        let mut text = case.expected.to_string();
        if let Some(rule) = &case.rule {
            text.push_str(&format!(" by {rule}"));
        }
        if let Some(reason) = &case.reason {
            text.push_str(&format!(", {reason}"));
        }
        if let Some(candidate) = case.candidate {
            text.push_str(&format!(" (candidate rules: {candidate})"));
        }
        text
    }

    /// What happened and why, for people.
    #[must_use]
    pub fn happened(&self) -> String {
        let happened = match self.too_long {
            Some(most) => {
                let by = by(&self.explanation);
                format!("deny{by}, {}: its max_body is {most} bytes", self.reason())
            }
            None => outcome(&self.explanation),
        };
        match (&self.explanation.candidate, self.case.candidate) {
            (Some(candidate), _) => format!("{happened} (candidate rules: {})", outcome(candidate)),
            (None, Some(_)) if self.verdict() == Verdict::Allow => {
                format!("{happened} (there are no candidate rules)")
            }
            (None, _) => happened,
        }
    }
}

/// What some rules say, and why.
fn outcome(explanation: &Explanation) -> String {
    let by = by(explanation);
    match &explanation.outcome {
        Ok(_) => format!("allow{by}"),
        Err(denied) => {
            let nearest = explanation.nearest().map_or_else(String::new, nearest);
            format!("deny{by}, {}: {denied}{nearest}", denied.word())
        }
    }
}

fn by(explanation: &Explanation) -> String {
    let rule = explanation.decided_by.as_ref();
    rule.map_or_else(String::new, |rule| format!(" by {rule}"))
}

/// The rule that came nearest, and the first of its conditions that failed.
fn nearest(tried: &Tried) -> String {
    match &tried.verdict {
        Ok(()) => String::new(),
        Err(mismatch) => format!("; nearest: {}: {mismatch}", tried.rule),
    }
}

impl fmt::Display for Checked<'_> {
    /// The call, such as `PUT /issue/A-1 of upstream jira`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case = self.case;
        write!(
            f,
            "{} {} of upstream {}",
            case.method, case.path, case.upstream
        )?;
        match &case.caller {
            Some(caller) => write!(f, " by {caller}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::table;
    use super::*;
    use crate::agent::config::policy_of;
    use crate::agent::config::tests::read as read_config;

    #[test]
    fn what_is_not_as_expected_is_told_with_the_first_condition_that_failed() {
        let long = "x".repeat(1024);
        let table = table(&format!(
            r#"
            version = 1
            [[case]]
            method = "GET"
            path = "/issue/A-1/votes"
            upstream = "jira"
            expect = "allow"
            [[case]]
            method = "POST"
            path = "/issue"
            upstream = "jira"
            headers = {{ Content-Type = "application/json", X-Twice = ["a", "b"] }}
            body = '{{"key": "WEB"}}'
            expect = "allow"
            rule = "allow 2"
            [[case]]
            method = "POST"
            path = "/issue"
            upstream = "jira"
            headers = {{ Content-Type = "application/json" }}
            body = '{{"key": "OPS", "text": "{long}"}}'
            expect = "allow"
            [[case]]
            method = "GET"
            path = "/issue/A-1"
            upstream = "jira"
            caller = "reports"
            expect = "deny"
            reason = "by-rule"
            [[case]]
            method = "GET"
            path = "/issue/SECRET-1"
            upstream = "jira"
            expect = "deny"
            rule = "deny 2"
            "#,
        ))
        .unwrap();
        let policy = policy();
        let told: Vec<_> = table
            .check(&policy)
            .map(|case| format!("{case}: {} but {}", case.expected(), case.happened()))
            .collect();
        assert_eq!(
            told,
            [
                "GET /issue/A-1/votes of upstream jira: allow but deny, no-rule: no rule of the private side allows \
                 this method on this path; nearest: GET /issue/{key}: the path has more segments than the template",
                "POST /issue of upstream jira: allow by allow 2 but deny, unmet: no rule of the private side allows \
                 this call with its query, headers and body; nearest: POST /issue (body /key=OPS): the body's \
                 \"/key\" is not as the rule says",
                "POST /issue of upstream jira: allow but deny by allow 2: POST /issue (body /key=OPS), \
                 body-too-long: its max_body is 1024 bytes",
                "GET /issue/A-1 of upstream jira by reports: deny, by-rule but allow by allow 1: GET /issue/{key}",
                "GET /issue/SECRET-1 of upstream jira: deny by deny 2 but deny by deny 1: /issue/SECRET-1, by-rule: \
                 a rule of the private side denies this call",
            ]
        );
        assert!(table.check(&policy).all(|case| !case.is_met()));
    }

    #[test]
    fn a_rule_is_named_by_its_place_by_what_it_matches_or_by_both() {
        for (rule, is_met) in [
            ("allow 1", true),
            ("GET /issue/{key}", true),
            ("allow 1: GET /issue/{key}", true),
            ("allow", false),
            ("allow 2", false),
            ("deny 1", false),
        ] {
            let table = table(&format!(
                "version = 1\n[[case]]\nmethod = 'GET'\npath = '/issue/A'\nupstream = 'jira'\nexpect = 'allow'\n\
                 rule = '{rule}'\n"
            ));
            let met = table.unwrap().check(&policy()).all(|case| case.is_met());
            assert_eq!(met, is_met, "{rule}");
        }
    }

    #[test]
    fn a_denial_for_another_reason_is_not_as_expected() {
        for (reason, is_met) in [("by-rule", true), ("no-rule", false)] {
            let table = table(&format!(
                "version = 1\n[[case]]\nmethod = 'GET'\npath = '/issue/SECRET-1'\nexpect = 'deny'\nupstream = 'jira'\nreason = '{reason}'\n"
            ));
            let met = table.unwrap().check(&policy()).all(|case| case.is_met());
            assert_eq!(met, is_met, "{reason}");
        }
    }

    fn policy() -> Policy {
        let config = read_config(
            r#"
            [[upstream]]
            name = "jira"
            url = "http://jira.corp.local"
            [[upstream.allow]]
            methods = ["GET"]
            path = "/issue/{key}"
            [[upstream.allow]]
            methods = ["POST"]
            path = "/issue"
            max_body = "1 KiB"
            [[upstream.allow.body]]
            pointer = "/key"
            equals = "OPS"
            [[upstream.deny]]
            path = "/issue/SECRET-1"
            "#,
        );
        policy_of(&config.unwrap().upstreams)
    }
}
