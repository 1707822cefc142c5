//! What of a caller's own credentials ends at the agent.
//!
//! The public side's users and passwords are none of the private services' business, and a service that
//! is used through a browser as well would take a caller's cookie for a login.

use http::header::TRAILER;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::placement::Placement;

const AUTHORIZATION: &str = "authorization";
const PROXY_AUTHORIZATION: &str = "proxy-authorization";
const COOKIE: &str = "cookie";

/// Removes what may not pass, and what could be taken for a header that the agent sets: services that are
/// called through CGI or WSGI see no difference between `-` and `_`. None of it may come in trailers either.
pub(super) fn strip(
    headers: &mut HeaderMap,
    placements: &[Placement],
    pass_authorization: bool,
    pass_cookies: bool,
) {
    let is_set_here = |sent: &str| {
        let mut set = placements.iter().filter_map(Placement::header);
        set.any(|name| is_same(name, sent))
    };
    let removed = headers.keys().filter(|name| match name.as_str() {
        AUTHORIZATION => !pass_authorization,
        COOKIE => !pass_cookies,
        PROXY_AUTHORIZATION => true,
        // What is set under the very name replaces it later.
        other if other.contains('_') => is_same(PROXY_AUTHORIZATION, other) || is_set_here(other),
        _ => false,
    });
    let removed: Vec<HeaderName> = removed.cloned().collect();
    for name in removed {
        headers.remove(name);
    }
    if headers.contains_key(TRAILER) {
        strip_trailers(headers, is_set_here);
    }
}

/// Announced trailers are those that are sent: without these no secret follows the body.
fn strip_trailers(headers: &mut HeaderMap, is_set_here: impl Fn(&str) -> bool) {
    let is_credential = |name: &str| {
        [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE]
            .into_iter()
            .any(|credential| is_same(credential, name))
            || is_set_here(name)
    };
    let announced: Vec<HeaderValue> = headers.get_all(TRAILER).iter().cloned().collect();
    headers.remove(TRAILER);
    let names = announced
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !is_credential(name));
    for name in names {
        if let Ok(value) = HeaderValue::try_from(name) {
            headers.append(TRAILER, value);
        }
    }
}

/// Whether a service could take `sent` for the header `name`, both in lower case.
fn is_same(name: &str, sent: &str) -> bool {
    let dashed = |byte| if byte == b'_' { b'-' } else { byte };
    name.len() == sent.len() && sent.bytes().map(dashed).eq(name.bytes().map(dashed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_credentials_end_here_unless_they_may_pass() {
        let left = |pass_authorization, pass_cookies| {
            let mut headers = headers(&[
                ("authorization", "Basic YTpi"),
                ("cookie", "a=b"),
                ("cookie", "c=d"),
                ("proxy-authorization", "Basic YTpi"),
                ("proxy_authorization", "Basic YTpi"),
                ("accept", "*/*"),
            ]);
            strip(&mut headers, &[], pass_authorization, pass_cookies);
            let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(left(false, false), "accept");
        assert_eq!(left(true, false), "accept authorization");
        assert_eq!(left(false, true), "accept cookie");
        assert_eq!(left(true, true), "accept authorization cookie");
    }

    #[test]
    fn no_credential_is_announced_as_a_trailer() {
        let mut some = headers(&[
            ("trailer", "Checksum, Cookie"),
            ("trailer", "Authorization"),
        ]);
        strip(&mut some, &[], true, true);
        let announced: Vec<_> = some.get_all(TRAILER).iter().collect();
        assert_eq!(announced, ["checksum"]);
        let mut none = headers(&[("trailer", "cookie")]);
        strip(&mut none, &[], true, true);
        assert!(none.is_empty());
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }
}
