//! Which headers end here, which pass, and what is said of the way.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_for_one_hop_ends_here_and_the_rest_passes() {
    let mut headers = headers(&[
        ("connection", "keep-alive, X-Private"),
        ("connection", "x-other, close"),
        ("close", "1"),
        ("x-private", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic Zm9v"),
        ("proxy-authenticate", "Basic"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("te", "gzip"),
        ("trailer", "Checksum"),
        ("cookie", "a=b"),
        ("x-public", "1"),
    ]);
    strip(&mut headers);
    assert_eq!(names(&headers), ["cookie", "trailer", "x-public"]);
}

#[test]
fn the_wish_for_trailers_passes_even_when_connection_names_te() {
    let mut headers = headers(&[("te", "deflate;q=0.5, Trailers"), ("connection", "TE")]);
    strip(&mut headers);
    assert_eq!(headers.get(TE).unwrap(), "trailers");
    assert_eq!(headers.len(), 1);
}

#[test]
fn a_connection_header_that_is_not_a_list_of_names_is_removed_all_the_same() {
    let mut headers = headers(&[("connection", "a b, ,\u{9}close"), ("x", "1")]);
    strip(&mut headers);
    assert_eq!(names(&headers), ["x"]);
}

#[test]
fn trailers_are_announced_only_where_they_could_be_headers() {
    let mut headers = headers(&[
        ("trailer", "X-Sum, Cookie,X_Forwarded_For"),
        ("trailer", "Host, Expires"),
    ]);
    strip(&mut headers);
    let announced: Vec<_> = headers.get_all(TRAILER).iter().collect();
    assert_eq!(announced, ["x-sum", "expires"]);
}

#[test]
fn underscores_hide_nothing_and_make_no_header_suspect() {
    let mut headers = headers(&[
        ("transfer_encoding", "chunked"),
        ("content_length", "1"),
        ("relay_caller", "admin"),
        ("Proxy_Authorization", "Basic Zm9v"),
        ("proxy", "http://evil.example"),
        ("my_header", "1"),
    ]);
    strip(&mut headers);
    assert_eq!(names(&headers), ["my_header"]);
}

#[test]
fn reserved_headers_do_not_pass() {
    let mut headers = headers(&[
        ("relay-caller", "admin"),
        ("Relay-Error", "1"),
        ("relay-anything", "1"),
        ("relayed", "1"),
    ]);
    strip(&mut headers);
    assert_eq!(names(&headers), ["relayed"]);
}

#[test]
fn a_caller_cannot_claim_another_origin() {
    let mut headers = headers(&[
        ("forwarded", "for=127.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-anything", "127.0.0.1"),
        ("X_Forwarded-For", "127.0.0.1"),
        ("true_client_ip", "127.0.0.1"),
    ]);
    let seen = forwarded_value("203.0.113.7".parse().unwrap(), "https");
    set_forwarded(&mut headers, &seen);
    assert_eq!(names(&headers), ["forwarded"]);
    assert_eq!(
        headers.get(FORWARDED).unwrap(),
        "for=203.0.113.7;proto=https"
    );
}

#[test]
fn the_agent_believes_the_relay_what_it_saw_and_nothing_beside() {
    let mut headers = headers(&[
        ("forwarded", "for=203.0.113.7;proto=https"),
        ("x-forwarded-for", "127.0.0.1"),
        ("expect", "100-continue"),
        ("x-a", "1"),
    ]);
    distrust(&mut headers);
    assert_eq!(names(&headers), ["expect", "forwarded", "x-a"]);
    headers.append(EXPECT, HeaderValue::from_static("x"));
    distrust(&mut headers);
    assert_eq!(names(&headers), ["forwarded", "x-a"]);
}

#[test]
fn every_caller_is_told_apart_by_address() {
    let mut values = ForwardedValues::new("http");
    let mut of = |peer: &str| values.of(peer.parse().unwrap());
    assert_eq!(of("192.0.2.1"), "for=192.0.2.1;proto=http");
    assert_eq!(of("192.0.2.1"), "for=192.0.2.1;proto=http");
    assert_eq!(of("192.0.2.2"), "for=192.0.2.2;proto=http");
    assert_eq!(of("192.0.2.1"), "for=192.0.2.1;proto=http");
}

#[test]
fn an_ipv6_address_is_quoted_as_rfc_7239_asks() {
    let value = forwarded_value("2001:db8::1".parse().unwrap(), "http");
    assert_eq!(value, "for=\"[2001:db8::1]\";proto=http");
}

#[test]
fn via_grows_and_shows_a_loop() {
    let via = Via::new("relay 1a2b");
    let mut headers = headers(&[("via", "1.1 elsewhere, 2 relay-1a2bc")]);
    assert!(!via.is_loop(&headers));
    via.append(&mut headers, Version::HTTP_2);
    let entries: Vec<_> = headers.get_all(VIA).iter().collect();
    assert_eq!(entries, ["1.1 elsewhere, 2 relay-1a2bc", "2 relay-1a2b"]);
    assert!(via.is_loop(&headers));
}

#[test]
fn a_websocket_is_asked_for_by_both_headers() {
    let asks = |pairs: &[(&str, &str)]| asks_for_websocket(&headers(pairs));
    assert!(asks(&[
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade")
    ]));
    assert!(!asks(&[("upgrade", "websocket")]));
    assert!(!asks(&[("upgrade", "h2c"), ("connection", "upgrade")]));
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        let name: HeaderName = name;
        let value: HeaderValue = value;
        headers.append(name, value);
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

/// Names that end somewhere or nowhere, and what a caller could write to confuse them.
fn any_name() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(vec![
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "proxy",
        "proxy-connection",
        "proxy-authorization",
        "http2-settings",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-new",
        "x-real-ip",
        "relay-caller",
        "relay-location",
        "via",
        "cookie",
        "x-a",
        "x-b",
        "content-length",
        "expect",
    ]);
    (known, any::<bool>()).prop_map(|(name, is_folded)| match is_folded {
        true => name.replace('-', "_"),
        false => name.to_owned(),
    })
}

fn any_value() -> impl Strategy<Value = String> {
    let lists = proptest::collection::vec(any_name(), 0..4);
    let separators = proptest::sample::select(vec![",", ", ", " ,", ",,\t", ";"]);
    prop_oneof![
        (lists, separators).prop_map(|(names, separator)| names.join(separator)),
        Just("Trailers".to_owned()),
        Just("1".to_owned()),
    ]
}

proptest! {
    #[test]
    fn nothing_that_is_for_one_hop_or_claims_an_origin_is_ever_passed_on(
        pairs in proptest::collection::vec((any_name(), any_value()), 0..8),
    ) {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let before = headers(&pairs);
        let mut after = before.clone();
        strip(&mut after);
        let seen = forwarded_value("203.0.113.7".parse().unwrap(), "https");
        set_forwarded(&mut after, &seen);
        let named: Vec<_> = listed(&before, &CONNECTION);
        for (name, value) in &after {
            // The relay's own, which is set last.
            if name == FORWARDED && value == seen {
                continue;
            }
            let plain = name.as_str().replace('_', "-");
            let ends = is_hop_by_hop(&plain) || plain.starts_with(RESERVED_PREFIX) || named.contains(name);
            prop_assert!(!ends || (name == TE && value == "trailers"), "{name}");
            let claims = is_claimed_origin(&plain) || plain == "forwarded";
            prop_assert!(!claims, "{name}");
        }
        for name in listed(&after, &TRAILER) {
            prop_assert!(!is_hop_by_hop(name.as_str()) && !is_claimed_origin(name.as_str()), "{name}");
        }
        // What is neither is as it was, in number and order.
        let is_kept = |name: &HeaderName| matches!(name.as_str(), "cookie" | "x-a" | "x-b" | "via");
        for name in before.keys().filter(|name| is_kept(name) && !named.contains(name)) {
            let values = |headers: &HeaderMap| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
            prop_assert_eq!(values(&before), values(&after));
        }
        // Twice is once.
        let mut again = after.clone();
        strip(&mut again);
        prop_assert_eq!(again, after);
    }
}

#[test]
fn a_length_beside_an_encoding_is_not_passed_on() {
    let mut both = headers(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
    strip(&mut both);
    assert!(both.is_empty(), "{both:?}");
    let mut one = headers(&[("content-length", "5")]);
    strip(&mut one);
    assert_eq!(one["content-length"], "5");
}
