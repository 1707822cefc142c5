//! The one map from what went wrong on the relay to what the caller is told.

use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::error_chain::chain;
use crate::link::http2::SendError;
use crate::problem::Problem;
use crate::relay::record::State;

/// When to try again while the agent redials: it does so within moments.
const RETRY_REDIAL_AFTER: Duration = Duration::from_secs(1);
/// When to try again while no agent is there: a restart of its machine takes about as long.
const RETRY_OFFLINE_AFTER: Duration = Duration::from_secs(30);
/// When to try again at a limit: calls end within about as long.
const RETRY_LIMIT_AFTER: Duration = Duration::from_secs(1);
/// When to try again at a relay that is about to stop: about as long as a restart takes.
const RETRY_DRAIN_AFTER: Duration = Duration::from_secs(5);

/// Why the relay itself answers a call.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No token was shown.
    NoToken,
    /// Several were shown, of which one program could take the first and another the last.
    SeveralTokens,
    /// Nobody's token.
    UnknownToken,
    /// The token is for another connection.
    OtherConnection,
    /// The path names no connection and upstream.
    NoTarget,
    /// No connection of this name.
    UnknownConnection,
    /// No upstream can have this name.
    UnknownUpstream,
    /// The connection's state lets no call pass.
    NotActive(State),
    /// The agent is not linked.
    Offline,
    /// The agent's link was lost a moment ago, or is just being set up.
    Reconnecting,
    /// The same, and so many calls wait for it already that no more may.
    TooManyWaiting(usize),
    /// The relay is about to stop.
    Draining,
    /// The connection has as many calls under way as it may have.
    TooManyCalls,
    /// The call has passed this relay before.
    Loop,
    /// CONNECT for something else than a WebSocket.
    NotSupported,
    /// An upgrade that is none, and why.
    BadWebsocket(&'static str),
    /// `Expect` with something else than `100-continue`.
    UnknownExpectation,
    /// The link gave no answer.
    Lane(SendError),
    /// The agent gave no answer.
    AnswerTimeout(Duration),
}

struct Answer {
    status: StatusCode,
    code: &'static str,
    /// An error type of RFC 9209, section 2.3.
    error: &'static str,
    title: &'static str,
    detail: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// The code of what the caller gets; the failure behind it, if the link failed; and what the caller gets.
    pub(super) fn into_answer(self) -> (&'static str, Option<String>, Response<Body>) {
        let is_unknown = matches!(
            self,
            Self::Lane(SendError::OutcomeUnknown(_)) | Self::AnswerTimeout(_)
        );
        let delivery = if is_unknown { "unknown" } else { "not-sent" };
        let failure = match &self {
            Self::Lane(error) => Some(chain(error).to_string()),
            Self::AnswerTimeout(limit) => {
                let limit = humantime::format_duration(*limit);
                Some(format!("the agent did not answer within {limit}"))
            }
            Self::NoToken
            | Self::SeveralTokens
            | Self::UnknownToken
            | Self::OtherConnection
            | Self::NoTarget
            | Self::UnknownConnection
            | Self::UnknownUpstream
            | Self::NotActive(_)
            | Self::Offline
            | Self::Reconnecting
            | Self::TooManyWaiting(_)
            | Self::Draining
            | Self::TooManyCalls
            | Self::Loop
            | Self::NotSupported
            | Self::BadWebsocket(_)
            | Self::UnknownExpectation => None,
        };
        let needs_token = matches!(self, Self::NoToken | Self::UnknownToken);
        let answer = self.answer();
        let code = answer.code;
        let mut problem = Problem::new(answer.status, code, answer.title)
            .proxy_status("relay", answer.error, &answer.detail)
            .detail(answer.detail)
            .member("delivery", delivery);
        if let Some(delay) = answer.retry_after {
            problem = problem.retry_after(delay);
        }
        let mut response = problem.into_response();
        if needs_token {
            let challenge = HeaderValue::from_static("Bearer realm=\"relay\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        (code, failure, response)
    }

    fn answer(self) -> Answer {
        use StatusCode as S;
        let denied = "http_request_denied";
        match self {
            Self::NoToken => answer(
                S::UNAUTHORIZED,
                "token-missing",
                denied,
                "A token is needed",
                "Show one as \"Relay-Authorization: Bearer rt_...\"; an administrator of the relay makes it with \"relay token create\".",
            ),
            Self::SeveralTokens => answer(
                S::BAD_REQUEST,
                "several-tokens",
                "http_request_error",
                "There are several tokens",
                "Show one, in one Relay-Authorization header.",
            ),
            Self::UnknownToken => answer(
                S::UNAUTHORIZED,
                "token-unknown",
                denied,
                "The token is not valid",
                "It was mistyped, revoked, or is of another relay.",
            ),
            Self::OtherConnection => answer(
                S::FORBIDDEN,
                "token-for-another-connection",
                denied,
                "The token does not open this connection",
                "It was made for one connection, and this is not it.",
            ),
            Self::NoTarget => answer(
                S::NOT_FOUND,
                "no-upstream-named",
                "destination_not_found",
                "The path names no upstream",
                "Call /c/{connection}/{upstream}/{path}.",
            ),
            Self::UnknownConnection => answer(
                S::NOT_FOUND,
                "unknown-connection",
                "destination_not_found",
                "There is no such connection",
                "The relay has no connection of this name.",
            ),
            Self::UnknownUpstream => answer(
                S::NOT_FOUND,
                "unknown-upstream",
                "destination_not_found",
                "There is no such upstream",
                "No upstream can have this name.",
            ),
            Self::NotActive(state) => Answer {
                status: S::CONFLICT,
                code: match state {
                    State::Pending => "connection-pending",
                    State::Deactivated(_) => "connection-deactivated",
                    State::Removed => "connection-removed",
                    State::Active => "connection-active",
                },
                error: denied,
                title: "The connection is not active",
                detail: match state {
                    State::Pending => "Its invitation has not been accepted yet.".to_owned(),
                    State::Deactivated(_) | State::Removed | State::Active => {
                        format!("The connection is {state}.")
                    }
                },
                retry_after: None,
            },
            Self::Offline => answer(
                S::SERVICE_UNAVAILABLE,
                "agent-offline",
                "destination_unavailable",
                "The agent is offline",
                "The private side's agent is not linked to this relay; the call was not sent.",
            )
            .retry(RETRY_OFFLINE_AFTER),
            Self::Reconnecting => answer(
                S::SERVICE_UNAVAILABLE,
                "agent-reconnecting",
                "destination_unavailable",
                "The agent is reconnecting",
                "The private side's agent has lost its link and is on its way back; the call was not sent.",
            )
            .retry(RETRY_REDIAL_AFTER),
            Self::TooManyWaiting(limit) => answer(
                S::SERVICE_UNAVAILABLE,
                "agent-reconnecting",
                "destination_unavailable",
                "The agent is reconnecting",
                &format!(
                    "The private side's agent has lost its link and is on its way back, and {limit} calls wait for it \
                     already (the relay's limits.waiting_calls_per_connection); the call was not sent."
                ),
            )
            .retry(RETRY_REDIAL_AFTER),
            Self::Draining => answer(
                S::SERVICE_UNAVAILABLE,
                "relay-draining",
                "destination_unavailable",
                "The relay is about to stop",
                "It takes no new calls; the call was not sent.",
            )
            .retry(RETRY_DRAIN_AFTER),
            Self::TooManyCalls => answer(
                S::TOO_MANY_REQUESTS,
                "too-many-calls",
                "connection_limit_reached",
                "The connection has too many calls under way",
                "The call was not sent.",
            )
            .retry(RETRY_LIMIT_AFTER),
            Self::Loop => answer(
                S::LOOP_DETECTED,
                "loop-detected",
                "proxy_loop_detected",
                "The call has passed this relay before",
                "An upstream of this connection leads back to the relay.",
            ),
            Self::NotSupported => answer(
                S::NOT_IMPLEMENTED,
                "connect-not-supported",
                denied,
                "CONNECT opens nothing but WebSockets",
                "Over HTTP/2, use extended CONNECT with the protocol \"websocket\".",
            ),
            Self::BadWebsocket(why) => answer(
                S::BAD_REQUEST,
                "bad-websocket",
                "http_request_error",
                "The upgrade to a WebSocket cannot be granted",
                why,
            ),
            Self::UnknownExpectation => answer(
                S::EXPECTATION_FAILED,
                "unknown-expectation",
                "http_request_error",
                "The relay does not know what the request expects",
                "Expect takes \"100-continue\" and nothing beside it; correct the client, or leave the header out.",
            ),
            Self::Lane(SendError::NotSent) => answer(
                S::SERVICE_UNAVAILABLE,
                "link-lost",
                "connection_terminated",
                "The agent's link was lost",
                "It was lost before the call was sent.",
            )
            .retry(RETRY_REDIAL_AFTER),
            Self::Lane(SendError::Refused) => answer(
                S::SERVICE_UNAVAILABLE,
                "agent-draining",
                "destination_unavailable",
                "The agent is about to stop",
                "It takes no new calls; the call was not processed.",
            )
            .retry(RETRY_DRAIN_AFTER),
            Self::Lane(SendError::OutcomeUnknown(_)) => answer(
                S::BAD_GATEWAY,
                "outcome-unknown",
                "connection_terminated",
                "What became of the call is unknown",
                "The agent's link was lost after the call was sent and before its answer came.",
            ),
            Self::AnswerTimeout(limit) => answer(
                S::GATEWAY_TIMEOUT,
                "answer-timeout",
                "http_response_timeout",
                "The agent did not answer in time",
                &format!(
                    "No answer came within the relay's own limit ({}).",
                    humantime::format_duration(limit)
                ),
            ),
        }
    }
}

fn answer(
    status: StatusCode,
    code: &'static str,
    error: &'static str,
    title: &'static str,
    detail: &str,
) -> Answer {
    Answer {
        status,
        code,
        error,
        title,
        detail: detail.to_owned(),
        retry_after: None,
    }
}

impl Answer {
    const fn retry(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}
