//! What stands in a line of the audit log: the format of `docs/audit.md`.
//!
//! Pure. Never a body, never a header, never the value of a query parameter that the rule does not list.

use std::collections::BTreeMap;

use http::uri::PathAndQuery;
use serde::Serialize;

/// What stands for the value of a query parameter. The brackets cannot stand in a query themselves.
const REDACTED: &str = "<redacted>";

/// A path, and a query as it is shown, are cut after so many bytes: heads are shorter, unless somebody wants to fill
/// the log. With every byte escaped a line stays shorter than the longest that is read back.
const MAX_TARGET: usize = 32 * 1024;
/// The same for what is words for people.
const MAX_WORDS: usize = 4 * 1024;
/// The same for names and labels.
const MAX_NAME: usize = 256;

/// What a line tells beside its time and its place in the chain. Members are only added within a version.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Fields<'a> {
    /// The daemon began to write.
    Start(Daemon<'a>),
    /// The daemon ends, and with it every call.
    Stop(Daemon<'a>),
    /// A call that lasts: what is known of it so far. Its `call` follows.
    Open(Call<'a>),
    /// A call, at its end.
    Call(Call<'a>),
    /// What was found after the last whole line when the file was opened. It stays where it is.
    Torn {
        /// How much it is.
        torn_bytes: u64,
        /// The hash of these bytes.
        torn_hash: String,
    },
    /// Files that were removed because there were more than `keep`.
    Pruned {
        /// The last of their lines.
        through: u64,
        /// How many files.
        files: u64,
    },
    /// Writing works again. The lines of the calls that were under way follow.
    Resumed {
        /// Since when it did not work.
        since: &'a str,
        /// Calls that were refused meanwhile, and have no line.
        refused: u64,
        /// What was wrong.
        why: &'a str,
    },
}

/// The program that writes.
#[derive(Debug, Serialize)]
pub(super) struct Daemon<'a> {
    /// Program and version.
    pub software: &'a str,
    /// Its process.
    pub process: u32,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Call<'a> {
    /// The connection's name.
    pub connection: &'a str,
    /// The label of the caller's token, as the relay tells it.
    pub caller: Option<&'a str>,
    /// The relay's number of the call.
    pub request: Option<&'a str>,
    /// What the caller calls it, where it does: its `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    /// The upstream's name, as it was asked for.
    pub upstream: &'a str,
    /// The method; that of a WebSocket's handshake.
    pub method: &'a str,
    /// Whether a WebSocket was asked for.
    pub websocket: bool,
    /// The path, byte for byte as it was matched and sent.
    pub path: &'a str,
    /// The query, with values only where the rule lists their parameter.
    pub query: Option<String>,
    /// The rule that decided.
    pub rule: Option<&'a str>,
    /// What was decided.
    pub decision: Decision,
    /// Why candidate rules would deny a call that passed; nothing where none are tried, or they allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<&'a Candidate>,
    /// Why the agent itself answered: the code of the problem document.
    pub reason: Option<&'a str>,
    /// The reason in words, where the code does not say all.
    pub detail: Option<&'a str>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Bytes of the request's body that were passed on.
    pub request_bytes: u64,
    /// Bytes of the answer's body that were passed on.
    pub response_bytes: u64,
    /// Since its head arrived, in milliseconds.
    pub duration_ms: f64,
    /// Whether it is known what became of the call.
    pub outcome: Outcome,
    /// How the answer ended; nothing of a call that has not.
    pub end: Option<Finish>,
    /// What was too long to stand here whole, by its member, with its length in bytes as it was asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cut: BTreeMap<&'static str, usize>,
}

/// What candidate rules would deny, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename = "denied")]
pub struct Candidate {
    /// The reason, as one word.
    pub reason: &'static str,
    /// The rule that would deny it, where one does.
    pub rule: Option<Box<str>>,
}

/// What was decided about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// A rule allows it.
    Allowed,
    /// The rules do not allow it.
    Denied,
    /// Something else kept it from being sent: a limit, a loop, a credential, the connection's state.
    Refused,
    /// The caller went away before anything was decided.
    None,
}

/// Whether it is known what became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The upstream answered, or the call was certainly not sent.
    Known,
    /// The upstream may have carried it out.
    Unknown,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// With its last byte.
    Whole,
    /// The upstream broke it off.
    BrokenOff,
    /// The caller, or the link, went away before.
    GivenUp,
}

impl Call<'_> {
    /// The same with everything that somebody else has chosen cut to its bound; `query` is that of the call.
    #[must_use]
    pub(super) fn bounded(mut self, query: Option<&str>) -> Self {
        let cut = &mut self.cut;
        let mut bound = |name: &'static str, text: &mut &str, most: usize| {
            if text.len() > most {
                cut.insert(name, text.len());
                *text = &text[..text.floor_char_boundary(most)];
            }
        };
        bound("upstream", &mut self.upstream, MAX_NAME);
        bound("method", &mut self.method, MAX_NAME);
        bound("path", &mut self.path, MAX_TARGET);
        let optional = [
            ("caller", &mut self.caller, MAX_NAME),
            ("request", &mut self.request, MAX_NAME),
            ("request_id", &mut self.request_id, MAX_NAME),
            ("rule", &mut self.rule, MAX_WORDS),
            ("detail", &mut self.detail, MAX_WORDS),
        ];
        for (name, text, most) in optional {
            if let Some(text) = text {
                bound(name, text, most);
            }
        }
        if let (Some(shown), Some(query)) = (&mut self.query, query)
            && shown.len() > MAX_TARGET
        {
            shown.truncate(shown.floor_char_boundary(MAX_TARGET));
            self.cut.insert("query", query.len());
        }
        self
    }
}

/// The query of a call, with the values of those parameters only that are `listed`. A part without a
/// name has no value that could be told from it, and is left out whole. Not much longer than what a line has room for.
#[must_use]
pub(super) fn redacted(target: &PathAndQuery, listed: &[String]) -> Option<String> {
    let query = target.query()?;
    let mut shown = String::with_capacity(query.len().min(MAX_TARGET) + REDACTED.len());
    for (at, part) in query.split('&').enumerate() {
        if shown.len() > MAX_TARGET {
            break;
        }
        if at > 0 {
            shown.push('&');
        }
        match part.split_once('=') {
            _ if part.is_empty() => {}
            Some((name, value)) if listed.iter().any(|it| it == name) => {
                // Some services take a semicolon for the beginning of another parameter.
                match value.contains(';') {
                    true => shown.extend([name, "=", REDACTED]),
                    false => shown.push_str(part),
                }
            }
            Some((name, _)) => shown.extend([name, "=", REDACTED]),
            None => shown.push_str(REDACTED),
        }
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_shows_its_names_and_only_the_values_that_are_listed() {
        let shown = |target: &str, listed: &[&str]| {
            let listed: Vec<_> = listed.iter().map(|it| (*it).to_owned()).collect();
            redacted(&target.parse().unwrap(), &listed)
        };
        assert_eq!(shown("/x", &[]), None);
        assert_eq!(
            shown("/x?a=1&b=2&&c", &["b"]).unwrap(),
            "a=<redacted>&b=2&&<redacted>"
        );
        assert_eq!(
            shown("/x?b=2;token=s", &["b"]).unwrap(),
            "b=<redacted>",
            "what another program would read as a parameter of its own"
        );
        assert_eq!(shown("/x?B=2", &["b"]).unwrap(), "B=<redacted>");
        assert_eq!(shown("/x?", &[]).unwrap(), "");
        assert_eq!(shown("/x?a=b=c", &[]).unwrap(), "a=<redacted>");
    }

    #[test]
    fn whatever_is_asked_for_a_line_is_short_enough_to_be_read_back() {
        use crate::agent::audit::chain::{Head, MAX_LINE, read};

        // Each byte needs an escape; a relay that means ill sends such queries.
        let quotes = |count| "\"".repeat(count);
        let controls = "\u{1}".repeat(100_000);
        let target: PathAndQuery = format!("/{}?{}", quotes(60_000), "=&".repeat(2_000))
            .parse()
            .unwrap();
        let query = target.query().unwrap();
        let call = Call {
            connection: "acme_to_widgets",
            caller: Some(&controls),
            request: Some(&controls),
            request_id: Some(&controls),
            upstream: &controls,
            method: &controls,
            websocket: false,
            path: target.path(),
            query: redacted(&target, &[]),
            rule: Some(&controls),
            decision: Decision::Denied,
            reason: None,
            detail: Some(&controls),
            status: None,
            request_bytes: u64::MAX,
            response_bytes: u64::MAX,
            duration_ms: f64::MAX,
            outcome: Outcome::Unknown,
            end: Some(Finish::GivenUp),
            candidate: None,
            cut: BTreeMap::new(),
        };
        let cut = call.clone().bounded(Some(query)).cut;
        let told = |name: &str| cut.get(name).copied();
        assert_eq!(told("path"), Some(target.path().len()));
        assert_eq!(told("caller"), Some(controls.len()));
        assert_eq!(told("query"), None, "it has room");

        let long = quotes(60_000);
        let with = |shown: &str| Call {
            query: Some(shown.to_owned()),
            ..call.clone()
        };
        let call = with(&long).bounded(Some(&long));
        assert_eq!(call.cut.get("query"), Some(&60_000));
        let mut lines = Vec::new();
        let fields = Fields::Call(call);
        Head::BEGINNING.seal("t", &fields, &mut lines).unwrap();
        assert!(lines.len() <= MAX_LINE, "{}", lines.len());
        assert!(lines.len() > MAX_LINE / 2, "the test is about long lines");
        read(&lines[..lines.len() - 1]).unwrap();

        let target: PathAndQuery = format!("/?{}", "=&".repeat(30_000)).parse().unwrap();
        let shown = redacted(&target, &[]).unwrap();
        assert!(shown.len() < MAX_TARGET + 100, "{}", shown.len());
    }

    #[test]
    fn what_has_room_is_told_as_it_is() {
        let target: PathAndQuery = "/x?a=1".parse().unwrap();
        let shown = redacted(&target, &[]);
        assert_eq!(shown.as_deref(), Some("a=<redacted>"));
    }
}
