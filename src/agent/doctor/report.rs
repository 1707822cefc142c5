//! What the doctor found, as JSON and for the command line. A stable format, as that of the status.

use serde::{Deserialize, Serialize};

/// The version of the format.
const VERSION: u32 = 1;

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version of the format.
    pub version: u32,
    /// Whether no hop of any walk failed.
    pub healthy: bool,
    /// One walk for each relay and each upstream.
    pub walks: Vec<Walk>,
}

/// The way to one relay or upstream, hop by hop, up to the first that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Whose way it is: `connection NAME` or `upstream NAME`.
    pub subject: String,
    /// Where it leads.
    pub url: String,
    /// The hops.
    pub checks: Vec<Check>,
}

/// One hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `name`, `proxy`, `tcp`, `tls`, `link` (WebSocket and authentication), `clock` or `credentials`.
    pub hop: String,
    /// How it went.
    pub outcome: Outcome,
    /// What was seen; may be empty.
    pub detail: String,
    /// What to do; empty when all is well.
    pub remedy: String,
}

/// How a hop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It lets pass.
    Ok,
    /// It lets pass, and something else will suffer.
    Warning,
    /// Here the way ends.
    Failed,
}

impl Report {
    pub(super) fn new(walks: Vec<Walk>) -> Self {
        let healthy = walks
            .iter()
            .flat_map(|walk| &walk.checks)
            .all(|check| check.outcome != Outcome::Failed);
        Self {
            version: VERSION,
            healthy,
            walks,
        }
    }
}

impl Walk {
    pub(super) const fn new(subject: String, url: String) -> Self {
        Self {
            subject,
            url,
            checks: Vec::new(),
        }
    }

    pub(super) fn passed(&mut self, hop: &str, detail: String) {
        self.push(hop, Outcome::Ok, detail, String::new());
    }

    pub(super) fn warned(&mut self, hop: &str, detail: String, remedy: String) {
        self.push(hop, Outcome::Warning, detail, remedy);
    }

    pub(super) fn failed(&mut self, hop: &str, detail: String, remedy: String) {
        self.push(hop, Outcome::Failed, detail, remedy);
    }

    fn push(&mut self, hop: &str, outcome: Outcome, detail: String, remedy: String) {
        self.checks.push(Check {
            hop: hop.to_owned(),
            outcome,
            detail,
            remedy,
        });
    }
}
