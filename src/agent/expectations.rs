//! A table of expectations: calls, and whether the policy is to allow them. Kept beside the configuration.
//!
//! Reads the table and asks the policy; contacts nothing. The form is that of `config/policy.test.toml`.

use std::fmt;
use std::path::Path;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::agent::policy::{Asked, Explanation, GivenBody, Policy, Tried, WholeBody, explain};
use crate::config_file::{self, Mistakes, OneOrMany, Section, Sources};

/// The one version of the form.
const VERSION: i64 = 1;
/// No variable of the environment belongs to a table; the prefix of those that would is never looked for.
const NO_ENVIRONMENT: [(std::ffi::OsString, std::ffi::OsString); 0] = [];

/// A table, in the order in which it is written.
#[derive(Debug)]
pub struct Expectations(Vec<Case>);

/// One call, and what is expected of it.
#[derive(Debug)]
struct Case {
    method: Method,
    path: PathAndQuery,
    upstream: String,
    headers: HeaderMap,
    body: WholeBody,
    caller: Option<String>,
    expected: Verdict,
    rule: Option<String>,
    reason: Option<String>,
    candidate: Option<Verdict>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It does not.
    Deny,
}

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

impl Expectations {
    /// Reads a table.
    ///
    /// # Errors
    /// Every mistake, each with key and remedy.
    pub fn read(file: &Path) -> Result<Self, Mistakes> {
        let sources = Sources {
            file,
            file_may_be_absent: false,
            drop_ins: None,
            environment_prefix: "",
        };
        config_file::read(&sources, NO_ENVIRONMENT, |mut root| {
            check_version(&mut root);
            let sections = root.sections("case");
            if sections.is_empty() {
                root.mistake("case", "is not there", "add cases, each under [[case]]");
            }
            let count = sections.len();
            let cases: Vec<_> = sections.into_iter().filter_map(Case::read).collect();
            (cases.len() == count).then_some(Self(cases))
        })
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// Asks the policy about each case.
    pub fn check(&self, policy: &Policy) -> impl Iterator<Item = Checked<'_>> {
        let numbered = (1..).zip(&self.0);
        numbered.map(|(number, case)| Checked::new(number, case, policy))
    }
}

fn check_version(root: &mut Section<'_>) {
    if !root.has("version") {
        root.mistake("version", "is missing", "add version = 1 above the cases");
    }
    root.number("version", VERSION, VERSION..=VERSION);
}

impl Case {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let method = section.parsed("method");
        let path = section.parsed("path");
        let upstream = section.string("upstream");
        let headers = read_headers(&mut section);
        let body = section.optional_string("body").unwrap_or_default();
        let caller = section.optional_string("caller");
        let expected = read_expected(&mut section);
        let rule = section.optional_string("rule");
        let reason = section.optional_string("reason");
        let candidate = read_verdict(&mut section, "candidate");
        if candidate.is_some() && expected == Some(Verdict::Deny) {
            let remedy = "take it out, or write expect = \"allow\"";
            section.mistake("candidate", "is for calls that are allowed", remedy);
        }
        if reason.is_some() && expected == Some(Verdict::Allow) {
            let remedy = "take it out, or write expect = \"deny\"";
            section.mistake("reason", "is for calls that are denied", remedy);
        }
        Some(Self {
            method: method?,
            path: path?,
            upstream: upstream?,
            headers,
            body: WholeBody::new(body.into()),
            caller,
            expected: expected?,
            rule,
            reason,
            candidate,
        })
    }
}

fn read_expected(section: &mut Section<'_>) -> Option<Verdict> {
    if !section.has("expect") {
        let remedy = "add expect = \"allow\" or expect = \"deny\"";
        section.mistake("expect", "is missing", remedy);
        return None;
    }
    read_verdict(section, "expect")
}

fn read_verdict(section: &mut Section<'_>, key: &'static str) -> Option<Verdict> {
    let choices = [
        ("allow", Some(Verdict::Allow)),
        ("deny", Some(Verdict::Deny)),
    ];
    section.choice(key, &choices, None)
}

fn read_headers(section: &mut Section<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, lines) in section.keyed_texts("headers") {
        let lines = match lines {
            OneOrMany::One(line) => vec![line],
            OneOrMany::Many(lines) => lines,
        };
        for line in lines {
            match (name.parse::<HeaderName>(), line.parse::<HeaderValue>()) {
                (Ok(name), Ok(value)) => {
                    headers.append(name, value);
                }
                (Err(_), _) | (_, Err(_)) => {
                    let problem = format!("has {name:?}, which is no header with such a value");
                    section.mistake("headers", problem, "correct it");
                }
            }
        }
    }
    headers
}

impl<'a> Checked<'a> {
    fn new(number: usize, case: &'a Case, policy: &Policy) -> Self {
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

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
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
    use std::fs;

    use super::*;
    use crate::agent::config::policy_of;
    use crate::agent::config::tests::{read as read_config, reference};

    #[test]
    fn the_shipped_table_is_met_by_the_example_beside_it() {
        let shipped = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/config/policy.test.toml"
        ));
        let table = Expectations::read(shipped).unwrap();
        let policy = policy_of(&read_config(&reference()).unwrap().upstreams);
        let unmet = table.check(&policy).filter(|case| !case.is_met());
        let unmet: Vec<_> = unmet.map(|it| format!("{it}: {}", it.happened())).collect();
        assert!(table.count() >= 5 && unmet.is_empty(), "{unmet:#?}");
    }

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

    #[test]
    fn every_mistake_of_a_table_is_told_at_once() {
        let mistakes = table(
            "[[case]]\nmethod = 'G T'\npath = '/'\nupstream = 'jira'\nexpcet = 'allow'\n\
             [[case]]\nmethod = 'GET'\npath = '/'\nupstream = 'jira'\nexpect = 'allow'\nreason = 'unmet'\n\
             headers = { 'a b' = 'c' }\n",
        )
        .unwrap_err()
        .to_string();
        for part in [
            "case[#1].expcet: is not a known key; did you mean expect?",
            "case[#1].expect: is missing; add expect = \"allow\" or expect = \"deny\"",
            "case[#1].method: cannot be used",
            "case[#2].reason: is for calls that are denied",
            "case[#2].headers: has \"a b\"",
            "version: is missing; add version = 1",
        ] {
            assert!(mistakes.contains(part), "{part:?} is not in\n{mistakes}");
        }
        assert!(table("version = 2\n[[case]]\n").is_err());
        assert!(table("version = 1\n").is_err());
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

    fn table(text: &str) -> Result<Expectations, Mistakes> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("table.toml");
        fs::write(&file, text).unwrap();
        Expectations::read(&file)
    }
}
