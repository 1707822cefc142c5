//! What to do about a way that does not open: one sentence for each hop that can fail.
//!
//! Goes by the types of errors, never by their words.

use crate::agent::credentials::{CredentialError, TokenError};
use crate::link::dial::{DialError, ProxyError};
use crate::link::request::RequestError;
use crate::link::tls::TlsError;

/// At whose end of the agent a way leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A relay, on the public side.
    Relay,
    /// An upstream, in the private network.
    Upstream,
}

/// What to do when a connection to a relay could not be made.
#[must_use]
pub fn on_dial(error: &DialError) -> String {
    match error {
        DialError::Resolve { host, .. } => {
            format!("Check the name, and that this machine's DNS knows it: getent hosts {host}.")
        }
        DialError::Connect { host, port, .. } => format!(
            "Let the firewall pass outbound TCP from this machine to {host} port {port}, or name a proxy in network.proxy."
        ),
        DialError::ProxyUnreachable { proxy, .. } => format!(
            "Check the proxy in network.proxy, or in HTTPS_PROXY, and that the firewall passes outbound TCP from this machine to {proxy}."
        ),
        DialError::Proxy { target, source, .. } => on_proxy(source, target),
        DialError::Tls { source, .. } => on_tls(source, Whose::Relay).to_owned(),
        DialError::TimedOut { .. } => {
            "Look for a firewall that drops packets without a word, or name a proxy in network.proxy."
                .to_owned()
        }
    }
}

/// What to do when the relay could not be asked.
#[must_use]
pub fn on_request(error: &RequestError) -> String {
    match error {
        RequestError::Unreachable { source, .. } => on_dial(source),
        RequestError::Broken { .. } => {
            "Look for a proxy or firewall that cuts or rewrites the connection.".to_owned()
        }
        RequestError::TimedOut { .. } => {
            "The relay may be busy, or a proxy holds its answer back.".to_owned()
        }
    }
}

/// What to do when a credential for an upstream is not to be had.
#[must_use]
pub fn on_credential(error: &CredentialError) -> &'static str {
    match error {
        CredentialError::NoCredentials(_) => {
            "Add LoadCredential= to the unit, or name a file; outside of systemd there are no credentials."
        }
        CredentialError::NoVariable(_) => "Set it in the daemon's environment, and restart it.",
        CredentialError::Unreadable { .. } => "Put the file there, readable by the daemon's user.",
        CredentialError::Unusable(_) => "Put the secret there, in one line.",
        CredentialError::OwnParameter(_) | CredentialError::TooLong => {
            "Leave the parameter out of the call."
        }
        CredentialError::Command { .. } => {
            "Run it as the daemon's user; the daemon's log has what it says on standard error."
        }
        CredentialError::Token { source, .. } => match &**source {
            TokenError::Setup(_) => "Correct token_url, or the upstream's ca_file.",
            TokenError::Exchange(_) => {
                "Check token_url, and that its host can be reached from here."
            }
            TokenError::Refused { .. } => {
                "Check client_id, client_secret, scope and audience with whoever runs the token endpoint."
            }
            TokenError::NotAToken(_) | TokenError::OtherType(_) => {
                "Check token_url: it is not, or not only, an OAuth 2.0 token endpoint for client credentials."
            }
        },
        CredentialError::Fetch(error) => on_credential(error),
        CredentialError::Slow(_) => "See why its command or token endpoint takes so long.",
    }
}

/// What to do when TLS did not come about.
#[must_use]
pub const fn on_tls(error: &TlsError, whose: Whose) -> &'static str {
    match error {
        TlsError::UnknownIssuer { .. } => match whose {
            Whose::Relay => {
                "If that authority is your company's or the relay's own, name a file with its certificate in network.ca_file."
            }
            Whose::Upstream => {
                "If that authority is your company's own, name a file with its certificate in the upstream's ca_file."
            }
        },
        TlsError::NoRoots => {
            "Install ca-certificates, or name a file with certificates in ca_file."
        }
        TlsError::WrongHost { .. } => match whose {
            Whose::Relay => {
                "Ask the public side whether the relay's public_url is the name in its certificate."
            }
            Whose::Upstream => "Write the name in the certificate into the upstream's url.",
        },
        TlsError::WrongTime { .. } => {
            "Check this machine's clock; if it is right, the certificate has to be renewed."
        }
        TlsError::WrongPin { .. } => {
            "Do not go on: something answers in the relay's place, or the relay was set up anew; ask the public side."
        }
        TlsError::TooOld { .. } => match whose {
            Whose::Relay => {
                "TLS 1.3 is needed: switch it on where the relay's TLS ends, which may be a load balancer in front of it."
            }
            Whose::Upstream => "TLS 1.2 or 1.3 is needed: switch one of them on in the service.",
        },
        TlsError::Handshake(_) => "Check that the port is the right one.",
        TlsError::Read { .. } | TlsError::Content { .. } => {
            "Correct the path, or put certificates in PEM form into the file."
        }
        TlsError::HostName(_) => "Correct the host's name.",
        TlsError::Unusable(_) | TlsError::SelfSigned(_) | TlsError::Keep(_) => "",
    }
}

fn on_proxy(error: &ProxyError, target: &str) -> String {
    match error {
        ProxyError::Authentication { .. } => {
            "Write user and password into network.proxy: http://user:password@host:port (Basic; a proxy that wants NTLM or Kerberos needs a local helper such as cntlm)."
                .to_owned()
        }
        ProxyError::Refused(_) => {
            format!("Ask the proxy's administrator to allow CONNECT to {target}.")
        }
        ProxyError::NotAProxy(_) | ProxyError::Socks(_) => {
            "Check the proxy's address and kind in network.proxy.".to_owned()
        }
        ProxyError::Scheme(_) => {
            "Write http:// or socks5:// in network.proxy; both carry TLS to the relay inside."
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_advice_names_what_has_to_be_opened() {
        let error = DialError::Connect {
            host: "relay.example.com".to_owned(),
            port: 8443,
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        assert!(on_dial(&error).contains("relay.example.com port 8443"));
    }

    #[test]
    fn a_proxy_that_is_not_reached_is_named_and_not_the_relay() {
        let error = DialError::ProxyUnreachable {
            proxy: "proxy.corp.local:3128".to_owned(),
            source: Box::new(DialError::Connect {
                host: "proxy.corp.local".to_owned(),
                port: 3128,
                source: io::ErrorKind::ConnectionRefused.into(),
            }),
        };
        let advice = on_dial(&error);
        assert!(advice.contains("proxy.corp.local:3128"), "{advice}");
        assert!(advice.contains("network.proxy"), "{advice}");
    }

    #[test]
    fn an_old_tls_is_told_which_version_is_needed() {
        let error = TlsError::TooOld {
            host: "relay.example.com".to_owned(),
            source: io::ErrorKind::InvalidData.into(),
        };
        assert!(on_tls(&error, Whose::Relay).contains("TLS 1.3 is needed"));
        assert!(on_tls(&error, Whose::Upstream).contains("TLS 1.2 or 1.3 is needed"));
    }

    #[test]
    fn an_unknown_authority_is_cured_in_the_section_it_belongs_to() {
        let error = TlsError::UnknownIssuer {
            host: "jira.corp.local".to_owned(),
        };
        assert!(on_tls(&error, Whose::Relay).contains("network.ca_file"));
        assert!(on_tls(&error, Whose::Upstream).contains("the upstream's ca_file"));
    }
}
