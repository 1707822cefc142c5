//! The corpus, `tests/vectors/policy/attacks.toml`, as requests to send and what should become of them.

use std::collections::BTreeMap;

use config::{Config, File, FileFormat};
use serde::Deserialize;

const DENIED: &str = "403 denied-by-policy";
const PASSED: &str = "200";

#[derive(Deserialize)]
pub(super) struct Corpus {
    /// By the reason.
    pub(super) denied: BTreeMap<String, Vec<String>>,
    pub(super) allowed: Allowed,
    pub(super) headers: Headers,
    raw: Vec<Raw>,
    http2: Vec<Http2>,
}

#[derive(Deserialize)]
pub(super) struct Allowed {
    pub(super) requests: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Headers {
    pub(super) denied: Vec<String>,
    pub(super) allowed: Vec<String>,
    /// Allowed, and lost on the way.
    pub(super) dropped: Vec<String>,
}

#[derive(Deserialize)]
struct Raw {
    why: String,
    send: Vec<String>,
    answer: Vec<String>,
    #[serde(default)]
    arrives: Vec<String>,
    #[serde(default)]
    passes: Vec<String>,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize)]
struct Http2 {
    why: String,
    head: Vec<(String, String)>,
    #[serde(default)]
    send: String,
    answer: String,
    #[serde(default)]
    arrives: Vec<String>,
    #[serde(default)]
    passes: Vec<String>,
}

/// One request, or what looks like one, and what should become of it.
pub(super) struct Case {
    pub(super) why: String,
    pub(super) sent: Sent,
    /// The answers' status and, for a problem document, its code.
    pub(super) answer: Vec<String>,
    /// The request lines that the upstream sees, without the version.
    pub(super) arrives: Vec<String>,
    /// The headers that pass, in small letters, beside those that agent and relay set.
    pub(super) passes: Vec<String>,
    /// The body of each that arrives.
    pub(super) body: String,
}

/// What is sent.
pub(super) enum Sent {
    Bytes(String),
    /// The fields of a head in their order, and a body.
    Http2 {
        head: Vec<(String, String)>,
        body: String,
    },
}

impl Corpus {
    pub(super) fn read() -> Self {
        let text = include_str!("../../vectors/policy/attacks.toml");
        let file = File::from_str(text, FileFormat::Toml);
        let whole = Config::builder().add_source(file).build().unwrap();
        whole.try_deserialize().unwrap()
    }

    pub(super) fn cases(self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (reason, lines) in self.denied {
            let from_root = lines.iter().filter(|line| line.contains(" /"));
            cases.extend(from_root.map(|line| Case::of_line(line, &reason, "", &[DENIED], false)));
        }
        for line in &self.allowed.requests {
            cases.push(Case::of_line(line, "allowed", "", &[PASSED], true));
        }
        let open = "GET /open/x";
        for header in &self.headers.denied {
            cases.push(Case::of_line(open, header, header, &[DENIED], false));
        }
        for header in &self.headers.allowed {
            let mut case = Case::of_line(open, header, header, &[PASSED], true);
            case.passes = vec![header.to_owned()];
            cases.push(case);
        }
        for header in &self.headers.dropped {
            cases.push(Case::of_line(open, header, header, &[PASSED], true));
        }
        cases.extend(self.raw.into_iter().map(|raw| Case {
            why: raw.why,
            sent: Sent::Bytes(raw.send.join("\r\n")),
            answer: raw.answer,
            arrives: raw.arrives,
            passes: raw.passes,
            body: raw.body,
        }));
        cases.extend(self.http2.into_iter().map(|it| Case {
            why: it.why,
            body: it.send.clone(),
            sent: Sent::Http2 {
                head: it.head,
                body: it.send,
            },
            answer: vec![it.answer],
            arrives: it.arrives,
            passes: it.passes,
        }));
        cases
    }
}

impl Case {
    /// Whether what arrives has no end.
    pub(super) fn may_be_cut(&self) -> bool {
        self.arrives.iter().all(|line| line.ends_with("(cut)"))
    }

    /// A request line without its version, and perhaps one more header.
    fn of_line(line: &str, why: &str, header: &str, answer: &[&str], arrives: bool) -> Self {
        let (method, path) = line.split_once(' ').unwrap();
        // What says why is in the body, which HEAD has not.
        let answer = match (method, answer) {
            ("HEAD", [DENIED]) => &["403"],
            _ => answer,
        };
        let mut sent = format!("{method} {{web}}{path} HTTP/1.1\r\n{{head}}\r\n");
        if !header.is_empty() {
            sent = sent + header + "\r\n";
        }
        Self {
            why: format!("{line}: {why}"),
            sent: Sent::Bytes(sent + "\r\n"),
            answer: answer.iter().copied().map(str::to_owned).collect(),
            arrives: arrives.then(|| line.to_owned()).into_iter().collect(),
            passes: Vec::new(),
            body: String::new(),
        }
    }
}
