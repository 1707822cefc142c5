//! Who a request is for: said once, in plain characters, the same wherever it is said.
//!
//! The relay serves callers under any name, so the host decides nothing here. But a program before or
//! behind it may decide by it, and where two could read two hosts, one of them is wrong.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Request, Version};

/// Why nobody knows for whom a request is. The text goes to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ambiguous {
    #[error("the request has no Host")]
    None,
    #[error("the request has several Hosts")]
    Several,
    #[error("the request's host is not a name or an address, and perhaps a port")]
    Odd,
    #[error("the request's target names another host than its Host")]
    Another,
    #[error("the request's target is an address, but not of http or https")]
    Scheme,
}

/// Checks what a request says of its host.
///
/// # Errors
/// [`Ambiguous`].
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Ambiguous> {
    let target = request.uri();
    if !matches!(target.scheme_str(), None | Some("http" | "https")) {
        return Err(Ambiguous::Scheme);
    }
    let host = only_host(request.headers())?;
    match (host, target.authority().map(Authority::as_str)) {
        (Some(host), None) => is_plain(host).then_some(()).ok_or(Ambiguous::Odd),
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            Err(Ambiguous::Another)
        }
        (None, Some(_)) if request.version() == Version::HTTP_11 => Err(Ambiguous::None),
        (_, Some(authority)) => is_plain(authority).then_some(()).ok_or(Ambiguous::Odd),
        // HTTP/1.0 knows no Host.
        (None, None) if request.version() == Version::HTTP_10 => Ok(()),
        (None, None) => Err(Ambiguous::None),
    }
}

fn only_host(headers: &HeaderMap) -> Result<Option<&str>, Ambiguous> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Ambiguous::Several);
    }
    let text = host.map(|host| host.to_str().map_err(|_| Ambiguous::Odd));
    text.transpose()
}

/// Whether it is a name or an address, perhaps with a port, in the only way to write it.
fn is_plain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => ("v6", rest),
        Some(_) => return false,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    !host.is_empty()
        && host.bytes().all(is_name)
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(version: Version, target: &str, hosts: &[&str]) -> Result<(), Ambiguous> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&request.body(()).unwrap())
    }

    #[test]
    fn one_plain_host_is_taken_whatever_it_is() {
        for host in [
            "relay",
            "Relay.Example.com.",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:8443",
            "a_b",
        ] {
            assert_eq!(verdict(Version::HTTP_11, "/", &[host]), Ok(()), "{host}");
            let target = format!("https://{host}/");
            assert_eq!(
                verdict(Version::HTTP_11, &target, &[host]),
                Ok(()),
                "{host}"
            );
            assert_eq!(verdict(Version::HTTP_2, &target, &[]), Ok(()), "{host}");
            assert_eq!(verdict(Version::HTTP_2, &target, &[host]), Ok(()), "{host}");
        }
        assert_eq!(verdict(Version::HTTP_10, "/", &[]), Ok(()));
    }

    #[test]
    fn every_other_way_to_say_it_is_refused() {
        use Ambiguous::{Another, None, Odd, Scheme, Several};
        for (target, hosts, expected) in [
            ("/", &[][..], None),
            ("http://relay/", &[], None),
            ("/", &["relay", "relay"], Several),
            ("http://relay/", &["relay:80"], Another),
            ("http://evil/", &["relay"], Another),
            ("ftp://relay/", &["relay"], Scheme),
            ("/", &[""], Odd),
            ("/", &[":80"], Odd),
            ("/", &["relay:"], Odd),
            ("/", &["relay:65536"], Odd),
            ("/", &["relay:+80"], Odd),
            ("/", &["relay:80:80"], Odd),
            ("/", &["user@relay"], Odd),
            ("/", &["relay/x"], Odd),
            ("/", &["relay, evil"], Odd),
            ("/", &["rel%61y"], Odd),
            ("/", &["[::1"], Odd),
            ("/", &["[::1]x"], Odd),
            ("/", &["[relay]"], Odd),
            ("/", &["::1"], Odd),
            ("http://user@relay/", &["user@relay"], Odd),
        ] {
            let verdict = verdict(Version::HTTP_11, target, hosts);
            assert_eq!(verdict, Err(expected), "{target} {hosts:?}");
        }
        assert_eq!(verdict(Version::HTTP_2, "/", &[]), Err(None));
        assert_eq!(
            verdict(Version::HTTP_2, "http://relay/", &["evil"]),
            Err(Another)
        );
    }
}
