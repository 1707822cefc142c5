//! A snapshot of the running agent: what `agent status --json` and `GET /v1/status` show.
//!
//! A stable format: fields are added, never renamed or taken away, within one `version`. Holds no
//! secret and no content of calls. Times are RFC 3339 in UTC.

mod key;
mod link;
mod upstream;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use self::key::{KeyFacts, KeyStatus};
pub use self::link::{Crossed, Cut, Duplicate, LinkFacts, LinkStatus};
pub use self::upstream::{
    CandidateStatus, NotRenewedStatus, RenewalStatus, UnreachableStatus, UpstreamStatus,
};
use crate::agent::lifecycle::Phase;
use crate::agent::reload::{Refused, Withdrawn, Withheld};
use crate::agent::serve::Calls;
use crate::agent::state::{ConnectionRecord, Damaged, Standing};
use crate::condition::Condition;
use crate::disk::{Room, Silent};
use crate::error_chain;
use crate::shutdown::Draining;

/// The version of the format.
pub const VERSION: u32 = 1;

/// The whole agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// [`VERSION`].
    pub version: u32,
    /// Program and version.
    pub software: String,
    /// The daemon's process id.
    pub process_id: u32,
    /// Since when it runs.
    pub started_at: String,
    /// Whether it is about to stop.
    pub draining: bool,
    /// What it waits for until it stops; nothing while it goes on.
    #[serde(default)]
    pub stopping: Option<Draining>,
    /// Whether a former process of this agent, which handed over to this one, still finishes its calls.
    #[serde(default)]
    pub has_former_process: bool,
    /// The level of the log.
    pub log_level: String,
    /// `ok`, `warning` or `critical`: the worst of `conditions`.
    #[serde(default)]
    pub health: String,
    /// What is the matter, the worst first.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Every connection, by name.
    pub connections: Vec<ConnectionStatus>,
    /// Every upstream, in the order of the configuration.
    pub upstreams: Vec<UpstreamStatus>,
    /// The audit log; nothing where there is none.
    #[serde(default)]
    pub audit: Option<AuditStatus>,
    /// The configuration that was looked at last, if it is not in force.
    #[serde(default)]
    pub refused_configuration: Option<RefusedConfiguration>,
    /// A configuration that takes something away, until its files have settled.
    #[serde(default)]
    pub withheld_configuration: Option<WithheldConfiguration>,
    /// Upstreams that are gone because files changed, until somebody asks for a reload.
    #[serde(default)]
    pub withdrawn_upstreams: Option<WithdrawnUpstreams>,
    /// The directories that the agent writes to, and the room there is.
    #[serde(default)]
    pub disks: Vec<Room>,
    /// Those of them whose disk does not answer.
    #[serde(default)]
    pub silent_disks: Vec<Silent>,
}

/// A configuration that cannot be put into force; the one before it still is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedConfiguration {
    /// When it was looked at.
    pub at: String,
    /// Every mistake, with file, key and remedy.
    pub why: String,
}

/// A configuration that is put into force once its files have settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldConfiguration {
    /// When it was first looked at.
    pub at: String,
    /// What it takes away, in words.
    pub what: String,
}

/// Upstreams that are gone because files changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawnUpstreams {
    /// When.
    pub at: String,
    /// Their names.
    pub names: Vec<String>,
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatus {
    /// Whether it can be written. No call is taken while it cannot.
    pub writable: bool,
    /// Since when it cannot be written.
    pub since: Option<String>,
    /// Why it cannot be written, and what to do.
    pub why: Option<String>,
    /// The number of its last line.
    pub line: u64,
    /// The hash of its last line: by it one sees whether lines were cut off the end.
    pub hash: Option<String>,
    /// Calls refused since the start because it could not be written.
    pub refused: u64,
    /// Lines that wait to be written.
    pub waiting: usize,
    /// Lines that a further target did not take since the start. The file has them.
    pub not_sent: u64,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Its name; of a damaged record, its id.
    pub name: String,
    /// Its id.
    pub connection: String,
    /// Short name of the public side.
    pub public_side: String,
    /// Short name of this side.
    pub private_side: String,
    /// Where the relay is.
    pub relay_url: String,
    /// This side's project for the incoming synchronisation.
    pub project: Option<String>,
    /// Whether calls pass.
    pub state: ConnectionState,
    /// Whether this side deactivated it.
    pub deactivated_here: bool,
    /// Whether the public side deactivated it, as far as it has told.
    pub deactivated_there: bool,
    /// The link.
    pub link: LinkStatus,
    /// The identity key; nothing before the first link since the start.
    #[serde(default)]
    pub key: Option<KeyStatus>,
}

/// Whether calls of a connection pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    /// They pass while the link is up.
    Active,
    /// One side, or both, deactivated it.
    Deactivated,
    /// It was removed here, and the relay has not been told yet.
    Removing,
    /// The relay refused it for good.
    Ended,
    /// Its record cannot be read.
    Damaged,
}

impl RefusedConfiguration {
    /// The snapshot of what a reload refused last.
    #[must_use]
    pub fn of(refused: Refused) -> Self {
        Self {
            at: text_of(refused.at),
            why: refused.why,
        }
    }
}

impl WithheldConfiguration {
    /// The snapshot of what a reload withholds.
    #[must_use]
    pub fn of(withheld: Withheld) -> Self {
        Self {
            at: text_of(withheld.at),
            what: withheld.withdrawal.to_string(),
        }
    }
}

impl WithdrawnUpstreams {
    /// The snapshot of what files took away.
    #[must_use]
    pub fn of(withdrawn: Withdrawn) -> Self {
        Self {
            at: text_of(withdrawn.at),
            names: withdrawn.upstreams,
        }
    }
}

impl AuditStatus {
    /// The snapshot of the log that these calls are written to.
    #[must_use]
    pub fn of(calls: &Calls) -> Option<Self> {
        let health = calls.audit().health()?;
        let trouble = health.trouble;
        Some(Self {
            writable: trouble.is_none(),
            since: trouble.as_ref().map(|trouble| text_of(trouble.since)),
            why: trouble.map(|trouble| trouble.why),
            line: health.head.map_or(0, |head| head.sequence),
            hash: health.head.map(|head| head.hash.to_string()),
            refused: health.refused,
            waiting: health.waiting,
            not_sent: health.not_sent,
        })
    }
}

impl ConnectionStatus {
    /// The snapshot of a connection whose record can be read.
    #[must_use]
    pub fn of(record: &ConnectionRecord, phase: &Phase, facts: &LinkFacts) -> Self {
        Self {
            name: record.name.to_string(),
            connection: record.connection.to_string(),
            public_side: record.public_side.to_string(),
            private_side: record.private_side.to_string(),
            relay_url: record.relay_url.to_string(),
            project: record.project.clone(),
            state: match record.standing {
                Standing::Kept if record.deactivated || facts.deactivated_there => {
                    ConnectionState::Deactivated
                }
                Standing::Kept => ConnectionState::Active,
                Standing::RemovedHere => ConnectionState::Removing,
                Standing::Ended { .. } => ConnectionState::Ended,
            },
            deactivated_here: record.deactivated,
            deactivated_there: facts.deactivated_there,
            link: LinkStatus::of(phase, facts),
            key: facts.key.as_ref().map(KeyStatus::of),
        }
    }

    /// The snapshot of a connection whose record cannot be read.
    #[must_use]
    pub fn of_damaged(damaged: &Damaged) -> Self {
        let id = damaged.connection.to_string();
        Self {
            name: id.clone(),
            connection: id,
            public_side: "unknown".to_owned(),
            private_side: "unknown".to_owned(),
            relay_url: "unknown".to_owned(),
            project: None,
            state: ConnectionState::Damaged,
            deactivated_here: false,
            deactivated_there: false,
            link: LinkStatus {
                status: "unknown".to_owned(),
                why: Some(error_chain::chain(&damaged.error).to_string()),
                ..LinkStatus::default()
            },
            key: None,
        }
    }
}

impl ConnectionState {
    /// The word of the format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Removing => "removing",
            Self::Ended => "ended",
            Self::Damaged => "damaged",
        }
    }
}

/// A time as the format writes it.
#[must_use]
pub fn text_of(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::state::tests::example;

    #[test]
    fn either_side_deactivates_and_both_must_activate() {
        let mut record = example("acme_to_widgets");
        let mut facts = LinkFacts::default();
        let mut state = |here, there| {
            record.deactivated = here;
            facts.deactivated_there = there;
            ConnectionStatus::of(&record, &Phase::begin(), &facts).state
        };
        assert_eq!(state(false, false), ConnectionState::Active);
        assert_eq!(state(true, false), ConnectionState::Deactivated);
        assert_eq!(state(false, true), ConnectionState::Deactivated);
        assert_eq!(state(true, true), ConnectionState::Deactivated);
    }

    #[test]
    fn the_format_is_the_one_that_scripts_rely_on() {
        let record = ConnectionRecord {
            connection: crate::identity::ConnectionId::from_bytes([7; 16]),
            ..example("acme_to_widgets")
        };
        let facts = LinkFacts {
            last_seen: Some(SystemTime::UNIX_EPOCH),
            links_made: 2,
            relay_software: Some("relay-agent/0.1.0".to_owned()),
            clock_ahead: Some(-3),
            ..LinkFacts::default()
        };
        let phase = Phase::Online {
            since: SystemTime::UNIX_EPOCH,
        };
        let status = ConnectionStatus::of(&record, &phase, &facts);
        let crossed_nothing = serde_json::json!({
            "bytes_sent": 0,
            "bytes_received": 0,
            "frames_sent": 0,
            "frames_received": 0,
            "unacknowledged": 0,
        });
        assert_eq!(
            serde_json::to_value(&status).unwrap(),
            serde_json::json!({
                "name": "acme_to_widgets",
                "connection": "c_BwcHBwcHBwcHBwcHBwcHBw",
                "public_side": "acme",
                "private_side": "widgets",
                "relay_url": "https://relay.example.com:8443",
                "project": "SYNC",
                "state": "active",
                "deactivated_here": false,
                "deactivated_there": false,
                "link": {
                    "status": "online",
                    "since": "1970-01-01T00:00:00Z",
                    "last_seen": "1970-01-01T00:00:00Z",
                    "why": null,
                    "trouble": null,
                    "remedy": null,
                    "ended_at": null,
                    "doubtful": false,
                    "next_dial_at": null,
                    "failures": 0,
                    "links_made": 2,
                    "resumed": 0,
                    "last_cut": null,
                    "duplicate": null,
                    "relay_software": "relay-agent/0.1.0",
                    "clock_ahead": -3,
                    "round_trip_us": null,
                    "reconnects": {},
                    "inward": crossed_nothing,
                    "outward": crossed_nothing,
                },
                "key": null,
            })
        );
    }
}
