//! A table of expectations: calls, and whether the policy is to allow them. Kept beside the configuration.
//!
//! Reads the table and asks the policy; contacts nothing. The form is that of `config/policy.test.toml`.

mod checked;

use std::fmt;
use std::path::Path;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

pub use self::checked::Checked;
use crate::agent::policy::{Policy, WholeBody};
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

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
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

    pub(super) fn table(text: &str) -> Result<Expectations, Mistakes> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("table.toml");
        fs::write(&file, text).unwrap();
        Expectations::read(&file)
    }
}
