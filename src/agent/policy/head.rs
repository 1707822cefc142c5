//! A call as the rules see it, and the headers that would make it another one.
//!
//! Whatever decides takes all of it, so that no part of it can be forgotten.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::header::{CONTENT_LENGTH, TRAILER};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};

use super::path::{self, MAX_DECODINGS};
use super::{Denied, GivenBody};
use crate::forwarding::{is_plain_number, listed};

/// Headers by which some frameworks let a request stand for another one: what was matched would not be
/// what is done. Refused rather than removed, since without them the request means something else.
const OVERRIDES: [&str; 7] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
];
/// Parameters of the query by which some frameworks do the same: Laravel, Symfony, Express and others go by the first, some
/// interfaces of Google by the others.
const OVERRIDING_PARAMETERS: [&str; 3] = ["_method", "x-http-method-override", "$httpmethod"];

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

/// Refuses parameters that ask for another method, in any reading of the query.
pub(super) fn check_query(query: &str) -> Result<(), Denied> {
    let mut text = Cow::Borrowed(query);
    for _ in 0..=MAX_DECODINGS {
        let names = text
            .split(['&', ';'])
            .filter_map(|piece| piece.split('=').next());
        for name in names {
            check_parameter(name)?;
        }
        if !text.contains('%') {
            break;
        }
        let decoded = path::decode_leniently(text.as_bytes());
        text = Cow::Owned(String::from_utf8_lossy(&decoded).into_owned());
    }
    Ok(())
}

fn check_parameter(name: &str) -> Result<(), Denied> {
    let name = name.trim_start_matches([' ', '+']);
    // PHP takes a name to end here.
    let name = name.split('\0').next().unwrap_or(name);
    let overrides = OVERRIDING_PARAMETERS.into_iter();
    let mut same = overrides.filter(|it| it.len() == name.len());
    // PHP takes each of these for an underscore.
    let fold = |byte: u8| match byte {
        b'.' | b' ' | b'+' | b'[' | b'-' => b'_',
        byte => byte.to_ascii_lowercase(),
    };
    match same.find(|it| it.bytes().map(fold).eq(name.bytes().map(fold))) {
        Some(parameter) => Err(Denied::Override(parameter)),
        None => Ok(()),
    }
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
            "X-Original-URI",
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
    fn a_parameter_that_asks_for_another_method_is_refused_in_any_reading() {
        for query in [
            "_method=DELETE",
            "a=b&_METHOD=DELETE",
            "a=b;_method=put",
            "_method",
            "%5fmethod=DELETE",
            "%255Fmethod=DELETE",
            "%25255Fmethod=DELETE",
            "a=b%26_method=DELETE",
            "a=b%2526_method%253DDELETE",
            "a=b%3B_method=DELETE",
            "+_method=DELETE",
            ".method=DELETE",
            "[method=DELETE",
            "X-HTTP-Method-Override=DELETE",
            "$httpMethod=DELETE",
            "%24httpMethod=DELETE",
            "a=%zz&_method=DELETE",
            "a=%ff%26_method=DELETE",
        ] {
            assert!(
                matches!(check_query(query), Err(Denied::Override(_))),
                "{query}"
            );
        }
        for query in [
            "",
            "method=DELETE",
            "a=_method",
            "a_method=b",
            "_methods=b",
            "payment_method=card",
            "_method[a]=b",
            "a=%",
        ] {
            assert_eq!(check_query(query), Ok(()), "{query}");
        }
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
