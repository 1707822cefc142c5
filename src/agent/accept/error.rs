//! Every way in which accepting an invitation can fail: its text, its code for programs, its remedy.
//!
//! The codes cross the admin socket, so that `agent accept` ends with the same exit code whether the
//! daemon redeems or it does so alone.

use std::borrow::Cow;

use http::StatusCode;

use crate::agent::advice;
use crate::agent::state::StateError;
use crate::error_chain;
use crate::identity::IdentityError;
use crate::invitation::InvitationError;
use crate::link::request::RequestError;
use crate::name::Name;
use crate::problem::Problem;
use crate::protocol::redeem::RedeemRefusal;

/// Why an invitation was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The code cannot be read.
    #[error(transparent)]
    Code(InvitationError),
    /// The relay was reached and said no.
    #[error(transparent)]
    Refused(RedeemRefusal),
    /// The answer was not signed by the identity in the invitation.
    #[error(
        "what answers at {url} is not the relay that issued the invitation: it could not sign with the relay's identity"
    )]
    WrongRelay {
        /// Where it answered.
        url: String,
    },
    /// Something answered that is no relay.
    #[error("what answers at {url} is not a relay: it said {status} and nothing that a relay says")]
    NotARelay {
        /// Where it answered.
        url: String,
        /// What it said.
        status: StatusCode,
    },
    /// The relay could not be reached, or its answer was lost: accepting again does no harm.
    #[error(transparent)]
    NotAsked(RequestError),
    /// Another connection has this name here.
    #[error("this agent already has another connection called {0}")]
    NameTaken(Name),
    /// This connection was removed here, and the relay has not been told yet.
    #[error(
        "the connection {0} was removed on this side, and the public side has not been told yet"
    )]
    RemovedHere(Name),
    /// The same invitation is being accepted by someone else.
    #[error("this invitation is just being accepted by another command")]
    UnderWay,
    /// Key or record could not be read or written.
    #[error("the connection could not be written down")]
    State(#[source] StateError),
    /// The machine gives no random bytes.
    #[error("no proof could be made")]
    Identity(#[source] IdentityError),
    /// The daemon is about to stop.
    #[error("the agent is stopping")]
    Stopping,
}

/// The kinds of failure that a program may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptCode {
    /// The code is damaged, mistyped or incomplete.
    Malformed,
    /// The code, or the relay, is of a version that this program does not know.
    UnsupportedVersion,
    /// Expired by the relay's clock.
    Expired,
    /// Redeemed by another agent.
    Used,
    /// Taken back by the public side.
    Revoked,
    /// The connection was removed on the public side.
    Removed,
    /// The relay does not know it.
    Unknown,
    /// The proof was not the invitation's.
    BadProof,
    /// Too many tries; later.
    TooMany,
    /// Not the relay that issued the code.
    WrongRelay,
    /// Not a relay at all.
    NotARelay,
    /// Not reached.
    Unreachable,
    /// The name is taken here.
    NameTaken,
    /// Removed here a moment ago.
    RemovedHere,
    /// Under way already.
    UnderWay,
    /// Could not be written.
    State,
    /// The machine is unfit.
    Internal,
    /// The daemon is stopping.
    Stopping,
}

impl AcceptCode {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Malformed,
        Self::UnsupportedVersion,
        Self::Expired,
        Self::Used,
        Self::Revoked,
        Self::Removed,
        Self::Unknown,
        Self::BadProof,
        Self::TooMany,
        Self::WrongRelay,
        Self::NotARelay,
        Self::Unreachable,
        Self::NameTaken,
        Self::RemovedHere,
        Self::UnderWay,
        Self::State,
        Self::Internal,
        Self::Stopping,
    ];

    /// The word that crosses the admin socket; stable.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "invitation-malformed",
            Self::UnsupportedVersion => "invitation-unsupported-version",
            Self::Expired => "invitation-expired",
            Self::Used => "invitation-used",
            Self::Revoked => "invitation-revoked",
            Self::Removed => "connection-removed",
            Self::Unknown => "invitation-unknown",
            Self::BadProof => "invitation-bad-proof",
            Self::TooMany => "too-many-attempts",
            Self::WrongRelay => "wrong-relay",
            Self::NotARelay => "not-a-relay",
            Self::Unreachable => "relay-unreachable",
            Self::NameTaken => "name-taken",
            Self::RemovedHere => "removed-here",
            Self::UnderWay => "already-under-way",
            Self::State => "state-not-writable",
            Self::Internal => "internal",
            Self::Stopping => "stopping",
        }
    }

    /// The code that a word stands for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }

    /// The status with which the admin socket answers.
    const fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::UnsupportedVersion => StatusCode::BAD_REQUEST,
            Self::Expired | Self::Used | Self::Revoked | Self::Removed | Self::Unknown => {
                StatusCode::GONE
            }
            Self::BadProof => StatusCode::FORBIDDEN,
            Self::TooMany | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Self::WrongRelay | Self::NotARelay | Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::NameTaken | Self::RemovedHere | Self::UnderWay => StatusCode::CONFLICT,
            Self::State | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl AcceptError {
    /// Whether the refusal may be about the key rather than the invitation: it was this connection's once, and
    /// was revoked, or another has taken its place.
    pub(super) const fn may_be_of_key(&self) -> bool {
        matches!(
            self,
            Self::Refused(RedeemRefusal::Revoked { .. } | RedeemRefusal::Used { .. })
        )
    }

    /// The kind of failure.
    #[must_use]
    pub const fn code(&self) -> AcceptCode {
        match self {
            Self::Code(InvitationError::UnsupportedVersion(_)) => AcceptCode::UnsupportedVersion,
            Self::Code(
                InvitationError::NotAnInvitation
                | InvitationError::Mistyped
                | InvitationError::StrangeCharacter { .. }
                | InvitationError::PieceMissing { .. }
                | InvitationError::TooLong { .. }
                | InvitationError::DamagedField { .. },
            ) => AcceptCode::Malformed,
            Self::Refused(refusal) => match refusal {
                RedeemRefusal::Expired { .. } => AcceptCode::Expired,
                RedeemRefusal::Used { .. } => AcceptCode::Used,
                RedeemRefusal::Revoked { .. } => AcceptCode::Revoked,
                RedeemRefusal::Removed => AcceptCode::Removed,
                RedeemRefusal::Unknown => AcceptCode::Unknown,
                RedeemRefusal::BadProof => AcceptCode::BadProof,
                RedeemRefusal::UnsupportedVersion => AcceptCode::UnsupportedVersion,
                RedeemRefusal::TooMany { .. } => AcceptCode::TooMany,
            },
            Self::WrongRelay { .. } => AcceptCode::WrongRelay,
            Self::NotARelay { .. } => AcceptCode::NotARelay,
            Self::NotAsked(_) => AcceptCode::Unreachable,
            Self::NameTaken(_) => AcceptCode::NameTaken,
            Self::RemovedHere(_) => AcceptCode::RemovedHere,
            Self::UnderWay => AcceptCode::UnderWay,
            Self::State(_) => AcceptCode::State,
            Self::Identity(_) => AcceptCode::Internal,
            Self::Stopping => AcceptCode::Stopping,
        }
    }

    /// What to do, in whole sentences; empty when the error's text says it already.
    #[must_use]
    pub fn remedy(&self) -> Cow<'static, str> {
        if let Self::NotAsked(error) = self {
            let advice = advice::on_request(error);
            return format!("{advice} Then run the same command again; nothing is lost.").into();
        }
        let remedy = match self.code() {
            AcceptCode::Malformed | AcceptCode::State => "",
            AcceptCode::UnsupportedVersion => {
                "Install the newest agent, or ask the public side which version it needs."
            }
            AcceptCode::Expired
            | AcceptCode::Revoked
            | AcceptCode::Unknown
            | AcceptCode::BadProof => {
                "Ask the public side's admin for a new code: relay invitation reissue NAME."
            }
            AcceptCode::Used => {
                "If that agent is not yours, tell the public side's admin at once. A used code is not made anew: ask the admin to remove the connection, initiate it again and send its code."
            }
            AcceptCode::Removed => {
                "Ask the public side's admin to initiate a new connection and accept its code."
            }
            AcceptCode::TooMany => "Wait a little and run the command again.",
            AcceptCode::WrongRelay => {
                "Do not go on: ask the public side's admin whether the relay was set up anew, and look for a proxy that answers in its place."
            }
            AcceptCode::NotARelay => {
                "Check that no proxy or load balancer answers in the relay's place, and that the relay runs."
            }
            AcceptCode::Unreachable => "Run the same command again; nothing is lost.",
            AcceptCode::NameTaken => {
                "Remove that connection (agent remove NAME), or ask the public side to initiate one with another --name."
            }
            AcceptCode::RemovedHere => {
                "Ask the public side's admin to initiate a new connection and accept its code."
            }
            AcceptCode::UnderWay => "Wait for it to end, then look at: agent connections.",
            AcceptCode::Internal => "Check that this machine's random number generator works.",
            AcceptCode::Stopping => {
                "Run the same command again when the agent is up; the invitation is not used up."
            }
        };
        Cow::Borrowed(remedy)
    }

    /// The answer of the admin socket.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let code = self.code();
        Problem::new(
            code.status(),
            code.as_str(),
            "the invitation was not accepted",
        )
        .detail(error_chain::chain(self).to_string())
        .member("remedy", self.remedy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_its_word() {
        for code in AcceptCode::ALL {
            assert_eq!(AcceptCode::parse(code.as_str()), Some(code));
        }
    }
}
