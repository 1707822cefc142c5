//! What can be the matter with a daemon: named conditions, each with a word for programs, a text, a remedy,
//! and since when; and the ledger that notes when one begins and ends.
//!
//! Pure: takes findings and the time. Each program has its own table of codes ([`kinds`]) and its
//! own rules for when one of them is found. Codes are stable: added, never renamed.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Conditions that are kept and shown at once; the worst come first. A relay with thousands of absent agents is
/// no better understood from a longer list.
pub const MOST: usize = 200;
/// The longest text of a condition in characters. Parts of it come from relays and proxies.
const LONGEST_TEXT: usize = 400;
/// What stands for the subject in a remedy.
const NAME: &str = "NAME";

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Calls fail, or will not be recorded: someone has to act now.
    Critical,
    /// Someone should know, or act soon.
    Warning,
}

/// One line of a program's table of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The word that programs go by.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What it means, in words.
    pub means: &'static str,
    /// What to do, in whole sentences; `NAME` stands for the subject.
    pub remedy: &'static str,
}

/// That a condition holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    kind: Kind,
    subject: String,
    details: Option<String>,
    remedy: Option<String>,
    since: Option<SystemTime>,
}

/// A condition that holds. Part of the stable status formats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The word that programs go by.
    pub code: String,
    /// How much it matters.
    pub severity: Severity,
    /// The connection, upstream or file it is about; empty when it is about the whole program.
    pub subject: String,
    /// What is the matter, in words.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// Since when it holds, as far as is known.
    pub since: String,
}

/// What the last look changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Conditions that hold now and did not before.
    pub begun: Vec<Condition>,
    /// Conditions that held before and do no longer.
    pub ended: Vec<Condition>,
}

/// The conditions that hold, from one look to the next.
#[derive(Debug, Default)]
pub struct Ledger {
    held: BTreeMap<Key, Condition>,
}

/// The order in which conditions are shown, and what makes two of them the same.
type Key = (Severity, String, &'static str);

/// A program's table of codes: `pub enum`, then for each `Name Severity "code" "what it means" "what to do"`.
macro_rules! kinds {
    ($visible:vis enum $($name:ident $severity:ident $code:literal $means:literal $remedy:literal)*) => {
        /// What can be the matter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $visible enum Code {
            $(#[doc = $means] $name,)*
        }

        impl Code {
            /// All of them, in the order of the documentation.
            $visible const ALL: &[Self] = &[$(Self::$name),*];

            /// What the table says of it.
            #[must_use]
            $visible const fn kind(self) -> $crate::condition::Kind {
                match self {
                    $(Self::$name => $crate::condition::Kind {
                        code: $code,
                        severity: $crate::condition::Severity::$severity,
                        means: $means,
                        remedy: $remedy,
                    },)*
                }
            }

            /// That it holds, for a connection, an upstream or a file; the empty text is the whole program.
            #[must_use]
            $visible fn found(self, subject: impl Into<String>) -> $crate::condition::Finding {
                $crate::condition::Finding::new(self.kind(), subject.into())
            }
        }
    };
}
pub(crate) use kinds;

impl Finding {
    /// A finding with nothing but what the table says.
    #[must_use]
    pub const fn new(kind: Kind, subject: String) -> Self {
        Self {
            kind,
            subject,
            details: None,
            remedy: None,
            since: None,
        }
    }

    /// What more is known, behind the words of the table.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }

    /// What to do, when more is known than the table says.
    #[must_use]
    pub fn remedy(mut self, remedy: Option<String>) -> Self {
        self.remedy = remedy.filter(|remedy| !remedy.is_empty());
        self
    }

    /// Since when it holds, where that is known better than from the first look that found it.
    #[must_use]
    pub const fn since(mut self, since: Option<SystemTime>) -> Self {
        self.since = since;
        self
    }

    fn key(&self) -> Key {
        (self.kind.severity, self.subject.clone(), self.kind.code)
    }

    fn into_condition(self, since: String) -> Condition {
        let text = match &self.details {
            Some(details) => format!("{}: {details}", self.kind.means),
            None => self.kind.means.to_owned(),
        };
        let remedy = match self.remedy {
            Some(remedy) => remedy,
            None => self.kind.remedy.replace(NAME, &self.subject),
        };
        Condition {
            code: self.kind.code.to_owned(),
            severity: self.kind.severity,
            subject: harmless(&self.subject),
            text: harmless(&text),
            remedy: harmless(&remedy),
            since,
        }
    }
}

impl Severity {
    /// The word of the formats.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

impl Condition {
    /// The text, and whom it is about.
    #[must_use]
    pub fn sentence(&self) -> String {
        if self.subject.is_empty() {
            self.text.clone()
        } else {
            format!("{}: {}", self.subject, self.text)
        }
    }
}

impl Ledger {
    /// Takes what was found at `now` in place of what was found before.
    pub fn look(&mut self, findings: Vec<Finding>, now: SystemTime) -> News {
        let mut news = News::default();
        let mut before = std::mem::take(&mut self.held);
        let mut found: BTreeMap<Key, Finding> = BTreeMap::new();
        for finding in findings {
            found.entry(finding.key()).or_insert(finding);
        }
        for (key, finding) in found.into_iter().take(MOST) {
            let former = before.remove(&key);
            let since = match (finding.since, &former) {
                (Some(since), _) => in_words(since),
                (None, Some(former)) => former.since.clone(),
                (None, None) => in_words(now),
            };
            let condition = finding.into_condition(since);
            if former.is_none() {
                news.begun.push(condition.clone());
            }
            self.held.insert(key, condition);
        }
        news.ended = before.into_values().collect();
        news
    }

    /// What holds, the worst first.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        self.held.values().cloned().collect()
    }

    /// Whether nothing is the matter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl News {
    /// One log line for each condition that began or ended.
    pub fn log(&self) {
        for one in &self.begun {
            let (code, severity) = (one.code.as_str(), one.severity.word());
            let (since, remedy) = (one.since.as_str(), one.remedy.as_str());
            let text = one.sentence();
            match one.severity {
                Severity::Critical => {
                    tracing::error!(code, severity, since, remedy, "condition began: {text}");
                }
                Severity::Warning => {
                    tracing::warn!(code, severity, since, remedy, "condition began: {text}");
                }
            }
        }
        for one in &self.ended {
            let (code, since) = (one.code.as_str(), one.since.as_str());
            tracing::info!(code, since, "condition ended: {}", one.sentence());
        }
    }
}

/// The worst of some conditions; nothing when all is well.
#[must_use]
pub fn worst(conditions: &[Condition]) -> Option<Severity> {
    conditions.iter().map(|condition| condition.severity).min()
}

/// `ok`, `warning` or `critical`.
#[must_use]
pub fn verdict(conditions: &[Condition]) -> &'static str {
    worst(conditions).map_or("ok", Severity::word)
}

/// In one line, without control characters, and not too long.
fn harmless(text: &str) -> String {
    let mut harmless: String = text
        .chars()
        .take(LONGEST_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if harmless.len() < text.len() {
        harmless.push('…');
    }
    harmless
}

fn in_words(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    kinds! {
        enum
        Fire Critical "fire" "it burns" "Put NAME out."
        Smoke Warning "smoke" "there is smoke" "Look for a fire."
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_condition_begins_once_lasts_and_ends_once() {
        let mut ledger = Ledger::default();
        let news = ledger.look(vec![Code::Smoke.found("")], at(0));
        assert_eq!((news.begun.len(), news.ended.len()), (1, 0));
        let news = ledger.look(vec![Code::Smoke.found("").details("more")], at(60));
        assert_eq!(news, News::default());
        let [smoke] = ledger.conditions().try_into().unwrap();
        assert_eq!(smoke.since, "1970-01-01T00:00:00Z");
        assert_eq!(smoke.text, "there is smoke: more");
        let news = ledger.look(Vec::new(), at(61));
        assert_eq!((news.begun.len(), news.ended.len()), (0, 1));
        assert!(ledger.is_empty());
    }

    #[test]
    fn the_same_code_of_two_subjects_is_two_conditions_and_the_worst_come_first() {
        let mut ledger = Ledger::default();
        let findings = vec![
            Code::Smoke.found("attic"),
            Code::Fire.found("shed").since(Some(at(7))),
            Code::Fire.found("barn"),
        ];
        ledger.look(findings, at(60));
        let shown: Vec<_> = ledger
            .conditions()
            .into_iter()
            .map(|one| (one.code, one.remedy, one.since))
            .collect();
        let expected = [
            ("fire", "Put barn out.", "1970-01-01T00:01:00Z"),
            ("fire", "Put shed out.", "1970-01-01T00:00:07Z"),
            ("smoke", "Look for a fire.", "1970-01-01T00:01:00Z"),
        ];
        let expected = expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(shown, expected);
        assert_eq!(worst(&ledger.conditions()), Some(Severity::Critical));
        assert_eq!(verdict(&[]), "ok");
    }

    #[test]
    fn what_comes_from_elsewhere_is_neither_long_nor_steers_a_terminal() {
        let mut ledger = Ledger::default();
        let details = format!("\x1b[2J{}", "x".repeat(10_000));
        ledger.look(vec![Code::Fire.found("a\nb").details(details)], at(0));
        let [fire] = ledger.conditions().try_into().unwrap();
        assert_eq!(fire.subject, "a b");
        assert!(!fire.text.contains('\x1b'));
        assert_eq!(fire.text.chars().count(), LONGEST_TEXT + 1);
    }

    #[test]
    fn no_more_are_kept_than_make_sense() {
        let mut ledger = Ledger::default();
        let many = |count: usize| (0..count).map(|number| Code::Smoke.found(number.to_string()));
        let mut findings: Vec<_> = many(2 * MOST).collect();
        findings.push(Code::Fire.found("zoo"));
        ledger.look(findings, at(0));
        let conditions = ledger.conditions();
        assert_eq!(conditions.len(), MOST);
        assert_eq!(conditions[0].code, Code::ALL[0].kind().code);
    }
}
