//! Where an upstream's `Location` leads, as its callers could reach it.
//!
//! The agent follows no redirect. One that leads back into the upstream would lead callers to an address of
//! the private network; so the relay is told the path below the upstream, and writes what the caller can
//! use. Any other goes back as it is.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::Upstreams;
use crate::agent::policy::Permitted;
use crate::forwarding::{RELAY_CONTENT_LOCATION, RELAY_LOCATION};

/// What the relay is told of an answer, beside the answer; an extension of it until its head is whole.
#[derive(Debug, Clone)]
pub struct Located(Vec<(HeaderName, HeaderValue)>);

/// Where an upstream begins.
#[derive(Debug)]
pub(super) struct Base {
    is_tls: bool,
    host: Box<str>,
    port: u16,
    prefix: Box<str>,
}

impl Upstreams {
    /// For an answer to a permitted call: where it leads within the upstream, if it does.
    #[must_use]
    pub fn locate(&self, permitted: &Permitted, answer: &HeaderMap) -> Option<Located> {
        let upstream = self.find(permitted).ok()?;
        let pairs = [
            (LOCATION, RELAY_LOCATION),
            (CONTENT_LOCATION, RELAY_CONTENT_LOCATION),
        ];
        let below = |(said, told): (HeaderName, HeaderName)| {
            let below = upstream.base.below(answer.get(said)?.to_str().ok()?)?;
            Some((told, HeaderValue::from_str(below).ok()?))
        };
        let told: Vec<_> = pairs.into_iter().filter_map(below).collect();
        (!told.is_empty()).then_some(Located(told))
    }
}

impl Located {
    /// Writes it into the head that goes to the relay.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.extend(self.0);
    }
}

impl Base {
    pub(super) fn of(url: &Uri) -> Self {
        let is_tls = url.scheme() == Some(&Scheme::HTTPS);
        Self {
            is_tls,
            host: url.host().unwrap_or_default().into(),
            port: url.port_u16().unwrap_or_else(|| default_port(is_tls)),
            prefix: url.path().trim_end_matches('/').into(),
        }
    }

    /// The path and all that follows it, below this upstream; nothing where it leads elsewhere, and
    /// where it does not say so plainly.
    fn below<'a>(&self, location: &'a str) -> Option<&'a str> {
        let from_root = match location.split_once("//") {
            Some((scheme, rest)) if !scheme.contains(['/', '?', '#']) => {
                let is_same = match scheme {
                    "" => true,
                    _ if scheme.eq_ignore_ascii_case("https:") => self.is_tls,
                    _ if scheme.eq_ignore_ascii_case("http:") => !self.is_tls,
                    _ => false,
                };
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                (is_same && self.is_same_host(authority)).then_some(rest)?
            }
            // Relative to the path of the call, it is so for the caller as well.
            _ if !location.starts_with('/') => return None,
            _ => location,
        };
        let below = from_root.strip_prefix(&*self.prefix)?;
        let is_whole = below.is_empty() || below.starts_with(['/', '?', '#']);
        let path = below.split(['?', '#']).next().unwrap_or_default();
        (is_whole && !path.split('/').any(is_dots)).then_some(below)
    }

    fn is_same_host(&self, authority: &str) -> bool {
        // A colon within brackets belongs to an IPv6 address.
        let colon = authority
            .rfind(':')
            .filter(|at| !authority[*at..].contains(']'));
        let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
        let port = match port.strip_prefix(':') {
            None | Some("") => Some(default_port(self.is_tls)),
            Some(port) => port.parse().ok(),
        };
        host.eq_ignore_ascii_case(&self.host) && port == Some(self.port)
    }
}

const fn default_port(is_tls: bool) -> u16 {
    if is_tls { 443 } else { 80 }
}

/// Whether a segment is `.` or `..`, in any encoding: it could lead out of the upstream.
fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    matches!(&*plain, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_into_the_upstream_is_told_from_where_it_begins() {
        let base = Base::of(&"https://Jira.corp:8443/jira/".parse().unwrap());
        for (location, expected) in [
            (
                "https://jira.corp:8443/jira/browse/A-1?a=b#c",
                "/browse/A-1?a=b#c",
            ),
            ("HTTPS://JIRA.corp:8443/jira", ""),
            ("https://jira.corp:8443/jira?x", "?x"),
            ("//jira.corp:8443/jira/x", "/x"),
            ("/jira/x%2Fy//z", "/x%2Fy//z"),
            ("/jira/", "/"),
            (
                "/jira/login?to=http://evil//..",
                "/login?to=http://evil//..",
            ),
        ] {
            assert_eq!(base.below(location), Some(expected), "{location}");
        }
    }

    #[test]
    fn what_leads_elsewhere_or_nowhere_plainly_is_left_alone() {
        let base = Base::of(&"https://jira.corp:8443/jira".parse().unwrap());
        for location in [
            "",
            "browse/A-1",
            "?x",
            "#x",
            "../x",
            "/",
            "/jirax",
            "/other/jira/",
            "/jira/../admin",
            "/jira/%2E./admin",
            "http://jira.corp:8443/jira/x",
            "https://jira.corp/jira/x",
            "https://jira.corp:8443x/jira/x",
            "https://user@jira.corp:8443/jira/x",
            "https://jira.corp:8443.evil.example/jira/x",
            "https://evil.example/jira/x",
            "ftp://jira.corp:8443/jira/x",
            "//evil.example/jira/x",
            "javascript://jira.corp:8443/jira/x",
        ] {
            assert_eq!(base.below(location), None, "{location}");
        }
    }

    #[test]
    fn default_ports_and_ipv6_addresses_are_known() {
        let base = Base::of(&"http://[::1]".parse().unwrap());
        assert_eq!(base.below("http://[::1]:80/x"), Some("/x"));
        assert_eq!(base.below("http://[::1]/x"), Some("/x"));
        assert_eq!(base.below("http://[::1]:/x"), Some("/x"));
        assert_eq!(base.below("http://[::1]:81/x"), None);
        assert_eq!(base.below("http://[::2]/x"), None);
    }
}
