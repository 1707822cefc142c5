//! Why a relay does not let an agent redeem an invitation, as a problem document and back.
//!
//! The relay tells [`Expired`](RedeemRefusal::Expired), [`Used`](RedeemRefusal::Used), [`Revoked`](RedeemRefusal::Revoked) and
//! [`Removed`](RedeemRefusal::Removed) only to who proved to hold the invitation. What arrives is checked before it is shown: a
//! refusal is not signed, and may come from anything on the way.

use std::time::{Duration, UNIX_EPOCH};

use http::StatusCode;
use serde_json::Value;

use crate::problem::{ParsedProblem, Problem};

/// The last second of the year 9999; later times are shown as a number.
const LAST_SHOWN_SECOND: u64 = 253_402_300_799;
/// The longest fingerprint that is believed: ours have 19 characters.
const LONGEST_FINGERPRINT: usize = 64;

/// Why an invitation was not redeemed. Only [`TooMany`](Self::TooMany) is worth another try with the same code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedeemRefusal {
    /// The relay's clock is past the expiry.
    #[error("the invitation expired at {} by the public side's clock", time(*at))]
    Expired {
        /// The expiry, in seconds since 1970.
        at: u64,
    },
    /// Another agent was faster, or this machine redeemed it with a key that it no longer has.
    #[error("the invitation was already used, at {}, by the agent with the key {by}", time(*at))]
    Used {
        /// When, in seconds since 1970.
        at: u64,
        /// The fingerprint of that agent's key.
        by: String,
    },
    /// An administrator of the public side took it back or issued a new one instead.
    #[error("the invitation was revoked at {} by the public side", time(*at))]
    Revoked {
        /// When, in seconds since 1970.
        at: u64,
    },
    /// The connection is no more.
    #[error("the public side has removed the connection that the invitation was for")]
    Removed,
    /// This relay never issued it, or has forgotten it.
    #[error("the public side does not know this invitation")]
    Unknown,
    /// The request was not signed by the invitation's one-time key.
    #[error("the public side found that the request was not signed with this invitation")]
    BadProof,
    /// The relay is older than the agent and does not understand its request.
    #[error("the public side does not understand this agent's version of the request")]
    UnsupportedVersion,
    /// Too many attempts from the same place.
    #[error("the public side saw too many attempts; it asks to wait {} s", retry_after.as_secs())]
    TooMany {
        /// How long to wait.
        retry_after: Duration,
    },
}

impl RedeemRefusal {
    /// The word that programs go by.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "invitation-expired",
            Self::Used { .. } => "invitation-used",
            Self::Revoked { .. } => "invitation-revoked",
            Self::Removed => "connection-removed",
            Self::Unknown => "invitation-unknown",
            Self::BadProof => "invitation-bad-proof",
            Self::UnsupportedVersion => "unsupported-version",
            Self::TooMany { .. } => "too-many-attempts",
        }
    }

    /// The status of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Expired { .. } | Self::Revoked { .. } | Self::Removed => StatusCode::GONE,
            Self::Used { .. } => StatusCode::CONFLICT,
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::BadProof => StatusCode::FORBIDDEN,
            Self::UnsupportedVersion => StatusCode::BAD_REQUEST,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// The refusal as the relay sends it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let title = "the invitation was not redeemed";
        let problem = Problem::new(self.status(), self.code(), title).detail(self.to_string());
        match self {
            Self::Expired { at } | Self::Revoked { at } => problem.member("at", *at),
            Self::Used { at, by } => problem.member("at", *at).member("by", by.as_str()),
            Self::Removed | Self::Unknown | Self::BadProof | Self::UnsupportedVersion => problem,
            Self::TooMany { retry_after } => problem
                .member("retry_after", retry_after.as_secs())
                .retry_after(*retry_after),
        }
    }

    /// The refusal that a problem document stands for; `None` when it is about something else.
    #[must_use]
    pub fn from_problem(problem: &ParsedProblem) -> Option<Self> {
        let number = |name: &str| problem.members.get(name).and_then(Value::as_u64);
        match problem.code.as_str() {
            "invitation-expired" => Some(Self::Expired { at: number("at")? }),
            "invitation-used" => Some(Self::Used {
                at: number("at")?,
                by: problem
                    .members
                    .get("by")
                    .and_then(Value::as_str)
                    .filter(|by| is_fingerprint(by))?
                    .to_owned(),
            }),
            "invitation-revoked" => Some(Self::Revoked { at: number("at")? }),
            "connection-removed" => Some(Self::Removed),
            "invitation-unknown" => Some(Self::Unknown),
            "invitation-bad-proof" => Some(Self::BadProof),
            "unsupported-version" => Some(Self::UnsupportedVersion),
            "too-many-attempts" => Some(Self::TooMany {
                retry_after: Duration::from_secs(number("retry_after")?),
            }),
            _ => None,
        }
    }
}

fn is_fingerprint(text: &str) -> bool {
    text.len() <= LONGEST_FINGERPRINT
        && text
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// A time as people write it, in UTC.
fn time(seconds: u64) -> String {
    if seconds > LAST_SHOWN_SECOND {
        return format!("second {seconds}");
    }
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::problem;

    #[tokio::test]
    async fn every_refusal_survives_the_way_and_has_a_code_of_its_own() {
        let refusals = [
            RedeemRefusal::Expired { at: 1_790_000_000 },
            RedeemRefusal::Used {
                at: 1,
                by: "0011-2233-4455-6677".to_owned(),
            },
            RedeemRefusal::Revoked { at: u64::MAX },
            RedeemRefusal::Removed,
            RedeemRefusal::Unknown,
            RedeemRefusal::BadProof,
            RedeemRefusal::UnsupportedVersion,
            RedeemRefusal::TooMany {
                retry_after: Duration::from_secs(30),
            },
        ];
        let mut codes = Vec::new();
        for refusal in refusals {
            let response = refusal.problem().into_response();
            assert_eq!(response.status(), refusal.status());
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let parsed = problem::parse(&bytes).unwrap();
            assert_eq!(parsed.detail, Some(refusal.to_string()));
            assert_eq!(RedeemRefusal::from_problem(&parsed), Some(refusal.clone()));
            codes.push(refusal.code());
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), 8);
    }

    #[test]
    fn times_are_shown_as_people_write_them() {
        assert_eq!(
            RedeemRefusal::Expired { at: 1_790_000_000 }.to_string(),
            "the invitation expired at 2026-09-21T14:13:20Z by the public side's clock"
        );
        assert_eq!(time(LAST_SHOWN_SECOND), "9999-12-31T23:59:59Z");
        assert_eq!(
            time(LAST_SHOWN_SECOND + 1),
            format!("second {}", LAST_SHOWN_SECOND + 1)
        );
    }

    #[test]
    fn what_is_no_refusal_or_would_misuse_a_terminal_is_not_taken_for_one() {
        for document in [
            r#"{"title":"x","type":"urn:relay-agent:problem:agent-offline"}"#,
            r#"{"title":"x","type":"urn:relay-agent:problem:invitation-expired"}"#,
            r#"{"title":"x","type":"urn:relay-agent:problem:invitation-expired","at":-1}"#,
            r#"{"title":"x","type":"urn:relay-agent:problem:invitation-used","at":1,"by":"\u001b[2J"}"#,
            r#"{"title":"x","type":"invitation-unknown"}"#,
        ] {
            let parsed = problem::parse(document.as_bytes()).unwrap();
            assert_eq!(RedeemRefusal::from_problem(&parsed), None, "{document}");
        }
    }
}
