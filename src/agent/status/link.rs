//! The link of one connection in the status: where it stands, why it is not up, and what has crossed it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{KeyFacts, text_of};
use crate::agent::conditions::Trouble;
use crate::agent::lifecycle::Phase;
use crate::link::LinkHandle;
use crate::link::path::Path;
use crate::session::LaneTraffic;

/// The link of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinkStatus {
    /// `connecting`, `online`, `reconnecting`, `ended`, `stopped` or `unknown`.
    pub status: String,
    /// Since when it is up. A link that has lost its WebSocket and is kept has this, too.
    pub since: Option<String>,
    /// When the relay was last heard.
    pub last_seen: Option<String>,
    /// Why it is not online.
    pub why: Option<String>,
    /// The code of the condition that stands for the last dial that failed.
    #[serde(default)]
    pub trouble: Option<String>,
    /// What to do about it, where more is known than the table of conditions says.
    #[serde(default)]
    pub remedy: Option<String>,
    /// When the relay refused it for good.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// Whether it is online, and an answer of the relay is overdue.
    #[serde(default)]
    pub doubtful: bool,
    /// When the next dial starts.
    pub next_dial_at: Option<String>,
    /// Dials in a row that failed.
    pub failures: u32,
    /// Links made since the daemon started.
    pub links_made: u64,
    /// How often the link has gone on over another WebSocket since the daemon started.
    #[serde(default)]
    pub resumed: u64,
    /// How the last WebSocket was lost, also when the link goes on.
    #[serde(default)]
    pub last_cut: Option<Cut>,
    /// When another machine last came with this agent's identity.
    #[serde(default)]
    pub duplicate: Option<Duplicate>,
    /// What the relay calls itself.
    pub relay_software: Option<String>,
    /// By how many seconds the relay's clock was ahead of this machine's when the link was made.
    pub clock_ahead: Option<i64>,
    /// The time to the relay and back, smoothed, in microseconds.
    #[serde(default)]
    pub round_trip_us: Option<u64>,
    /// WebSockets lost, links ended and dials that failed since the daemon started, by reason.
    #[serde(default)]
    pub reconnects: BTreeMap<String, u64>,
    /// What has crossed the lane of calls into the private network.
    #[serde(default)]
    pub inward: Crossed,
    /// What has crossed the lane from the private network out.
    #[serde(default)]
    pub outward: Crossed,
}

/// What has crossed a lane since the daemon started, over all links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Crossed {
    /// Bytes sent, each counted once.
    pub bytes_sent: u64,
    /// Bytes received, each counted once.
    pub bytes_received: u64,
    /// Data frames sent, repeated ones among them.
    pub frames_sent: u64,
    /// Data frames received, repeated ones among them.
    pub frames_received: u64,
    /// Bytes sent that the relay has not acknowledged.
    pub unacknowledged: u64,
}

/// The loss of a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// When.
    pub at: String,
    /// Why, for people.
    pub why: String,
}

/// Another machine that has this agent's identity: a copy of its state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// When it last came to the relay, and was refused.
    pub at: String,
    /// Where it comes from, as the relay sees it.
    pub from: String,
}

/// What a link task knows beside its record and its phase.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkFacts {
    /// Whether the public side deactivated the connection, as far as it has told.
    pub deactivated_there: bool,
    /// When the relay was last heard.
    pub last_seen: Option<SystemTime>,
    /// What the last dial failed of, while there is no link since.
    pub trouble: Option<Trouble>,
    /// Links made since the daemon started.
    pub links_made: u64,
    /// How often the link has gone on over another WebSocket.
    pub resumed: u64,
    /// How the last WebSocket was lost.
    pub last_cut: Option<Cut>,
    /// Another machine with this agent's identity.
    pub duplicate: Option<Duplicate>,
    /// What the relay calls itself.
    pub relay_software: Option<String>,
    /// By how many seconds the relay's clock was ahead of this machine's when the link was made.
    pub clock_ahead: Option<i64>,
    /// The identity key.
    pub key: Option<KeyFacts>,
    /// Losses and failures by reason. The reasons are words of the code: a bounded set.
    pub reconnects: BTreeMap<&'static str, u64>,
    /// What has crossed the links before the one there is, inward and outward.
    pub crossed_before: [Crossed; 2],
}

impl LinkStatus {
    /// Whether the link is up.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.status == "online"
    }

    /// Whether it has lost its WebSocket and is kept, with the calls on it, until there is another.
    #[must_use]
    pub fn is_away(&self) -> bool {
        !self.is_online() && self.since.is_some()
    }

    /// Adds what only the live link itself knows.
    pub fn observe(&mut self, link: &LinkHandle, last_seen: SystemTime) {
        let stats = link.stats();
        self.last_seen = Some(text_of(last_seen));
        self.doubtful = *link.path().borrow() == Path::Doubtful;
        self.round_trip_us = u64::try_from(stats.round_trip.as_micros()).ok();
        let [inward, outward] = stats.traffic;
        self.inward.add(&inward);
        self.outward.add(&outward);
    }

    pub(super) fn of(phase: &Phase, facts: &LinkFacts) -> Self {
        let (since, next_dial_at, failures) = match phase {
            Phase::Online { since } => (Some(*since), None, 0),
            Phase::Resuming {
                since,
                until,
                failures,
                why: _,
            } => (Some(*since), *until, *failures),
            Phase::Waiting {
                until, failures, ..
            } => (None, Some(*until), *failures),
            Phase::Dialling { failures } => (None, None, *failures),
            Phase::Ended { .. } | Phase::Stopped => (None, None, 0),
        };
        let ended_at = match phase {
            Phase::Ended { at, .. } => Some(text_of(*at)),
            Phase::Dialling { .. }
            | Phase::Online { .. }
            | Phase::Resuming { .. }
            | Phase::Waiting { .. }
            | Phase::Stopped => None,
        };
        let trouble = facts.trouble.as_ref().filter(|_| phase.is_without_path());
        // While the next dial is under way, what the last one failed of.
        let why = phase
            .why()
            .or_else(|| trouble.map(|trouble| trouble.why.as_str()));
        let [inward, outward] = facts.crossed_before;
        let reconnects = facts.reconnects.iter();
        Self {
            status: phase.word().to_owned(),
            since: since.map(text_of),
            last_seen: facts.last_seen.map(text_of),
            why: why.map(str::to_owned),
            trouble: trouble.map(|trouble| trouble.code.kind().code.to_owned()),
            remedy: trouble.and_then(|trouble| trouble.remedy.clone()),
            ended_at,
            doubtful: false,
            next_dial_at: next_dial_at.map(text_of),
            failures,
            links_made: facts.links_made,
            resumed: facts.resumed,
            last_cut: facts.last_cut.clone(),
            duplicate: facts.duplicate.clone(),
            relay_software: facts.relay_software.clone(),
            clock_ahead: facts.clock_ahead,
            round_trip_us: None,
            reconnects: reconnects
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
            inward,
            outward,
        }
    }
}

impl LinkFacts {
    /// Counts a WebSocket lost, a link ended or a dial that failed.
    pub fn count(&mut self, reason: &'static str) {
        *self.reconnects.entry(reason).or_default() += 1;
    }

    /// Keeps what has crossed a link that is given up.
    pub fn keep_traffic(&mut self, link: &LinkHandle) {
        for (before, now) in self.crossed_before.iter_mut().zip(&link.stats().traffic) {
            before.add(now);
            before.unacknowledged = 0;
        }
    }
}

impl Crossed {
    fn add(&mut self, traffic: &LaneTraffic) {
        self.bytes_sent += traffic.bytes_sent;
        self.bytes_received += traffic.bytes_received;
        self.frames_sent += traffic.frames_sent;
        self.frames_received += traffic.frames_received;
        self.unacknowledged = traffic.unacknowledged;
    }
}
