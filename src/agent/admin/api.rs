//! What crosses the admin socket as JSON, shared with the command line. Within `/v1` members are only added.

use serde::{Deserialize, Serialize};

use crate::agent::policy::{Asked, Denied, Explanation, Tried};
use crate::agent::status::ConnectionStatus;
use crate::condition::Condition;

/// `POST /v1/connections`: accept an invitation.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptRequest {
    /// The invitation code.
    pub code: String,
    /// This side's project for the incoming synchronisation.
    #[serde(default)]
    pub project: Option<String>,
}

/// The answer to [`AcceptRequest`].
#[derive(Debug, Serialize, Deserialize)]
pub struct AcceptAnswer {
    /// The connection's name.
    pub name: String,
    /// Its id.
    pub connection: String,
    /// Short name of the public side.
    pub public_side: String,
    /// Where the relay is.
    pub relay_url: String,
    /// Whether it had been accepted here before.
    pub again: bool,
}

/// `GET /v1/connections`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConnectionList {
    /// All of them, by name.
    pub connections: Vec<ConnectionStatus>,
}

/// The answer to `DELETE /v1/connections/{name}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoveAnswer {
    /// Whether the public side knows, or has no need to; otherwise it is told as soon as it can be reached.
    pub public_side_told: bool,
    /// Whether this agent was a copy of another one, whose connection lives on.
    pub only_here: bool,
}

/// The answer to `POST /v1/connections/{name}/rotate`.
#[derive(Debug, Serialize, Deserialize)]
pub struct RotateAnswer {
    /// Whether the connection has a new identity key; otherwise it gets one as soon as its link is up.
    pub done: bool,
    /// The new key's short form.
    pub fingerprint: Option<String>,
}

/// The answer to `POST /v1/reload`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// Upstreams now in force.
    pub upstreams: usize,
    /// Keys that changed, and take effect after a restart only.
    pub needs_restart: Vec<String>,
    /// What is gone, in words: upstreams, or rules of some.
    #[serde(default)]
    pub withdrawn: Option<String>,
}

/// The answer to `GET /v1/policy/explain`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExplainAnswer {
    /// Whether a call would be allowed.
    pub allowed: bool,
    /// The upstream that was looked at; empty when none fits the URL.
    pub upstream: String,
    /// The method.
    pub method: String,
    /// Path and query as they would be matched.
    pub path: String,
    /// The rule that allows it, or why none does.
    pub reason: String,
    /// Why no rule allows it, as one word that does not change; empty where one does.
    #[serde(default)]
    pub word: String,
    /// Every rule that was looked at, in that order, with what it lacks.
    pub rules: Vec<ExplainedRule>,
    /// What the candidate rules say to a call that those in force allow, where some are tried.
    #[serde(default)]
    pub candidate: Option<ExplainedCandidate>,
}

/// What candidate rules say, in an [`ExplainAnswer`]. The call passes all the same.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExplainedCandidate {
    /// Whether they would allow it.
    pub allowed: bool,
    /// Which would allow it, or why none would.
    pub reason: String,
    /// Why none would, as one word; empty where one would.
    pub word: String,
    /// Every one that was looked at.
    pub rules: Vec<ExplainedRule>,
}

/// One rule in an [`ExplainAnswer`].
#[derive(Debug, Serialize, Deserialize)]
pub struct ExplainedRule {
    /// The rule.
    pub rule: String,
    /// Whether it denies what it matches, rather than allow it.
    #[serde(default)]
    pub denies: bool,
    /// Why it does not decide about the call; empty when it does.
    pub why_not: String,
}

impl ExplainAnswer {
    /// What an explanation says of a call whose body has so many bytes.
    #[must_use]
    pub fn of(asked: &Asked<'_>, body_length: u64, explanation: &Explanation) -> Self {
        let limits = explanation.limits();
        let max_body = limits.and_then(|limits| limits.max_body);
        let max_body = max_body.filter(|most| body_length > *most);
        let told = match (&explanation.outcome, max_body) {
            (Ok(index), Some(most)) => format!(
                "rule {} allows it, and its max_body only {most} bytes of a body: 413",
                index + 1
            ),
            _ => reason(explanation),
        };
        Self {
            allowed: explanation.outcome.is_ok() && max_body.is_none(),
            upstream: asked.upstream.to_owned(),
            method: asked.method.to_string(),
            path: asked.path_and_query.to_string(),
            reason: told,
            word: word(explanation),
            rules: rules(explanation),
            candidate: explanation.candidate.as_ref().map(|it| ExplainedCandidate {
                allowed: it.outcome.is_ok(),
                reason: reason(it),
                word: word(it),
                rules: rules(it),
            }),
        }
    }
}

fn reason(explanation: &Explanation) -> String {
    match (&explanation.outcome, explanation.tried.last()) {
        (Ok(index), Some(allowing)) => format!("rule {}: {}", index + 1, allowing.rule),
        (Ok(index), None) => format!("rule {}", index + 1),
        (Err(denied), _) => denied.to_string(),
    }
}

fn word(explanation: &Explanation) -> String {
    let word = explanation.outcome.map_or_else(Denied::word, |_| "");
    word.to_owned()
}

fn rules(explanation: &Explanation) -> Vec<ExplainedRule> {
    explanation.tried.iter().map(ExplainedRule::of).collect()
}

impl ExplainedRule {
    fn of(tried: &Tried) -> Self {
        Self {
            rule: tried.rule.to_string(),
            denies: tried.rule.denies(),
            why_not: match &tried.verdict {
                Ok(()) => String::new(),
                Err(mismatch) => mismatch.to_string(),
            },
        }
    }
}

/// `GET /readyz` and `GET /healthz`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Health {
    /// `ok`, `waiting` or `stopping`.
    pub status: String,
    /// In one line.
    pub detail: String,
    /// `ok`, `warning` or `critical`: the worst of `conditions`.
    #[serde(default)]
    pub health: String,
    /// What is the matter, the worst first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}
