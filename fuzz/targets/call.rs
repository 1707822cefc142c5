//! What the rules allow of any path and headers is what it looks like: the same bytes, no segment that a
//! program could resolve, merge or cut off, however often it decodes.
//!
//! The input's first line is the path and query; each further one is a header.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use relay_agent::agent::policy::{Asked, Policy, Rule, decide, explain};
use relay_agent::forwarding;

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let rules = vec![
        Rule::parse(&["GET"], "/{*rest}").expect("a rule"),
        Rule::parse(&["GET"], "/projects/{id}")
            .expect("a rule")
            .taking_encoded_slash(true),
        Rule::parse_deny::<&str>(&[], "/admin/{*rest}").expect("a rule"),
    ];
    Policy::new([("web".parse().expect("a name"), rules)])
});

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let Ok(path) = http::uri::PathAndQuery::try_from(lines.next().unwrap_or_default()) else {
        return;
    };
    let mut headers: HeaderMap = lines.filter_map(header).collect();
    let asked = Asked {
        headers: &headers,
        ..Asked::get("web", &path)
    };
    let decided = decide(&POLICY, &asked);
    assert_eq!(explain(&POLICY, &asked).outcome.is_ok(), decided.is_ok());
    if let Ok(permitted) = decided {
        assert_eq!(permitted.path_and_query(), &path);
        is_plain(path.path());
    }
    forwarding::strip(&mut headers);
    let connection_named = |name: &str| headers.contains_key(name);
    assert!(
        !["connection", "transfer-encoding", "upgrade", "proxy"]
            .into_iter()
            .any(connection_named)
    );
    assert!(
        !headers
            .keys()
            .any(|name| name.as_str().replace('_', "-").starts_with("relay-"))
    );
});

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    Some((name, HeaderValue::from_bytes(&line[colon + 1..]).ok()?))
}

/// Decoded any number of times, every segment is still a name.
fn is_plain(path: &str) {
    let mut bytes = path.as_bytes().to_vec();
    let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
    let is_project = path.to_ascii_lowercase().contains("%2f");
    for round in 0..4 {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        // As it came and decoded once; whoever decodes further has made the bytes himself.
        assert!(round > 1 || std::str::from_utf8(&bytes).is_ok(), "{text:?}");
        assert!(
            text.starts_with('/') && !text.contains("//") && !text.contains('\\'),
            "{text:?}"
        );
        assert!(
            !text.chars().any(|c| c == ';' || c.is_ascii_control()),
            "{text:?}"
        );
        assert!(
            !text.split('/').any(|segment| matches!(segment, "." | "..")),
            "{text:?}"
        );
        assert!(
            !text.to_ascii_lowercase().starts_with("/admin/"),
            "{text:?}"
        );
        let decoded = decode(&bytes);
        assert!(
            is_project || slashes(&decoded) == slashes(&bytes),
            "{text:?}"
        );
        bytes = decoded;
    }
}

/// As lenient programs do it: what is no escape stays as it is.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| {
        bytes
            .get(at)
            .and_then(|byte| char::from(*byte).to_digit(16))
    };
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two digits"));
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}
