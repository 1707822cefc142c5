//! `[link]`: how long links are kept without a WebSocket, and when agents are asked to move.

use std::time::Duration;

use super::{DAY, SECOND};
use crate::config_file::Section;

/// `[link]`.
#[derive(Debug, Clone, Copy)]
pub struct LinkConfig {
    /// How long a link without a WebSocket is kept for its agent to come back.
    pub resume_window: Duration,
    /// How long a call waits for an agent that is on its way back.
    pub call_wait: Duration,
    /// After how long an agent is asked to dial a new WebSocket; zero for never.
    pub max_age: Duration,
    /// When agents are asked to move to another relay process before this one stops.
    pub handover: Handover,
    /// How long they get for it, where the next process keeps up with them.
    pub handover_time: Duration,
}

/// When a relay that is about to stop asks its agents to move to another relay process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// When another process listens on the same address.
    SamePort,
    /// Always: a load balancer leads new connections to another process.
    Always,
    /// Never: links are closed, and agents redial.
    Never,
}

impl Handover {
    const CHOICES: [(&'static str, Self); 3] = [
        ("same-port", Self::SamePort),
        ("always", Self::Always),
        ("never", Self::Never),
    ];
}

impl LinkConfig {
    pub(super) fn check(mut section: Section<'_>) -> Self {
        let default = Self::default();
        let most = 10 * 60 * SECOND;
        Self {
            resume_window: section.duration(
                "resume_window",
                default.resume_window,
                Duration::ZERO..=most,
            ),
            call_wait: section.duration("call_wait", default.call_wait, Duration::ZERO..=most),
            max_age: section.duration("max_age", default.max_age, Duration::ZERO..=365 * DAY),
            handover: section.choice("handover", &Handover::CHOICES, default.handover),
            handover_time: section.duration("handover_time", default.handover_time, SECOND..=most),
        }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            // A restarted proxy or router is back within it; calls under way hold their memory meanwhile.
            resume_window: Duration::from_secs(120),
            // Shorter than callers' own time-outs, longer than an agent takes to notice a dead path and redial.
            call_wait: Duration::from_secs(15),
            // Every agent checks the certificate and makes new TLS keys once a day.
            max_age: DAY,
            handover: Handover::SamePort,
            // A few thousand agents make their handshakes in it; below drain_timeout.
            handover_time: Duration::from_secs(10),
        }
    }
}
