//! How a connection's identity key is, and its rotation.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::text_of;

/// A connection's identity key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// Its short form, as the public side's listing has it.
    pub fingerprint: String,
    /// Since when it is the connection's.
    pub since: String,
    /// `automatic`, `by-hand`, `unsupported` by the relay, `failing`, or `unknown` before the first link.
    pub rotation: String,
    /// When it is due to be replaced.
    pub due_at: Option<String>,
    /// Why the last try to replace it failed. The key stays good.
    pub trouble: Option<String>,
    /// Tries in a row that failed.
    #[serde(default)]
    pub failures: u32,
}

/// What a link task knows of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its short form.
    pub fingerprint: String,
    /// When it was made.
    pub since: SystemTime,
    /// When it is due to be replaced; never by itself where there is no such time.
    pub due_at: Option<SystemTime>,
    /// Whether the relay knows how; unknown before the first link.
    pub is_supported: Option<bool>,
    /// Why the last try to replace it failed.
    pub trouble: Option<String>,
    /// Tries in a row that failed.
    pub failures: u32,
}

impl KeyStatus {
    /// As the format shows it.
    #[must_use]
    pub fn of(facts: &KeyFacts) -> Self {
        let rotation = match (facts.is_supported, &facts.trouble, facts.due_at) {
            (Some(false), ..) => "unsupported",
            (Some(true), Some(_), _) => "failing",
            (Some(true), None, Some(_)) => "automatic",
            (Some(true), None, None) => "by-hand",
            (None, ..) => "unknown",
        };
        Self {
            fingerprint: facts.fingerprint.clone(),
            since: text_of(facts.since),
            rotation: rotation.to_owned(),
            due_at: facts.due_at.map(text_of),
            trouble: facts.trouble.clone(),
            failures: facts.failures,
        }
    }
}
