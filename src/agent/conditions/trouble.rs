//! What a dial that led to no link means: which condition, and what to do about it. Goes by types, never by words.

use std::io;

use http::StatusCode;

use super::Code;
use crate::agent::advice;
use crate::link::client::ConnectError;
use crate::link::dial::{DialError, ProxyError};
use crate::protocol::handshake::{HandshakeError, RefusalCode};

/// Why there is no link, for programs, and what to do when more is known than the table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The condition.
    pub code: Code,
    /// Why, for people.
    pub why: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Trouble {
    /// With the remedy of the table.
    #[must_use]
    pub const fn new(code: Code, why: String) -> Self {
        Self {
            code,
            why,
            remedy: None,
        }
    }

    /// What a failed dial means.
    #[must_use]
    pub fn of(error: &ConnectError, why: String) -> Self {
        let code = match error {
            ConnectError::Unreachable { source, .. } => {
                return Self {
                    code: of_dial(source),
                    why,
                    remedy: Some(advice::on_dial(source)),
                };
            }
            ConnectError::NotUpgraded {
                status: StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS,
                ..
            } => Code::NoLinkBusy,
            ConnectError::NotUpgraded { .. } => Code::NoLinkNotARelay,
            ConnectError::Upgrade { .. } | ConnectError::Exchange { .. } => Code::NoLinkBroken,
            ConnectError::UpgradeTimedOut { .. } => Code::NoLinkTimeout,
            ConnectError::Handshake { source, .. } => of_handshake(source),
        };
        Self::new(code, why)
    }
}

fn of_dial(error: &DialError) -> Code {
    match error {
        DialError::Resolve { .. } => Code::NoLinkDns,
        DialError::Connect { source, .. } if is(source, io::ErrorKind::ConnectionRefused) => {
            Code::NoLinkRefused
        }
        DialError::Connect { source, .. } if is(source, io::ErrorKind::TimedOut) => {
            Code::NoLinkTimeout
        }
        DialError::Connect { .. } => Code::NoLinkUnreachable,
        DialError::ProxyUnreachable { .. } => Code::NoLinkProxy,
        DialError::Proxy {
            source: ProxyError::Authentication { .. },
            ..
        } => Code::NoLinkProxyPassword,
        DialError::Proxy { .. } => Code::NoLinkProxyRefusal,
        DialError::Tls { .. } => Code::NoLinkTls,
        DialError::TimedOut { .. } => Code::NoLinkTimeout,
    }
}

fn is(error: &io::Error, kind: io::ErrorKind) -> bool {
    error.kind() == kind
}

const fn of_handshake(error: &HandshakeError) -> Code {
    match error {
        HandshakeError::WrongRelay => Code::NoLinkWrongRelay,
        HandshakeError::Intercepted | HandshakeError::DoubtfulBadProof => Code::NoLinkTlsOpened,
        HandshakeError::UnsupportedVersion(_) => Code::NoLinkVersion,
        HandshakeError::Malformed(_) => Code::NoLinkBroken,
        HandshakeError::BadProof => Code::NoLinkRefusal,
        HandshakeError::Randomness(_) => Code::NoLinkKey,
        HandshakeError::Refused(refusal) => match refusal.code {
            RefusalCode::UnsupportedVersion => Code::NoLinkVersion,
            RefusalCode::AlreadyLinked => Code::NoLinkDuplicate,
            RefusalCode::Busy | RefusalCode::Draining => Code::NoLinkBusy,
            RefusalCode::UnknownConnection
            | RefusalCode::Removed
            | RefusalCode::Revoked
            | RefusalCode::Replaced
            | RefusalCode::BadProof
            | RefusalCode::Other => Code::NoLinkRefusal,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::handshake::Refusal;

    fn dial(source: DialError) -> Trouble {
        let error = ConnectError::Unreachable {
            relay: "relay.example:443".to_owned(),
            source,
        };
        Trouble::of(&error, String::new())
    }

    #[test]
    fn a_password_that_the_proxy_refuses_is_told_from_a_proxy_that_is_not_there() {
        let refused = dial(DialError::Proxy {
            proxy: "proxy:3128".to_owned(),
            target: "relay.example:443".to_owned(),
            source: ProxyError::Authentication {
                offered: "Basic".to_owned(),
            },
        });
        assert_eq!(refused.code, Code::NoLinkProxyPassword);
        assert!(refused.remedy.unwrap().contains("network.proxy"));
        let connect = |kind: io::ErrorKind| DialError::Connect {
            host: "proxy".to_owned(),
            port: 3128,
            source: kind.into(),
        };
        let absent = dial(DialError::ProxyUnreachable {
            proxy: "proxy:3128".to_owned(),
            source: Box::new(connect(io::ErrorKind::ConnectionRefused)),
        });
        assert_eq!(absent.code, Code::NoLinkProxy);
        let code = |kind| dial(connect(kind)).code;
        assert_eq!(code(io::ErrorKind::ConnectionRefused), Code::NoLinkRefused);
        assert_eq!(code(io::ErrorKind::TimedOut), Code::NoLinkTimeout);
        assert_eq!(
            code(io::ErrorKind::NetworkUnreachable),
            Code::NoLinkUnreachable
        );
    }

    #[test]
    fn what_the_relay_says_has_its_own_condition() {
        let refused = |code| {
            let refusal = Refusal {
                code,
                text: String::new(),
                retry_after: None,
            };
            let error = ConnectError::Handshake {
                relay: "relay.example:443".to_owned(),
                source: HandshakeError::Refused(refusal),
            };
            Trouble::of(&error, String::new()).code
        };
        assert_eq!(refused(RefusalCode::AlreadyLinked), Code::NoLinkDuplicate);
        assert_eq!(
            refused(RefusalCode::UnsupportedVersion),
            Code::NoLinkVersion
        );
        assert_eq!(refused(RefusalCode::Draining), Code::NoLinkBusy);
        assert_eq!(refused(RefusalCode::Other), Code::NoLinkRefusal);
    }
}
