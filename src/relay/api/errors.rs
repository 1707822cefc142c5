//! The one map from what went wrong to what a client reads: status, code, and what to do.
//!
//! In every problem document `title` says what kind of thing went wrong, `detail` what it was this
//! time, and `remedy` what to do. The relay's own trouble is logged in full here and told in one
//! sentence, for the details are the operator's and not the asker's.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};

use crate::error_chain::chain;
use crate::problem::Problem;
use crate::relay::connections::{ChangeError, RedeemError};

/// Why a request of the management API was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// No route has this path.
    #[error("there is nothing at this path")]
    NoSuchRoute,
    /// The path knows other methods.
    #[error("this path does not know this method")]
    MethodNotAllowed,
    /// The body or a part of the path cannot be used.
    #[error("the request cannot be used: {0}")]
    BadRequest(String),
    /// The body did not arrive in time.
    #[error("the request's body did not arrive in time")]
    TooSlow,
    /// No token came along.
    #[error("a token is missing")]
    NoToken,
    /// The token is nobody's.
    #[error("the token is not valid")]
    BadToken,
    /// The token is for calls.
    #[error("the token is for calls, not for management")]
    NotAnAdmin,
    /// Asked over the network, and only the machine's own admins may.
    #[error("this is for the admin socket only")]
    LocalOnly,
    /// A change that was not made.
    #[error("the change was not made")]
    Change(#[source] ChangeError),
    /// A redemption that was not accepted.
    #[error("the invitation was not redeemed")]
    Redeem(#[source] RedeemError),
    /// The relay's own trouble.
    #[error("the relay is not ready: {0}")]
    NotReady(&'static str),
}

impl ApiError {
    fn problem(&self) -> Problem {
        let told = |status, code, title: &'static str, remedy: &'static str| {
            let problem = Problem::new(status, code, title).detail(self.to_string());
            match remedy {
                "" => problem,
                remedy => problem.member("remedy", remedy),
            }
        };
        match self {
            Self::NoSuchRoute => told(
                StatusCode::NOT_FOUND,
                "not-found",
                "not found",
                "Calls begin with /c/{connection}/{upstream}/, management with /v1/.",
            ),
            Self::MethodNotAllowed => told(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "method not allowed",
                "",
            ),
            Self::BadRequest(_) => told(StatusCode::BAD_REQUEST, "bad-request", "bad request", ""),
            Self::TooSlow => told(StatusCode::REQUEST_TIMEOUT, "too-slow", "too slow", ""),
            Self::NoToken => told(
                StatusCode::UNAUTHORIZED,
                "no-token",
                "not authenticated",
                "Send Relay-Authorization: Bearer rt_…; `relay token create --admin` makes one.",
            ),
            Self::BadToken => told(
                StatusCode::UNAUTHORIZED,
                "bad-token",
                "not authenticated",
                "It may have been revoked; `relay token list` shows those that are valid.",
            ),
            Self::NotAnAdmin => told(
                StatusCode::FORBIDDEN,
                "not-an-admin",
                "not permitted",
                "Management needs a token made with `relay token create --admin`.",
            ),
            Self::LocalOnly => told(
                StatusCode::FORBIDDEN,
                "local-only",
                "not permitted",
                "Use the relay's command on its own machine.",
            ),
            Self::Change(error) | Self::Redeem(RedeemError::Failed(error)) => change(error),
            Self::Redeem(RedeemError::Refused(reason)) => reason.problem(),
            Self::NotReady(_) => told(
                StatusCode::SERVICE_UNAVAILABLE,
                "not-ready",
                "not ready",
                "",
            ),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let challenge = matches!(self, Self::NoToken | Self::BadToken);
        let mut response = self.problem().into_response().map(axum::body::Body::new);
        if challenge {
            let value = HeaderValue::from_static("Bearer realm=\"relay\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, value);
        }
        response
    }
}

fn change(error: &ChangeError) -> Problem {
    let told = |status, code, title: &'static str, remedy: &'static str| {
        Problem::new(status, code, title)
            .detail(chain(error).to_string())
            .member("remedy", remedy)
    };
    match error {
        ChangeError::UnknownConnection(_) => told(
            StatusCode::NOT_FOUND,
            "unknown-connection",
            "unknown connection",
            "`relay connections` lists those that there are.",
        ),
        ChangeError::UnknownToken(_) => told(
            StatusCode::NOT_FOUND,
            "unknown-token",
            "unknown token",
            "`relay token list` lists those that there are.",
        ),
        ChangeError::NameTaken(_) => told(
            StatusCode::CONFLICT,
            "name-taken",
            "the name is taken",
            "Choose another name with --name, or remove that connection first.",
        ),
        ChangeError::DefaultName(_) => told(
            StatusCode::BAD_REQUEST,
            "bad-name",
            "the name cannot be used",
            "Choose a name with --name.",
        ),
        ChangeError::AlreadyAccepted { .. } => told(
            StatusCode::CONFLICT,
            "already-accepted",
            "already accepted",
            "Its code is used up, and no other agent can take its place. To let another agent in, \
             `relay revoke` this one first; to stop it for a while, deactivate it.",
        ),
        ChangeError::NotAccepted(_) => told(
            StatusCode::CONFLICT,
            "not-accepted",
            "not accepted yet",
            "There is no agent to be cut off; `relay invitation revoke` makes its code worthless.",
        ),
        ChangeError::RemovedByFarSide(_) => told(
            StatusCode::CONFLICT,
            "removed-by-far-side",
            "removed by the far side",
            "Remove it here as well, and initiate a new one to connect again.",
        ),
        ChangeError::Store(_) | ChangeError::Identity(_) => {
            tracing::error!(error = %chain(error), "a change failed");
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "store-failed",
                "the relay failed",
            )
            .detail("the relay could not store the change, and nothing was changed")
            .member("remedy", "The relay's log says why; try again afterwards.")
            .retry_after(Duration::from_secs(5))
        }
    }
}
