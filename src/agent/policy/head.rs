//! A call as the rules see it, and the headers that would make it another one.
//!
//! Whatever decides takes all of it, so that no part of it can be forgotten.

use std::sync::LazyLock;

use http::header::{CONTENT_LENGTH, TRAILER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};

use super::{Denied, GivenBody};
use crate::forwarding::{is_plain_number, listed};

/// Headers by which some frameworks let a request stand for another one: what was matched would not be
/// what is done. Refused rather than removed, since without them the request means something else.
const OVERRIDES: [&str; 5] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

/// What is asked: a request, with as much of its body as is at hand.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// The method.
    pub method: &'a Method,
    /// Path and query as they came.
    pub path_and_query: &'a PathAndQuery,
    /// The headers as they came.
    pub headers: &'a HeaderMap,
    /// The label of the caller's token as the relay tells it; nothing when it does not.
    pub caller: Option<&'a str>,
    /// The body. Where it is not given and a rule needs it, the decision says so.
    pub body: GivenBody<'a>,
}

impl<'a> Asked<'a> {
    /// A `GET` by nobody in particular, without headers.
    #[must_use]
    pub fn get(upstream: &'a str, path_and_query: &'a PathAndQuery) -> Self {
        Self {
            upstream,
            method: &Method::GET,
            path_and_query,
            headers: &NO_HEADERS,
            caller: None,
            body: GivenBody::NotGathered,
        }
    }
}

/// Refuses headers that ask for another method or path, and trailers, which some services take for headers
/// (CVE-2023-46589); only those that `Trailer` announces are passed on.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Denied> {
    headers.keys().try_for_each(check_name)?;
    if headers.contains_key(TRAILER) {
        listed(headers, &TRAILER).iter().try_for_each(check_name)?;
    }
    check_length(headers)
}

/// What is passed on has one length, in digits: programs differ in which of two they go by, even of two that are the
/// same, and in what they take other numbers for. HTTP/2, by which calls come, lets some of it pass.
fn check_length(headers: &HeaderMap) -> Result<(), Denied> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(()),
        (Some(length), None) if is_plain_number(length.as_bytes()) => Ok(()),
        (Some(_), _) => Err(Denied::UnclearLength),
    }
}

/// Whether trailers are announced, one of which a service could take for the header `name`, with dashes and in small
/// letters: some merge them into the headers (CVE-2023-46589).
pub(super) fn announces(headers: &HeaderMap, name: &str) -> bool {
    headers.contains_key(TRAILER)
        && listed(headers, &TRAILER)
            .iter()
            .any(|announced| is_same(name, announced.as_str()))
}

fn check_name(name: &HeaderName) -> Result<(), Denied> {
    match OVERRIDES.into_iter().find(|it| is_same(it, name.as_str())) {
        Some(name) => Err(Denied::Override(name)),
        None => Ok(()),
    }
}

/// Whether a service could take `sent` for the header `name`: those that are called through CGI or WSGI
/// see no difference between `-` and `_` (CVE-2015-0219).
pub(super) fn is_same(name: &str, sent: &str) -> bool {
    let dashed = |byte| if byte == b'_' { b'-' } else { byte };
    name.len() == sent.len() && sent.bytes().map(dashed).eq(name.bytes())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_header_that_asks_for_another_method_or_path_is_refused_in_any_spelling() {
        for name in [
            "X-HTTP-Method-Override",
            "x-original-url",
            "X_Original_URL",
            "x_http-method",
        ] {
            let name: HeaderName = name.parse().unwrap();
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("DELETE"))]);
            assert!(matches!(check(&headers), Err(Denied::Override(_))));
        }
        let announced =
            HeaderMap::from_iter([(TRAILER, HeaderValue::from_static("x-sum, X-Rewrite_Url"))]);
        assert!(matches!(check(&announced), Err(Denied::Override(_))));
        let name = HeaderName::from_static("x-originals-url");
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("x"))]);
        assert_eq!(check(&headers), Ok(()));
    }

    #[test]
    fn a_call_has_one_length_in_digits_or_none() {
        let checked = |lengths: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for length in lengths {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            check(&headers)
        };
        for plain in [&[][..], &["0"], &["7"], &["10"], &["18446744073709551615"]] {
            assert_eq!(checked(plain), Ok(()), "{plain:?}");
        }
        for unclear in [
            &["3", "3"][..],
            &["3", "4"],
            &["03"],
            &["00"],
            &["+3"],
            &["3, 3"],
            &["0x3"],
            &[""],
        ] {
            assert_eq!(checked(unclear), Err(Denied::UnclearLength), "{unclear:?}");
        }
    }
}
