//! The one map from what went wrong on the agent to what the caller is told.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode};

use super::gathering::GatherError;
use super::quota::QuotaError;
use crate::agent::addresses::ReachError;
use crate::agent::audit::{Decision, End, Finish, Outcome};
use crate::agent::credentials::CredentialError;
use crate::agent::metrics::upstream::DenialKind;
use crate::agent::policy::{Denial, Denied};
use crate::agent::upstream::{ConnectError, UpstreamError};
use crate::body::Body;
use crate::body::capped::TooLong;
use crate::forwarding::RELAY_ERROR;
use crate::link::tls::TlsError;
use crate::problem::Problem;

/// When to try again at an upstream that is busy: calls take about as long.
const RETRY_BUSY_AFTER: Duration = Duration::from_secs(1);
/// When to try again while the audit log cannot be written: it is tried at least that often.
const RETRY_UNRECORDED_AFTER: Duration = Duration::from_secs(5);
/// The member of a problem document that tells whether the call may be repeated without harm.
const DELIVERY: &str = "delivery";

/// Why the agent itself answers a call.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The connection is deactivated.
    Deactivated,
    /// No rule allows it.
    Denied(Denial),
    /// CONNECT for something else than a WebSocket.
    NotSupported,
    /// The call has been here before.
    Loop,
    /// The body that a rule looks at is not to be had.
    Gather(GatherError),
    /// Its rule takes no further call now.
    Quota(QuotaError),
    /// The body is longer than its rule allows.
    BodyTooLong(TooLong, Delivery),
    /// The upstream's answer is longer than the rule allows.
    AnswerTooLong(TooLong),
    /// Not with its credentials.
    Credential(CredentialError),
    /// The upstream gave no answer.
    Upstream(UpstreamError),
    /// It cannot be written down.
    Unrecorded(Delivery),
}

/// Whether the upstream may have seen the call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Delivery {
    /// It has not.
    NotSent,
    /// It may have.
    Unknown,
}

impl Refusal {
    /// The status of what the caller gets.
    pub(super) fn status(&self) -> StatusCode {
        let (status, _, _, _, _) = self.answer();
        status
    }

    /// The code of the problem document.
    pub(super) fn code(&self) -> &'static str {
        let (_, code, _, _, _) = self.answer();
        code
    }

    /// Whether the upstream may have seen the call.
    pub(super) fn delivery(&self) -> Delivery {
        let (_, _, delivery, _, _) = self.answer();
        delivery
    }

    /// What the audit log tells of it.
    pub(super) fn end(&self) -> End {
        let (status, code, delivery, _, _) = self.answer();
        let (decision, detail, rule) = match self {
            Self::Denied(denial) => {
                let rule = denial.rule_name().map(Box::from);
                (Decision::Denied, Some(denial.reason.to_string()), rule)
            }
            Self::Credential(error @ CredentialError::OwnParameter(_)) => {
                (Decision::Denied, Some(error.to_string()), None)
            }
            Self::Upstream(UpstreamError::Busy(_))
            | Self::Deactivated
            | Self::NotSupported
            | Self::Loop
            | Self::Credential(_)
            | Self::Gather(_)
            | Self::Quota(_)
            | Self::BodyTooLong(_, Delivery::NotSent)
            | Self::Unrecorded(_) => (Decision::Refused, None, None),
            // What it answered, in place of which the caller gets this.
            Self::Upstream(error @ UpstreamError::UnaskedSwitch) => {
                (Decision::Allowed, Some(error.to_string()), None)
            }
            Self::BodyTooLong(_, Delivery::Unknown)
            | Self::AnswerTooLong(_)
            | Self::Upstream(_) => (Decision::Allowed, None, None),
        };
        End {
            decision,
            reason: Some(code),
            detail,
            rule,
            status: Some(status),
            outcome: match delivery {
                Delivery::NotSent => Outcome::Known,
                Delivery::Unknown => Outcome::Unknown,
            },
            finish: Finish::Whole,
        }
    }

    /// What the caller gets.
    pub(super) fn into_response(self) -> Response<Body> {
        let (status, code, delivery, error, title) = self.answer();
        let detail = match &self {
            Self::Denied(denial) => denial.reason.to_string(),
            Self::Credential(error @ CredentialError::OwnParameter(_)) => error.to_string(),
            Self::Gather(error) => error.to_string(),
            Self::Quota(error) => error.to_string(),
            Self::BodyTooLong(error, _) | Self::AnswerTooLong(error) => error.to_string(),
            Self::Upstream(error) => error.to_string(),
            Self::Deactivated
            | Self::NotSupported
            | Self::Loop
            | Self::Credential(_)
            | Self::Unrecorded(_) => title.to_owned(),
        };
        let delivery = match delivery {
            Delivery::NotSent => "not-sent",
            Delivery::Unknown => "unknown",
        };
        let mut problem = Problem::new(status, code, title)
            .proxy_status("agent", error, &detail)
            .detail(detail)
            .member(DELIVERY, delivery);
        match (status, &self) {
            (_, Self::Quota(QuotaError::Rate(wait))) => problem = problem.retry_after(*wait),
            (StatusCode::TOO_MANY_REQUESTS, _) => problem = problem.retry_after(RETRY_BUSY_AFTER),
            (_, Self::Unrecorded(_)) => problem = problem.retry_after(RETRY_UNRECORDED_AFTER),
            _ => {}
        }
        let mut response = problem.into_response();
        let code = HeaderValue::from_static(code);
        response.headers_mut().insert(RELAY_ERROR, code);
        if let Some(kind) = self.denial() {
            response.extensions_mut().insert(DenialKind(kind));
        }
        response
    }

    /// The kind of denial, if it is one.
    fn denial(&self) -> Option<&'static str> {
        match self {
            Self::Denied(denial) => Some(denial.reason.word()),
            Self::Credential(CredentialError::OwnParameter(_)) => Some("own-parameter"),
            Self::Deactivated
            | Self::NotSupported
            | Self::Loop
            | Self::Gather(_)
            | Self::Quota(_)
            | Self::BodyTooLong(..)
            | Self::AnswerTooLong(_)
            | Self::Credential(_)
            | Self::Upstream(_)
            | Self::Unrecorded(_) => None,
        }
    }

    fn answer(&self) -> Answer {
        use Delivery::NotSent;
        use StatusCode as S;
        match self {
            Self::Deactivated => (
                S::CONFLICT,
                "connection-deactivated",
                NotSent,
                "http_request_denied",
                "The connection is deactivated",
            ),
            Self::Denied(Denial {
                reason: Denied::UnknownUpstream,
                ..
            }) => (
                S::NOT_FOUND,
                "unknown-upstream",
                NotSent,
                "destination_not_found",
                "The private side has no such upstream",
            ),
            Self::Denied(_) => (
                S::FORBIDDEN,
                "denied-by-policy",
                NotSent,
                "http_request_denied",
                "The private side does not allow this call",
            ),
            Self::Credential(CredentialError::OwnParameter(_)) => (
                S::FORBIDDEN,
                "denied-by-policy",
                NotSent,
                "http_request_denied",
                "The private side does not allow this call",
            ),
            Self::NotSupported => (
                S::NOT_IMPLEMENTED,
                "connect-not-supported",
                NotSent,
                "http_request_denied",
                "CONNECT opens nothing but WebSockets",
            ),
            Self::Loop => (
                S::LOOP_DETECTED,
                "loop-detected",
                NotSent,
                "proxy_loop_detected",
                "The call has passed this agent before",
            ),
            Self::Credential(_) => (
                S::BAD_GATEWAY,
                "credential-unavailable",
                NotSent,
                "proxy_configuration_error",
                "The private side cannot read a credential that this upstream needs",
            ),
            Self::Gather(error) => gather(error),
            Self::Quota(QuotaError::InFlight) => (
                S::TOO_MANY_REQUESTS,
                "rule-busy",
                NotSent,
                "connection_limit_reached",
                "The private side takes no more such calls at a time",
            ),
            Self::Quota(QuotaError::Rate(_)) => (
                S::TOO_MANY_REQUESTS,
                "rate-limited",
                NotSent,
                "http_request_denied",
                "The private side takes such calls less often",
            ),
            Self::BodyTooLong(_, delivery) => (
                S::PAYLOAD_TOO_LARGE,
                "body-too-long",
                *delivery,
                "http_request_error",
                "The private side does not let such calls have so long a body",
            ),
            Self::AnswerTooLong(_) => (
                S::BAD_GATEWAY,
                "answer-too-long",
                Delivery::Unknown,
                "http_response_body_size",
                "The upstream's answer is longer than the private side lets it be",
            ),
            Self::Upstream(error) => upstream(error),
            Self::Unrecorded(delivery) => (
                S::SERVICE_UNAVAILABLE,
                "audit-unavailable",
                *delivery,
                "proxy_internal_error",
                "The private side cannot write its audit log, and takes no call until it can",
            ),
        }
    }
}

type Answer = (
    StatusCode,
    &'static str,
    Delivery,
    &'static str,
    &'static str,
);

const fn gather(error: &GatherError) -> Answer {
    use Delivery::NotSent;
    use StatusCode as S;
    match error {
        GatherError::NoRoom => (
            S::TOO_MANY_REQUESTS,
            "too-many-bodies",
            NotSent,
            "connection_limit_reached",
            "The private side looks at as many bodies as it has room for",
        ),
        GatherError::Late => (
            S::REQUEST_TIMEOUT,
            "body-timeout",
            NotSent,
            "http_request_error",
            "The body, at which the private side looks, did not come in time",
        ),
        GatherError::Broken(_) => (
            S::BAD_REQUEST,
            "body-broken-off",
            NotSent,
            "http_request_error",
            "The body broke off before the private side could look at it",
        ),
    }
}

fn upstream(error: &UpstreamError) -> Answer {
    use Delivery::{NotSent, Unknown};
    use StatusCode as S;
    match error {
        UpstreamError::Unknown => (
            S::NOT_FOUND,
            "unknown-upstream",
            NotSent,
            "destination_not_found",
            "The private side has no such upstream",
        ),
        UpstreamError::Busy(_) => (
            S::TOO_MANY_REQUESTS,
            "upstream-busy",
            NotSent,
            "connection_limit_reached",
            "The upstream has as many calls under way as it may have",
        ),
        UpstreamError::NotConnected(ConnectError::Reach(ReachError::Prohibited { .. })) => (
            S::BAD_GATEWAY,
            "upstream-address-prohibited",
            NotSent,
            "destination_ip_prohibited",
            "The upstream has an address that the private side does not let its agent call",
        ),
        UpstreamError::NotConnected(error) => (
            S::BAD_GATEWAY,
            "upstream-unreachable",
            NotSent,
            connect(error),
            "The upstream cannot be reached",
        ),
        UpstreamError::NotSent(_) => (
            S::BAD_GATEWAY,
            "upstream-unreachable",
            NotSent,
            "connection_terminated",
            "The upstream closed the connection before the call was sent",
        ),
        UpstreamError::ConnectTimeout(_) => (
            S::GATEWAY_TIMEOUT,
            "connect-timeout",
            NotSent,
            "connection_timeout",
            "The upstream did not accept a connection in time",
        ),
        UpstreamError::ResponseTimeout(_) => (
            S::GATEWAY_TIMEOUT,
            "response-timeout",
            Unknown,
            "http_response_timeout",
            "The upstream did not answer in time",
        ),
        UpstreamError::Broken(_) => (
            S::BAD_GATEWAY,
            "outcome-unknown",
            Unknown,
            "connection_terminated",
            "The connection to the upstream broke; what became of the call is unknown",
        ),
        UpstreamError::UnaskedSwitch => (
            S::BAD_GATEWAY,
            "unusable-answer",
            Unknown,
            "http_protocol_error",
            "The upstream's answer cannot be passed on",
        ),
        UpstreamError::NotAWebsocket => (
            S::BAD_GATEWAY,
            "not-a-websocket",
            Unknown,
            "http_upgrade_failed",
            "The upstream did not open a WebSocket",
        ),
    }
}

/// The error types of RFC 9209, section 2.3.
const fn connect(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Reach(ReachError::Resolve { .. }) => "dns_error",
        ConnectError::Reach(ReachError::Prohibited { .. }) => "destination_ip_prohibited",
        ConnectError::Reach(ReachError::Tcp { .. }) => "connection_refused",
        ConnectError::Tls(TlsError::Handshake(_)) => "tls_protocol_error",
        ConnectError::Tls(_) => "tls_certificate_error",
        ConnectError::Http(_) => "connection_terminated",
        ConnectError::Address(_) => "proxy_configuration_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::metrics::upstream::DENIALS;
    use crate::agent::policy::Ambiguity;

    fn kind(refusal: Refusal) -> Option<DenialKind> {
        refusal.into_response().extensions().get().copied()
    }

    /// The kind of denial after this one, and so all of them: a new one finds its place here, or nothing compiles.
    fn after(denied: Denied) -> Option<Denied> {
        use Ambiguity as A;
        Some(match denied {
            Denied::UnknownUpstream => Denied::Override("x-http-method-override"),
            Denied::Override(_) => Denied::UnclearLength,
            Denied::UnclearLength => Denied::ByRule,
            Denied::ByRule => Denied::NeedsBody(1),
            Denied::NeedsBody(_) => Denied::Unmet,
            Denied::Unmet => Denied::NoRule,
            Denied::NoRule => Denied::Ambiguous(A::NotFromRoot),
            Denied::Ambiguous(ambiguity) => Denied::Ambiguous(match ambiguity {
                A::NotFromRoot => A::DotSegment,
                A::DotSegment => A::EmptySegment,
                A::EmptySegment => A::EncodedSlash,
                A::EncodedSlash => A::EncodedDelimiter,
                A::EncodedDelimiter => A::Backslash,
                A::Backslash => A::Semicolon,
                A::Semicolon => A::ControlCharacter,
                A::ControlCharacter => A::InvalidEscape,
                A::InvalidEscape => A::EncodedTwice,
                A::EncodedTwice => A::NotUtf8,
                A::NotUtf8 => return None,
            }),
        })
    }

    #[test]
    fn a_denial_goes_with_its_kind_and_every_kind_has_a_count_of_its_own() {
        let denied = std::iter::successors(Some(Denied::UnknownUpstream), |it| after(*it));
        let own = CredentialError::OwnParameter("key".to_owned());
        let mut kinds: Vec<&str> = denied
            .map(|reason| Refusal::Denied(reason.into()))
            .chain([Refusal::Credential(own)])
            .map(|refusal| kind(refusal).unwrap().0)
            .collect();
        kinds.push("other");
        kinds.sort_unstable();
        let mut counted = DENIALS;
        counted.sort_unstable();
        assert_eq!(kinds, counted);
        assert_eq!(kind(Refusal::Loop), None);
    }
}
