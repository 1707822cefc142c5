//! The states of one connection's link task and the legal moves between them.
//!
//! Pure: takes what happened and the time it happened at, returns the next state. Never waits,
//! dials, writes or logs; [`crate::agent::link_task`] does, and shows this state to people.
//!
//! ```text
//!              LinkMade                  LinkEnded, DialFailed
//!  Dialling ─────────────► Online      Dialling/Online ─────────► Waiting ──WaitOver──► Dialling
//!  Online ──PathLost──► Resuming ──Resumed, LinkMade──► Online       Resuming ──LinkEnded──► Waiting
//!  any living state ──Refused──► Ended        any living state ──Stopping──► Stopped
//! ```

use std::time::{Duration, SystemTime};

/// Where the link of one connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// On the way through DNS, proxy, TCP, TLS, WebSocket and handshake.
    Dialling {
        /// How many dials in a row have failed before this one.
        failures: u32,
    },
    /// The link is up.
    Online {
        /// Since when.
        since: SystemTime,
    },
    /// The link lost its WebSocket. Its session and the calls on it are kept while another is made.
    Resuming {
        /// Since when the link is up.
        since: SystemTime,
        /// When the next dial starts; nothing while one is under way.
        until: Option<SystemTime>,
        /// Why there is no WebSocket, for people.
        why: String,
        /// How many dials in a row have failed.
        failures: u32,
    },
    /// Between two dials.
    Waiting {
        /// When the next dial starts.
        until: SystemTime,
        /// Why there is no link, for people.
        why: String,
        /// How many dials in a row have failed.
        failures: u32,
    },
    /// The relay refused for good; nothing is dialled any more.
    Ended {
        /// Why, for people.
        why: String,
        /// When.
        at: SystemTime,
    },
    /// The daemon is stopping.
    Stopped,
}

/// What can happen to a link task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// The handshake succeeded: a new link.
    LinkMade,
    /// The WebSocket is gone; the link may go on over another.
    PathLost {
        /// Why, for people.
        why: String,
        /// Until the next dial.
        retry_in: Duration,
    },
    /// The link goes on over another WebSocket.
    Resumed,
    /// A dial failed; another may succeed.
    DialFailed {
        /// Why, for people.
        why: String,
        /// Until the next dial.
        retry_in: Duration,
    },
    /// A link that was up is gone; another may be made.
    LinkEnded {
        /// Why, for people.
        why: String,
        /// Until the next dial.
        retry_in: Duration,
    },
    /// The wait between two dials is over.
    WaitOver,
    /// The relay will never accept this connection again.
    Refused {
        /// Why, for people.
        why: String,
    },
    /// The daemon stops.
    Stopping,
}

/// A move that no correct caller makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{happening} cannot happen while the link is {phase}")]
pub struct IllegalMove {
    /// The state, in one word.
    pub phase: &'static str,
    /// What was said to have happened.
    pub happening: &'static str,
}

impl Phase {
    /// The state of a task that has just begun.
    #[must_use]
    pub const fn begin() -> Self {
        Self::Dialling { failures: 0 }
    }

    /// The state of a connection that the relay refused for good in an earlier run.
    #[must_use]
    pub const fn ended(why: String, at: SystemTime) -> Self {
        Self::Ended { why, at }
    }

    /// One word for people and scripts; part of the stable status format.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Dialling { failures: 0 } => "connecting",
            Self::Dialling { .. } | Self::Waiting { .. } | Self::Resuming { .. } => "reconnecting",
            Self::Online { .. } => "online",
            Self::Ended { .. } => "ended",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the link is neither up nor over: a dial is under way, or waited for.
    #[must_use]
    pub const fn is_without_path(&self) -> bool {
        match self {
            Self::Dialling { .. } | Self::Waiting { .. } | Self::Resuming { .. } => true,
            Self::Online { .. } | Self::Ended { .. } | Self::Stopped => false,
        }
    }

    /// Why there is no link, where that is known.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Waiting { why, .. } | Self::Resuming { why, .. } | Self::Ended { why, .. } => {
                Some(why)
            }
            Self::Dialling { .. } | Self::Online { .. } | Self::Stopped => None,
        }
    }

    /// The state after `happening` at `now`.
    ///
    /// # Errors
    /// [`IllegalMove`] when that cannot happen in this state; the state is then unchanged.
    pub fn after(&self, happening: Happening, now: SystemTime) -> Result<Self, IllegalMove> {
        let illegal = |happening| IllegalMove {
            phase: self.word(),
            happening,
        };
        match (self, happening) {
            (Self::Ended { .. } | Self::Stopped, Happening::Stopping) => Ok(Self::Stopped),
            (Self::Ended { .. } | Self::Stopped, other) => Err(illegal(other.word())),

            (
                Self::Dialling { .. } | Self::Online { .. } | Self::Resuming { .. },
                Happening::LinkMade,
            ) => Ok(Self::Online { since: now }),
            (Self::Dialling { failures }, Happening::DialFailed { why, retry_in }) => {
                Ok(Self::Waiting {
                    until: now + retry_in,
                    why,
                    failures: failures.saturating_add(1),
                })
            }
            (Self::Waiting { failures, .. }, Happening::WaitOver) => Ok(Self::Dialling {
                failures: *failures,
            }),

            (Self::Online { since }, Happening::PathLost { why, retry_in }) => Ok(Self::Resuming {
                since: *since,
                until: Some(now + retry_in),
                why,
                failures: 0,
            }),
            (
                Self::Resuming {
                    since, failures, ..
                },
                Happening::DialFailed { why, retry_in },
            ) => Ok(Self::Resuming {
                since: *since,
                until: Some(now + retry_in),
                why,
                failures: failures.saturating_add(1),
            }),
            (
                Self::Resuming {
                    since,
                    why,
                    failures,
                    until: _,
                },
                Happening::WaitOver,
            ) => Ok(Self::Resuming {
                since: *since,
                until: None,
                why: why.clone(),
                failures: *failures,
            }),
            (Self::Resuming { since, .. } | Self::Online { since }, Happening::Resumed) => {
                Ok(Self::Online { since: *since })
            }
            (
                Self::Online { .. } | Self::Resuming { .. },
                Happening::LinkEnded { why, retry_in },
            ) => Ok(Self::Waiting {
                until: now + retry_in,
                why,
                failures: 0,
            }),

            (
                Self::Dialling { .. }
                | Self::Online { .. }
                | Self::Resuming { .. }
                | Self::Waiting { .. },
                Happening::Refused { why },
            ) => Ok(Self::Ended { why, at: now }),
            (
                Self::Dialling { .. }
                | Self::Online { .. }
                | Self::Resuming { .. }
                | Self::Waiting { .. },
                Happening::Stopping,
            ) => Ok(Self::Stopped),

            (
                Self::Dialling { .. } | Self::Waiting { .. },
                Happening::LinkEnded { .. } | Happening::PathLost { .. } | Happening::Resumed,
            ) => Err(illegal("a change to a link that is not there")),
            (Self::Dialling { .. }, Happening::WaitOver) => Err(illegal("the end of a wait")),
            (Self::Online { .. }, Happening::DialFailed { .. } | Happening::WaitOver) => {
                Err(illegal("the result of a dial or of a wait"))
            }
            (Self::Waiting { .. }, Happening::LinkMade | Happening::DialFailed { .. }) => {
                Err(illegal("the result of a dial"))
            }
            (Self::Resuming { .. }, Happening::PathLost { .. }) => {
                Err(illegal("the loss of a path"))
            }
        }
    }
}

impl Happening {
    const fn word(&self) -> &'static str {
        match self {
            Self::LinkMade => "a new link",
            Self::PathLost { .. } => "the loss of a path",
            Self::Resumed => "a resumption",
            Self::DialFailed { .. } => "a failed dial",
            Self::LinkEnded { .. } => "the end of a link",
            Self::WaitOver => "the end of a wait",
            Self::Refused { .. } => "a refusal",
            Self::Stopping => "a stop",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn failed() -> Happening {
        Happening::DialFailed {
            why: "no route".to_owned(),
            retry_in: Duration::from_secs(3),
        }
    }

    fn lost() -> Happening {
        Happening::LinkEnded {
            why: "silence".to_owned(),
            retry_in: Duration::from_secs(1),
        }
    }

    fn refused() -> Happening {
        Happening::Refused {
            why: "removed".to_owned(),
        }
    }

    fn cut() -> Happening {
        Happening::PathLost {
            why: "cut".to_owned(),
            retry_in: Duration::from_secs(1),
        }
    }

    fn every_happening() -> [Happening; 8] {
        [
            Happening::LinkMade,
            cut(),
            Happening::Resumed,
            failed(),
            lost(),
            Happening::WaitOver,
            refused(),
            Happening::Stopping,
        ]
    }

    fn walk(happenings: &[Happening]) -> Phase {
        happenings.iter().fold(Phase::begin(), |phase, happening| {
            phase.after(happening.clone(), NOW).unwrap()
        })
    }

    #[test]
    fn a_failed_dial_is_waited_for_and_counted() {
        let phase = walk(&[failed(), Happening::WaitOver, failed()]);
        let Phase::Waiting {
            until,
            why,
            failures,
        } = phase
        else {
            panic!("{phase:?}");
        };
        assert_eq!(until, NOW + Duration::from_secs(3));
        assert_eq!((why.as_str(), failures), ("no route", 2));
    }

    #[test]
    fn a_link_that_is_resumed_has_been_up_all_along() {
        let up = walk(&[Happening::LinkMade]);
        let resuming = walk(&[Happening::LinkMade, cut(), Happening::WaitOver, failed()]);
        assert!(matches!(resuming, Phase::Resuming { failures: 1, .. }));
        assert_eq!(
            (resuming.word(), resuming.why()),
            ("reconnecting", Some("no route"))
        );
        assert_eq!(resuming.after(Happening::Resumed, NOW).unwrap(), up);
        let ended = resuming.after(lost(), NOW).unwrap();
        assert!(matches!(ended, Phase::Waiting { failures: 0, .. }));
    }

    #[test]
    fn a_link_that_was_up_clears_the_count() {
        let phase = walk(&[failed(), Happening::WaitOver, Happening::LinkMade, lost()]);
        assert!(matches!(phase, Phase::Waiting { failures: 0, .. }));
        assert_eq!(phase.why(), Some("silence"));
    }

    #[test]
    fn a_refusal_ends_every_living_state_and_nothing_but_a_stop_follows() {
        for living in [
            walk(&[]),
            walk(&[Happening::LinkMade]),
            walk(&[failed()]),
            walk(&[failed(), Happening::WaitOver]),
        ] {
            let ended = living.after(refused(), NOW).unwrap();
            assert_eq!(ended.word(), "ended");
            assert_eq!(ended.why(), Some("removed"));
            for happening in every_happening() {
                let legal = happening == Happening::Stopping;
                assert_eq!(ended.after(happening, NOW).is_ok(), legal);
            }
        }
    }

    #[test]
    fn moves_that_skip_a_state_are_illegal_and_named() {
        let online = walk(&[Happening::LinkMade]);
        for happening in [failed(), Happening::WaitOver] {
            assert!(online.after(happening, NOW).is_err());
        }
        for happening in [lost(), cut(), Happening::Resumed, Happening::WaitOver] {
            assert!(Phase::begin().after(happening, NOW).is_err());
        }
        let waiting = walk(&[failed()]);
        for happening in [
            Happening::LinkMade,
            failed(),
            lost(),
            cut(),
            Happening::Resumed,
        ] {
            let error = waiting.after(happening, NOW).unwrap_err();
            assert_eq!(error.phase, "reconnecting");
        }
    }

    #[test]
    fn words_are_those_of_the_status_format() {
        assert_eq!(walk(&[]).word(), "connecting");
        assert_eq!(walk(&[failed()]).word(), "reconnecting");
        assert_eq!(
            walk(&[failed(), Happening::WaitOver]).word(),
            "reconnecting"
        );
        assert_eq!(walk(&[Happening::LinkMade]).word(), "online");
        assert_eq!(walk(&[Happening::Stopping]).word(), "stopped");
    }
}
