//! `X-Request-Id`: the name under which caller, relay, agent and upstream find one call in their logs.
//!
//! A caller's own is kept if it can stand in a log; otherwise the relay's number of the call is it. Everybody can claim
//! any: it finds calls, and proves nothing.

use http::{HeaderMap, HeaderName, HeaderValue};

/// On a call and on its answer: its name. On a lane, only where the caller gave one: else it is the relay's number.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest that is taken, in bytes. A UUID has 36, a trace of two of them less than 100.
const MAX_LENGTH: usize = 128;

/// Takes what the caller calls the call out of the headers: nothing if that cannot stand in a log, or there are several.
pub fn take(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if !headers.contains_key(X_REQUEST_ID) {
        return None;
    }
    let mut taken = of(headers).cloned();
    headers.remove(X_REQUEST_ID);
    if let Some(id) = &mut taken {
        // No secret, but unlike every other: keeps header compression from making room for it.
        id.set_sensitive(true);
    }
    taken
}

/// The name of a call, if it can stand in a log.
#[must_use]
pub fn of(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut all = headers.get_all(X_REQUEST_ID).iter();
    let (first, None) = (all.next()?, all.next()) else {
        return None;
    };
    is_sane(first.as_bytes()).then_some(first)
}

/// Gives a call its name, unless it has one: the relay's number of it.
pub fn complete(headers: &mut HeaderMap, number: Option<&HeaderValue>) {
    if headers.contains_key(X_REQUEST_ID) {
        if of(headers).is_some() {
            return;
        }
        headers.remove(X_REQUEST_ID);
    }
    if let Some(number) = number {
        headers.insert(X_REQUEST_ID, number.clone());
    }
}

/// What UUIDs, ULIDs, numbers, base64 and the ids of large providers are made of. Neither white space nor quotes: one
/// name is one word everywhere.
fn is_sane(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:/+=@".contains(byte);
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(X_REQUEST_ID, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_name_that_can_stand_in_a_log_is_kept_and_others_are_not() {
        let longest = "x".repeat(MAX_LENGTH);
        for sane in [
            "7",
            "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "Self=1-67891234-12456789abcdef012345678/a+b==@host:1~",
            &longest,
        ] {
            let mut headers = headers(&[sane]);
            complete(&mut headers, Some(&HeaderValue::from_static("1")));
            assert_eq!(headers[X_REQUEST_ID], sane);
            assert_eq!(take(&mut headers).unwrap(), sane);
            assert!(headers.is_empty());
        }
        let too_long = "x".repeat(MAX_LENGTH + 1);
        for odd in [
            &["a b"][..],
            &["a\"b"],
            &["a;b"],
            &["a,b"],
            &["{a}"],
            &["a\tb"],
            &[""],
            &[&too_long],
            &["a", "b"],
        ] {
            assert_eq!(take(&mut headers(odd)), None, "{odd:?}");
            assert!(!headers(odd).is_empty());
            let mut completed = headers(odd);
            complete(&mut completed, Some(&HeaderValue::from_static("1")));
            let values: Vec<_> = completed.get_all(X_REQUEST_ID).iter().collect();
            assert_eq!(values, ["1"], "{odd:?}");
        }
    }
}
