//! The one map from what went wrong on the agent to what the caller is told.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode};
use tracing::{debug, warn};

use crate::agent::addresses::ReachError;
use crate::agent::credentials::CredentialError;
use crate::agent::policy::Denied;
use crate::agent::upstream::{ConnectError, UpstreamError};
use crate::body::Body;
use crate::error_chain::chain;
use crate::forwarding::RELAY_ERROR;
use crate::link::tls::TlsError;
use crate::problem::Problem;

/// When to try again at an upstream that is busy: calls take about as long.
const RETRY_BUSY_AFTER: Duration = Duration::from_secs(1);
/// The member of a problem document that tells whether the call may be repeated without harm.
const DELIVERY: &str = "delivery";

/// Why the agent itself answers a call.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The connection is deactivated.
    Deactivated,
    /// No rule allows it.
    Denied(Denied),
    /// CONNECT for something else than a WebSocket.
    NotSupported,
    /// The call has been here before.
    Loop,
    /// Not with its credentials.
    Credential(CredentialError),
    /// The upstream gave no answer.
    Upstream(UpstreamError),
}

/// Whether the upstream may have seen the call.
#[derive(Debug, Clone, Copy)]
enum Delivery {
    NotSent,
    Unknown,
}

impl Refusal {
    /// Tells the private side's log, where addresses may stand.
    pub(super) fn log(&self, upstream: &str) {
        match self {
            Self::Upstream(error @ UpstreamError::Busy(_)) => {
                debug!(upstream, %error, "a call was refused");
            }
            Self::Upstream(error) => {
                warn!(upstream, error = %chain(error), "a call has no answer");
            }
            Self::Credential(error @ CredentialError::OwnParameter(_)) => {
                debug!(upstream, reason = %error, "a call was denied");
            }
            Self::Credential(error) => {
                warn!(upstream, error = %chain(error), "a credential is not to be had");
            }
            Self::Deactivated | Self::Denied(_) | Self::NotSupported | Self::Loop => {}
        }
    }

    /// What the caller gets.
    pub(super) fn into_response(self) -> Response<Body> {
        use Delivery::{NotSent, Unknown};
        use StatusCode as S;
        let (status, code, delivery, error, title) = match &self {
            Self::Deactivated => (
                S::CONFLICT,
                "connection-deactivated",
                NotSent,
                "http_request_denied",
                "The connection is deactivated",
            ),
            Self::Denied(Denied::UnknownUpstream) => (
                S::NOT_FOUND,
                "unknown-upstream",
                NotSent,
                "destination_not_found",
                "The private side has no such upstream",
            ),
            Self::Denied(
                Denied::Ambiguous(_)
                | Denied::Override(_)
                | Denied::ByRule
                | Denied::Unmet
                | Denied::NoRule,
            ) => (
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
            Self::Upstream(error) => upstream(error),
        };
        let detail = match &self {
            Self::Denied(denied) => denied.to_string(),
            Self::Credential(error @ CredentialError::OwnParameter(_)) => error.to_string(),
            Self::Upstream(error) => error.to_string(),
            Self::Deactivated | Self::NotSupported | Self::Loop | Self::Credential(_) => {
                title.to_owned()
            }
        };
        let delivery = match delivery {
            NotSent => "not-sent",
            Unknown => "unknown",
        };
        let mut problem = Problem::new(status, code, title)
            .proxy_status("agent", error, &detail)
            .detail(detail)
            .member(DELIVERY, delivery);
        if status == S::TOO_MANY_REQUESTS {
            problem = problem.retry_after(RETRY_BUSY_AFTER);
        }
        let mut response = problem.into_response();
        let marker = HeaderValue::from_static("1");
        response.headers_mut().insert(RELAY_ERROR, marker);
        response
    }
}

type Answer = (
    StatusCode,
    &'static str,
    Delivery,
    &'static str,
    &'static str,
);

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
