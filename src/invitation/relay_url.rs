//! The relay's address, checked: `https://host[:port][/prefix]`, or `http://…` where nothing on the way speaks TLS (a trial on one machine).
//!
//! One form for one address, so that it can be compared, signed and shown. Never holds a user, password, query or fragment.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest address without its scheme, in bytes: its length takes one byte in an invitation.
const LONGEST: usize = 255;
/// The longest host name and the longest part of one between dots (RFC 1035, section 2.3.4).
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Where a relay is reached. Parsed from and shown as a URL; always in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelayUrl {
    is_tls: bool,
    host: String,
    port: u16,
    path_prefix: String,
}

/// Why a text is not a [`RelayUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayUrlError {
    /// It begins otherwise.
    #[error("a relay's address starts with https:// (or http://, where it does not speak TLS)")]
    Scheme,
    /// A user or password is in it.
    #[error("a relay's address has no user or password in it")]
    Credentials,
    /// A question mark or number sign is in it.
    #[error("a relay's address has no query and no fragment")]
    QueryOrFragment,
    /// Neither a host name nor an IP address.
    #[error("{0:?} is neither a host name (in its xn-- form beyond ASCII) nor an IP address")]
    Host(String),
    /// Not a number from 1 to 65535.
    #[error("{0:?} is not a port number")]
    Port(String),
    /// The path has characters or segments that could be read in more than one way.
    #[error(
        "the path {0:?} is made of other things than letters, digits and '.', '_', '~', '-' between single slashes"
    )]
    Path(String),
    /// More than [`LONGEST`] bytes.
    #[error("a relay's address has at most {LONGEST} characters after https://, this one has {0}")]
    TooLong(usize),
}

impl RelayUrl {
    /// Whether the relay, or what stands before it, speaks TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Host name or IP address, the latter without brackets: to look up and to connect to.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, the scheme's default where none was given.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `host[:port]`, without a default port: for `Host` and `:authority`.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port(self.is_tls) {
            return host;
        }
        format!("{host}:{}", self.port)
    }

    /// Empty, or a path that starts with a slash and does not end with one; goes before every path of ours.
    #[must_use]
    pub fn path_prefix(&self) -> &str {
        &self.path_prefix
    }

    /// The path of a route at this relay; `route` starts with a slash.
    #[must_use]
    pub fn path(&self, route: &str) -> String {
        format!("{}{route}", self.path_prefix)
    }

    /// All but the scheme, as an invitation writes it.
    pub(super) fn address(&self) -> String {
        format!("{}{}", self.authority(), self.path_prefix)
    }

    /// The reverse of [`address`](Self::address); nothing for an address that is not canonical.
    pub(super) fn from_address(is_tls: bool, address: &str) -> Option<Self> {
        let url = parse(is_tls, address).ok()?;
        (url.address() == address).then_some(url)
    }
}

impl FromStr for RelayUrl {
    type Err = RelayUrlError;

    fn from_str(text: &str) -> Result<Self, RelayUrlError> {
        let (scheme, address) = text.split_once("://").ok_or(RelayUrlError::Scheme)?;
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(RelayUrlError::Scheme),
        };
        parse(is_tls, address)
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address())
    }
}

impl TryFrom<String> for RelayUrl {
    type Error = RelayUrlError;

    fn try_from(text: String) -> Result<Self, RelayUrlError> {
        text.parse()
    }
}

impl From<RelayUrl> for String {
    fn from(url: RelayUrl) -> Self {
        url.to_string()
    }
}

const fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

fn parse(is_tls: bool, address: &str) -> Result<RelayUrl, RelayUrlError> {
    if address.len() > LONGEST {
        return Err(RelayUrlError::TooLong(address.len()));
    }
    if address.contains(['?', '#']) {
        return Err(RelayUrlError::QueryOrFragment);
    }
    let (authority, path) = match address.find('/') {
        Some(slash) => address.split_at(slash),
        None => (address, ""),
    };
    if authority.contains('@') {
        return Err(RelayUrlError::Credentials);
    }
    let (host, port) = split_authority(authority)?;
    Ok(RelayUrl {
        is_tls,
        host,
        port: port.unwrap_or_else(|| default_port(is_tls)),
        path_prefix: checked_path(path)?,
    })
}

fn split_authority(authority: &str) -> Result<(String, Option<u16>), RelayUrlError> {
    if let Some(bracketed) = authority.strip_prefix('[') {
        let refusal = || RelayUrlError::Host(authority.to_owned());
        let (host, after) = bracketed.split_once(']').ok_or_else(refusal)?;
        let host: Ipv6Addr = host.parse().map_err(|_| refusal())?;
        let port = match after.strip_prefix(':') {
            Some(port) => Some(checked_port(port)?),
            None if after.is_empty() => None,
            None => return Err(refusal()),
        };
        return Ok((host.to_string(), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(checked_port(port)?)),
        None => (authority, None),
    };
    Ok((checked_host(host)?, port))
}

fn checked_port(text: &str) -> Result<u16, RelayUrlError> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| is_number && *port != 0)
        .ok_or_else(|| RelayUrlError::Port(text.to_owned()))
}

/// A name of labels, or an IPv4 address in its usual form. Other ways to write an address as numbers
/// (`127.1`, `0x7f000001`) are read differently by different programs, so none is let through.
fn checked_host(text: &str) -> Result<String, RelayUrlError> {
    let refusal = || RelayUrlError::Host(text.to_owned());
    let host = text.to_ascii_lowercase();
    let is_label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty()
            && label.len() <= LONGEST_LABEL
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > LONGEST_HOST || !host.split('.').all(is_label) {
        return Err(refusal());
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let looks_like_a_number =
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if looks_like_a_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(refusal());
    }
    Ok(host)
}

/// The path without its last slash; segments that every program reads alike.
fn checked_path(path: &str) -> Result<String, RelayUrlError> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let is_segment = |segment: &str| {
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-');
        !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(allowed)
    };
    if !path.split('/').skip(1).all(is_segment) {
        return Err(RelayUrlError::Path(path.to_owned()));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        for (given, canonical) in [
            ("https://relay.example.com", "https://relay.example.com"),
            (
                "HTTPS://Relay.Example.COM:443/",
                "https://relay.example.com",
            ),
            (
                "https://relay.example.com:8443/a/b-c/",
                "https://relay.example.com:8443/a/b-c",
            ),
            ("http://10.0.0.1:80", "http://10.0.0.1"),
            ("http://localhost:443", "http://localhost:443"),
            ("https://[0:0:0:0:0:0:0:1]:8443", "https://[::1]:8443"),
            (
                "https://xn--bcher-kva.example",
                "https://xn--bcher-kva.example",
            ),
        ] {
            let url: RelayUrl = given.parse().unwrap();
            assert_eq!(url.to_string(), canonical, "{given}");
            assert_eq!(canonical.parse(), Ok(url.clone()));
            assert_eq!(
                RelayUrl::from_address(url.is_tls(), &url.address()),
                Some(url)
            );
        }
    }

    #[test]
    fn its_parts_are_what_a_dialler_needs() {
        let url: RelayUrl = "https://[::1]/relay/".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.is_tls()), ("::1", 443, true));
        assert_eq!(url.authority(), "[::1]");
        assert_eq!(url.path("/v1/link"), "/relay/v1/link");
    }

    #[test]
    fn each_refusal_names_its_reason() {
        let refusal = |text: &str| text.parse::<RelayUrl>().unwrap_err();
        assert_eq!(refusal("relay.example.com"), RelayUrlError::Scheme);
        assert_eq!(refusal("wss://relay.example.com"), RelayUrlError::Scheme);
        assert_eq!(refusal("https://a:b@relay"), RelayUrlError::Credentials);
        assert_eq!(refusal("https://relay?x"), RelayUrlError::QueryOrFragment);
        assert_eq!(refusal("https://relay/#x"), RelayUrlError::QueryOrFragment);
        for host in [
            "",
            "a b",
            "-a",
            "a..b",
            "a.",
            "bücher.example",
            "127.1",
            "0x7f000001",
            "2130706433",
            "1.2.3.256",
            "[::1",
            "[::1]x",
            "[v1.x]",
            "a\nb",
            "a%00",
        ] {
            let error = refusal(&format!("https://{host}"));
            assert!(matches!(error, RelayUrlError::Host(_)), "{host}: {error}");
        }
        for port in ["", "0", "65536", "+1", "1:2", "x"] {
            let error = refusal(&format!("https://relay:{port}"));
            assert_eq!(error, RelayUrlError::Port(port.to_owned()));
        }
        for path in ["//", "/a//b", "/..", "/a/./b", "/%2e", "/a b", "/ä"] {
            let error = refusal(&format!("https://relay{path}"));
            assert!(matches!(error, RelayUrlError::Path(_)), "{path}: {error}");
        }
        assert_eq!(
            refusal(&format!("https://{}", "a".repeat(256))),
            RelayUrlError::TooLong(256)
        );
    }

    #[test]
    fn an_address_that_is_not_canonical_is_not_read_from_an_invitation() {
        for address in ["relay:443", "Relay", "relay/", "[0::1]", "relay:08443"] {
            assert_eq!(RelayUrl::from_address(true, address), None, "{address}");
        }
    }
}
