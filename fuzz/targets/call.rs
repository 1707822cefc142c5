//! What the rules allow of any path, headers and body is what it looks like: the same bytes, no segment that a
//! program could resolve, merge or cut off, however often it decodes, and a body that another reader takes as they did.
//!
//! The input's first line is the path and query; each further one is a header, until an empty one; the rest is the body.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use relay_agent::agent::policy::{
    Asked, Conditions, Expected, GivenBody, Literal, Policy, Predicate, Rule, Values, WholeBody,
    decide, explain, observe,
};
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

/// One rule that looks at everything, in force and then as one that is tried.
static LOOKING: LazyLock<Policy> = LazyLock::new(|| {
    let name = || "web".parse().expect("a name");
    let like = |name: &str, values| (name.to_owned(), Values::like(values));
    let literal = Literal::Text("X".to_owned());
    let predicate = Predicate::new("/a/0", Expected::OneOf(vec![literal])).expect("a pointer");
    let conditions = Conditions::default()
        .with_query(vec![like("q", "1*"), like("r?", "*")])
        .and_then(|it| it.with_headers(vec![like("x-kind?", "a*")]))
        .and_then(|it| it.with_body(vec![predicate]))
        .expect("conditions");
    let rule = Rule::parse(&["GET"], "/{*rest}").expect("a rule");
    let rule = rule.requiring(conditions);
    Policy::new([(name(), vec![rule.clone()])]).trying(&name(), vec![rule])
});

fuzz_target!(|input: &[u8]| {
    let (input, body) = match input.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &input[..0]),
    };
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
    let body = WholeBody::new(body.to_vec().into());
    let asked = Asked {
        body: GivenBody::of(&body),
        ..asked
    };
    let decided = decide(&LOOKING, &asked);
    let tried = observe(&LOOKING, &asked).expect("rules are tried");
    assert_eq!(decided.is_ok(), tried.is_ok());
    if decided.is_ok() {
        let json: serde_json::Value = serde_json::from_slice(body.bytes()).expect("JSON");
        assert_eq!(json["a"][0], "X");
        assert!(path.query().is_some_and(|query| query.contains('1')));
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
