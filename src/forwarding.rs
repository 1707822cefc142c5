//! What happens to headers when a call is passed on: hop-by-hop headers end, `Via` grows, loops show.
//!
//! Pure: `http` types in and out, the same rules in both programs. Never looks at bodies, and never
//! changes an end-to-end header that is not named here.

pub mod request_id;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue, Version};

/// The most header fields that one message may have. That of hyper's HTTP/1 parser, which keeps them
/// on the stack up to this number.
pub const MAX_HEADER_FIELDS: usize = 100;
/// The most bytes that the head of one message may have, names and values together. Four times
/// nginx's single buffer: tickets and single sign-on cookies of large companies reach 16 KiB.
pub const MAX_HEAD_BYTES: usize = 32 * 1024;

/// On a call: the relay's number of it.
pub const RELAY_REQUEST_ID: HeaderName = HeaderName::from_static("relay-request-id");
/// On a call: the label of the token that the caller showed.
pub const RELAY_CALLER: HeaderName = HeaderName::from_static("relay-caller");
/// On an answer over a lane: the agent made it, not the upstream. Its value is the code of the problem document.
pub const RELAY_ERROR: HeaderName = HeaderName::from_static("relay-error");
/// On an answer over a lane: where its `Location` leads, below the upstream. The relay, which knows how
/// callers reach the upstream, replaces `Location` by it.
pub const RELAY_LOCATION: HeaderName = HeaderName::from_static("relay-location");
/// The same for `Content-Location`.
pub const RELAY_CONTENT_LOCATION: HeaderName = HeaderName::from_static("relay-content-location");
/// From a caller: its token. Never passed on.
pub const RELAY_AUTHORIZATION: HeaderName = HeaderName::from_static("relay-authorization");

/// Headers that begin so belong to relay and agent, and cross neither in from a caller nor out from an upstream.
const RESERVED_PREFIX: &str = "relay-";
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// Removes what ends here: what is for one hop only (RFC 9110, section 7.6.1), which is `Connection`,
/// all that it names, and the headers that are hop-by-hop without being named; every `relay-*` header;
/// and either with `_` for `-`. `TE: trailers` stays, and so does `Trailer`, so that trailers can pass.
pub fn strip(headers: &mut HeaderMap) {
    // One look at each header that is there costs a tenth of a look-up of each that might be: messages
    // have few headers, and of these hardly any.
    let (mut accepts_trailers, mut has_length_beside, mut has_trailer) = (false, false, false);
    let mut ending = Vec::new();
    for name in headers.keys() {
        match *name {
            CONNECTION => listed_beside(headers, &mut ending),
            TE => accepts_trailers = has_token(headers, &TE, "trailers"),
            // It overrides the length (RFC 9112, section 6.3), which is then anybody's guess.
            TRANSFER_ENCODING => has_length_beside = true,
            TRAILER => has_trailer = true,
            _ => {}
        }
        if ends_here(name.as_str()) {
            ending.push(name.clone());
        }
    }
    for name in ending {
        headers.remove(name);
    }
    if has_length_beside {
        headers.remove(CONTENT_LENGTH);
    }
    if has_trailer {
        strip_trailer(headers);
    }
    if accepts_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Whether a header ends here whoever names it.
fn ends_here(name: &str) -> bool {
    is_hop_by_hop(name) || name.starts_with(RESERVED_PREFIX) || is_other_spelling(name)
}

/// What `Connection` names beside what ends here anyhow.
fn listed_beside(headers: &HeaderMap, ending: &mut Vec<HeaderName>) {
    let named = options(headers, &CONNECTION);
    let beside = named.filter(|option| !matches!(*option, "close" | "keep-alive" | "upgrade"));
    ending.extend(beside.filter_map(|option| option.parse().ok()));
}

/// Takes out of `Trailer` what may not come as a header either: some services take trailers for headers
/// (CVE-2023-46589). Only trailers that are announced there are passed on.
fn strip_trailer(headers: &mut HeaderMap) {
    let is_barred = |name: &str| {
        ends_here(name)
            || is_claimed_origin(name)
            || matches!(
                name,
                "authorization" | "content-length" | "cookie" | "host" | "set-cookie"
            )
    };
    let announced = listed(headers, &TRAILER);
    if !announced.iter().any(|name| is_barred(name.as_str())) {
        return;
    }
    headers.remove(TRAILER);
    for name in announced
        .into_iter()
        .filter(|name| !is_barred(name.as_str()))
    {
        headers.append(TRAILER, name.into());
    }
}

/// Whether a header of this name ends here or is set here, so that what a caller writes in it is not what is sent.
#[must_use]
pub fn is_of_this_hop(name: &str) -> bool {
    ends_here(name) || is_claimed_origin(name)
}

/// Replaces what the caller claims about its origin by what the relay saw (RFC 7239).
pub fn set_forwarded(headers: &mut HeaderMap, seen: &HeaderValue) {
    remove_where(headers, |name| {
        is_claimed_origin(name) || is_other_spelling(name)
    });
    headers.insert(FORWARDED, seen.clone());
}

/// Removes what a relay that keeps the rules would not have passed on: claims of the caller's origin but for
/// `Forwarded`, which is the relay's own, and an expectation that nobody knows.
pub fn distrust(headers: &mut HeaderMap) {
    remove_where(headers, |name| name != FORWARDED && is_claimed_origin(name));
    if !has_known_expectation(headers) {
        headers.remove(EXPECT);
    }
}

/// Whether a length is written so that every program reads the same: in digits, without a zero before them, which some
/// take for the sign of an octal number.
#[must_use]
pub fn is_plain_number(text: &[u8]) -> bool {
    match text {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether a message expects nothing beside `100-continue` (RFC 9110, section 10.1.1).
#[must_use]
pub fn has_known_expectation(headers: &HeaderMap) -> bool {
    let is_known = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    headers.get_all(EXPECT).iter().all(is_known)
}

/// What is for one hop; `Close`, which is no header for the sake of `Connection: close` (RFC 9112, section 9.6); and `Proxy`, which a program behind CGI would take for the proxy that it is to use
/// (`HTTP_PROXY`, CVE-2016-5385).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "close"
            | "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What a caller says about itself and its way here. The caller is not a trusted proxy, and an
/// upstream that believed it could take relayed traffic for local. Names beside the common ones are
/// those that large providers and frameworks go by.
fn is_claimed_origin(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || matches!(
            name,
            "cf-connecting-ip"
                | "client-ip"
                | "fastly-client-ip"
                | "forwarded"
                | "true-client-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-original-forwarded-for"
                | "x-originating-ip"
                | "x-real-ip"
                | "x-remote-addr"
                | "x-remote-ip"
        )
}

/// Whether a header that ends here, or that a caller may not set, is spelled with `_` for `-`. Services
/// behind CGI or WSGI see no difference (CVE-2015-0219); nobody spells them so by accident.
fn is_other_spelling(name: &str) -> bool {
    name.contains('_') && {
        let name = name.replace('_', "-");
        is_hop_by_hop(&name)
            || is_claimed_origin(&name)
            || name.starts_with(RESERVED_PREFIX)
            || name == "content-length"
            || name == "x-request-id"
    }
}

/// As with [`strip`], by one look at each header that is there.
fn remove_where(headers: &mut HeaderMap, is_removed: impl Fn(&str) -> bool) {
    let removed = headers.keys().filter(|name| is_removed(name.as_str()));
    let removed: Vec<HeaderName> = removed.cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

/// Gives the value of `Forwarded` for one caller after the other, most of whom come from the same
/// address: making it takes as many instructions as reading the head of a call.
#[derive(Debug)]
pub struct ForwardedValues {
    scheme: &'static str,
    last: Option<(std::net::IpAddr, HeaderValue)>,
}

impl ForwardedValues {
    /// Values for callers who use this scheme.
    #[must_use]
    pub const fn new(scheme: &'static str) -> Self {
        Self { scheme, last: None }
    }

    /// The value for a caller at this address.
    pub fn of(&mut self, peer: std::net::IpAddr) -> HeaderValue {
        match &self.last {
            Some((last, value)) if *last == peer => value.clone(),
            _ => {
                let value = forwarded_value(peer, self.scheme);
                self.last = Some((peer, value.clone()));
                value
            }
        }
    }
}

/// The value of `Forwarded` for calls that come from this address (RFC 7239, section 4).
///
/// Leaves `host` out on purpose: some frameworks believe it more than `Host`, and an upstream is to
/// see no authority but its own.
fn forwarded_value(peer: std::net::IpAddr, scheme: &str) -> HeaderValue {
    let text = match peer {
        std::net::IpAddr::V4(address) => format!("for={address};proto={scheme}"),
        std::net::IpAddr::V6(address) => format!("for=\"[{address}]\";proto={scheme}"),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("for=unknown"))
}

/// Whether a header that is a comma-separated list holds this token, in any case.
#[must_use]
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    options(headers, name).any(|option| option.eq_ignore_ascii_case(token))
}

/// Whether these headers of an HTTP/1.1 request ask for a WebSocket (RFC 6455, section 4.1).
#[must_use]
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
        && has_token(headers, &UPGRADE, "websocket")
        && has_token(headers, &CONNECTION, "upgrade")
}

/// The names of headers that this header lists.
#[must_use]
pub fn listed(headers: &HeaderMap, name: &HeaderName) -> Vec<HeaderName> {
    options(headers, name)
        .filter_map(|option| option.parse().ok())
        .collect()
}

/// The items of a header that is a comma-separated list.
fn options<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
}

/// One program's entry in `Via` (RFC 9110, section 7.6.3), by which it also knows its own messages again.
#[derive(Debug, Clone)]
pub struct Via {
    pseudonym: Box<str>,
    http_10: HeaderValue,
    http_11: HeaderValue,
    http_2: HeaderValue,
}

impl Via {
    /// Entries under a pseudonym, which should be unlike that of any other proxy on the way.
    /// Characters that may not stand in one become `-`.
    #[must_use]
    pub fn new(pseudonym: &str) -> Self {
        let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let pseudonym: String = pseudonym
            .chars()
            .map(|c| if is_token(c) { c } else { '-' })
            .collect();
        let entry = |version: &str| {
            HeaderValue::from_str(&format!("{version} {pseudonym}"))
                .unwrap_or(HeaderValue::from_static("1.1 relay-agent"))
        };
        Self {
            http_10: entry("1.0"),
            http_11: entry("1.1"),
            http_2: entry("2"),
            pseudonym: pseudonym.into(),
        }
    }

    /// Notes that a message came in over `received` and is passed on here.
    pub fn append(&self, headers: &mut HeaderMap, received: Version) {
        let entry = match received {
            Version::HTTP_2 => &self.http_2,
            Version::HTTP_10 => &self.http_10,
            _ => &self.http_11,
        };
        headers.append(VIA, entry.clone());
    }

    /// Whether a message has passed here before.
    #[must_use]
    pub fn is_loop(&self, headers: &HeaderMap) -> bool {
        headers
            .get_all(VIA)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','))
            .filter_map(|entry| entry.split_ascii_whitespace().nth(1))
            .any(|received_by| received_by == &*self.pseudonym)
    }
}

#[cfg(test)]
mod tests;
