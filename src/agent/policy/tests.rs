//! Decisions as a whole, and what holds of all of them.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use proptest::prelude::*;

use super::*;

#[test]
fn nothing_is_reachable_without_an_upstream_and_nothing_of_it_without_a_rule() {
    let verdict = |policy: &Policy| denial(policy, "jira", "GET", "/");
    assert_eq!(verdict(&Policy::default()), Some(Denied::UnknownUpstream));
    let bare = policy(&[("jira", &[])]);
    assert_eq!(verdict(&bare), Some(Denied::NoRule));
}

#[test]
fn a_rule_allows_its_methods_on_its_paths_and_nothing_beside() {
    let policy = policy(&[("jira", &[("GET", "/issue/{key}"), ("PUT", "/issue/{key}")])]);
    let denied = |method, path| denial(&policy, "jira", method, path);
    assert_eq!(denied("GET", "/issue/A-1"), None);
    assert_eq!(denied("GET", "/issue/A-1?fields=x/../y"), None);
    assert_eq!(denied("POST", "/issue/A-1"), Some(Denied::NoRule));
    assert_eq!(denied("get", "/issue/A-1"), Some(Denied::NoRule));
    assert_eq!(denied("HEAD", "/issue/A-1"), Some(Denied::NoRule));
    assert_eq!(denied("GET", "/issue/A-1/comment"), Some(Denied::NoRule));
    assert_eq!(denied("GET", "/issue/"), Some(Denied::NoRule));
    assert_eq!(
        denial(&policy, "Jira", "GET", "/issue/A-1"),
        Some(Denied::UnknownUpstream)
    );
}

#[test]
fn a_permit_carries_what_was_matched_byte_for_byte() {
    let policy = policy(&[("jira", &[("POST", "/x"), ("GET", "/{*rest}")])]);
    let asked: PathAndQuery = "/%C3%BC/a+b?q=%2F..%2F&&x".parse().unwrap();
    let permitted = decide(&policy, &Asked::get("jira", &asked)).unwrap();
    assert_eq!(permitted.path_and_query(), &asked);
    assert_eq!(permitted.method(), Method::GET);
    assert_eq!((permitted.upstream(), permitted.rule()), ("jira", 1));
}

#[test]
fn the_rule_that_decides_is_named_for_the_private_side() {
    let rules = vec![
        Rule::parse(&["PUT"], "/issue/{key}").unwrap(),
        Rule::parse_deny::<&str>(&[], "/admin/{*rest}").unwrap(),
        Rule::parse(&["GET"], "/issue/{key}")
            .unwrap()
            .showing_in_audit(vec!["fields".to_owned()]),
    ];
    let policy = Policy::new([("jira".parse().unwrap(), rules)]);
    let decide = |path: &str| decide(&policy, &Asked::get("jira", &path.parse().unwrap()));
    let permitted = decide("/issue/A-1?fields=x").unwrap();
    assert_eq!(permitted.rule_name(), "allow 2: GET /issue/{key}");
    assert_eq!(
        (permitted.rule(), permitted.audit_query()),
        (1, &["fields".to_owned()][..])
    );
    let name = |denial: Denial| denial.rule_name().map(str::to_owned);
    let denied_by = decide("/admin/x").map_err(name).unwrap_err();
    assert_eq!(denied_by.as_deref(), Some("deny 1: /admin/{*rest}"));
    assert_eq!(decide("/other").map_err(name).unwrap_err(), None);
}

#[test]
fn an_ambiguous_path_is_refused_whatever_the_rules() {
    let policy = policy(&[("jira", &[("GET", "/{*rest}")])]);
    assert_eq!(
        denial(&policy, "jira", "GET", "/a/%2e%2e/b"),
        Some(Denied::Ambiguous(Ambiguity::DotSegment))
    );
}

#[test]
fn a_rule_of_which_only_a_condition_fails_is_told_apart_and_a_later_one_may_still_allow() {
    let asking = |values: &str| {
        let query = vec![("q".to_owned(), Values::like(values))];
        let rule = Rule::parse(&["GET"], "/search").unwrap();
        rule.requiring(Conditions::default().with_query(query).unwrap())
    };
    let policy = Policy::new([("jira".parse().unwrap(), vec![asking("a"), asking("b*")])]);
    let denied = |path| denial(&policy, "jira", "GET", path);
    assert_eq!(denied("/search?q=a"), None);
    assert_eq!(denied("/search?q=bc"), None);
    assert_eq!(denied("/search?q=c"), Some(Denied::Unmet));
    assert_eq!(denied("/search"), Some(Denied::Unmet));
    assert_eq!(denied("/other?q=a"), Some(Denied::NoRule));
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let named = |name: &str, value| vec![(name.to_owned(), Values::like(value))];
    let predicate = Predicate::new("/a", Expected::Like(Values::like("d"))).unwrap();
    let conditions = Conditions::default()
        .with_query(named("q", "a"))
        .and_then(|it| it.with_headers(named("x-kind", "b")))
        .and_then(|it| it.with_content_types(&["application/json".to_owned()]))
        .and_then(|it| it.with_body(vec![predicate]))
        .unwrap();
    let conditional = |rule: Rule| {
        rule.requiring(conditions.clone())
            .for_callers(vec!["reports".parse().unwrap()])
    };
    let allowing = || Rule::parse(&["PUT"], "/x").unwrap();
    let denying = Rule::parse_deny(&["PUT"], "/x").unwrap();
    let of = |rules| Policy::new([("jira".parse().unwrap(), rules)]);
    let allows = of(vec![conditional(allowing())]);
    let denies = of(vec![allowing(), conditional(denying)]);

    let met = [
        "/x?q=a",
        "b",
        "application/json",
        r#"{"a": "d"}"#,
        "reports",
    ];
    let other = [
        "/x?q=b",
        "c",
        "application/vnd.x+json",
        r#"{"a": "e"}"#,
        "backup",
    ];
    for unmet in 0..=met.len() {
        let mut call = met;
        if let Some(other) = other.get(unmet) {
            call[unmet] = other;
        }
        let [path, kind, content_type, body, caller] = call;
        let mut headers = HeaderMap::new();
        headers.insert("x-kind", kind.parse().unwrap());
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        let body = WholeBody::new(Bytes::from(body));
        let path = path.parse().unwrap();
        let asked = Asked {
            method: &Method::PUT,
            headers: &headers,
            caller: Some(caller),
            body: GivenBody::of(&body),
            ..Asked::get("jira", &path)
        };
        let all_are_met = unmet == met.len();
        assert_eq!(decide(&allows, &asked).is_ok(), all_are_met, "{call:?}");
        assert_eq!(decide(&denies, &asked).is_err(), all_are_met, "{call:?}");
    }
}

proptest! {
    #[test]
    fn the_same_question_has_the_same_answer(path in paths(), template in templates()) {
        let policy = policy(&[("jira", &[("GET", &template)])]);
        prop_assert_eq!(
            denial(&policy, "jira", "GET", &path),
            denial(&policy, "jira", "GET", &path)
        );
    }

    #[test]
    fn another_upstream_changes_nothing_for_this_one(
        path in paths(),
        mine in templates(),
        theirs in templates(),
    ) {
        let alone = policy(&[("jira", &[("GET", &mine)])]);
        let beside = policy(&[("git", &[("GET", &theirs)]), ("jira", &[("GET", &mine)])]);
        prop_assert_eq!(
            denial(&alone, "jira", "GET", &path),
            denial(&beside, "jira", "GET", &path)
        );
    }

    #[test]
    fn another_rule_never_takes_a_permit_away(
        path in paths(),
        mine in templates(),
        more in templates(),
    ) {
        let fewer = policy(&[("jira", &[("GET", &mine)])]);
        let both = policy(&[("jira", &[("POST", &more), ("GET", &more), ("GET", &mine)])]);
        if denial(&fewer, "jira", "GET", &path).is_none() {
            prop_assert_eq!(denial(&both, "jira", "GET", &path), None);
        }
    }

    #[test]
    fn a_rule_that_denies_never_allows_more(
        path in paths(),
        mine in templates(),
        denied in templates(),
        query in queries(),
        wanted in conditions(),
        unwanted in conditions(),
    ) {
        let allow = Rule::parse(&["GET"], &mine).unwrap().taking_encoded_slash(true);
        let rules = || vec![allow.clone().requiring(wanted.clone())];
        let mut fewer = rules();
        let deny = Rule::parse_deny::<&str>(&[], &denied).unwrap();
        fewer.push(deny.requiring(unwanted));
        let name = || "jira".parse().unwrap();
        let (open, narrow) = (Policy::new([(name(), rules())]), Policy::new([(name(), fewer)]));
        let asked = format!("{path}{query}");
        if denial(&open, "jira", "GET", &asked).is_some() {
            prop_assert!(denial(&narrow, "jira", "GET", &asked).is_some());
        }
    }

    #[test]
    fn a_decision_without_the_body_is_that_of_every_body_or_asks_for_it(
        path in paths(),
        looks in proptest::collection::vec((proptest::bool::ANY, templates(), proptest::bool::ANY), 0..4),
        body in proptest::sample::select(vec![r#"{"a":"X"}"#, r#"{"a":"Y"}"#, r#"{"a":"X","a":"Y"}"#, "", "x"]),
    ) {
        let rule = |(denies, template, looks): (bool, String, bool)| {
            let rule = match denies {
                true => Rule::parse_deny::<&str>(&[], &template).unwrap(),
                false => Rule::parse(&["GET"], &template).unwrap(),
            };
            let expected = Expected::OneOf(vec![Literal::Text("X".to_owned())]);
            let predicates = looks.then(|| Predicate::new("/a", expected).unwrap());
            let conditions = Conditions::default().with_body(predicates.into_iter().collect());
            rule.requiring(conditions.unwrap())
        };
        let policy = Policy::new([("jira".parse().unwrap(), looks.into_iter().map(rule).collect())]);
        let path: PathAndQuery = path.parse().unwrap();
        let whole = WholeBody::new(body.into());
        let json = http::HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
        let verdict = |body| {
            let asked = Asked { body, headers: &headers, ..Asked::get("jira", &path) };
            decide(&policy, &asked).map(|it| it.rule()).map_err(|denial| denial.reason)
        };
        let without = verdict(GivenBody::NotGathered);
        let (with, cut) = (verdict(GivenBody::Whole(&whole)), verdict(GivenBody::TooLong));
        if matches!(without, Err(Denied::NeedsBody(_))) {
            prop_assert!(policy.looks_at_bodies("jira"));
            prop_assert!(!matches!(with, Err(Denied::NeedsBody(_))));
            prop_assert!(!matches!(cut, Err(Denied::NeedsBody(_))));
        } else {
            prop_assert_eq!(&without, &with);
            prop_assert_eq!(&without, &cut);
        }
    }

    #[test]
    fn another_encoding_of_a_query_is_refused_or_taken_and_denied_alike(
        pieces in proptest::collection::vec(proptest::sample::select(vec!["a", "=", "&", "b", "1", "c", ";", "+"]), 0..12),
        escapes in proptest::collection::vec(0..3_u8, 12),
        condition in conditions(),
    ) {
        let plain = pieces.concat();
        // Only what stands for itself may be written otherwise without another meaning.
        let spelled: String = plain.bytes().zip(escapes).map(|(byte, how)| match how {
            0 if byte.is_ascii_alphanumeric() => format!("%{byte:02X}"),
            1 if byte.is_ascii_alphanumeric() => format!("%{byte:02x}"),
            _ => char::from(byte).into(),
        }).collect();
        let name = || "jira".parse().unwrap();
        let allow = Rule::parse(&["GET"], "/").unwrap().requiring(condition.clone());
        let allowing = Policy::new([(name(), vec![allow])]);
        let verdict = |policy: &Policy, query: &str| denial(policy, "jira", "GET", &format!("/?{query}"));
        if verdict(&allowing, &spelled).is_none() {
            prop_assert_eq!(verdict(&allowing, &plain), None, "{} {}", plain, spelled);
        }
        let open = Rule::parse(&["GET"], "/").unwrap();
        let deny = Rule::parse_deny::<&str>(&[], "/").unwrap().requiring(condition);
        let denying = Policy::new([(name(), vec![open, deny])]);
        if verdict(&denying, &plain).is_some() {
            prop_assert!(verdict(&denying, &spelled).is_some(), "{} {}", plain, spelled);
        }
        // What the strict reading takes, the generous one finds.
        if verdict(&allowing, &spelled).is_none() {
            prop_assert!(verdict(&denying, &spelled).is_some(), "{}", spelled);
        }
    }

    #[test]
    fn what_is_denied_is_denied_in_every_encoding(
        escapes in proptest::collection::vec(0..4_u8, 24),
        suffix in proptest::sample::select(vec!["", "/", "%3F", "%23x", "?x", "%3fx/y"]),
    ) {
        let spelled: String = "/admin/keys".bytes().zip(escapes).map(|(byte, how)| match how {
            _ if byte == b'/' => "/".to_owned(),
            0 => format!("%{byte:02x}"),
            1 => format!("%25{byte:02X}"),
            2 => char::from(byte).to_ascii_uppercase().into(),
            _ => char::from(byte).into(),
        }).collect();
        let rules = vec![
            Rule::parse(&["GET"], "/{*rest}").unwrap(),
            Rule::parse_deny(&["GET"], "/admin/{what}").unwrap(),
        ];
        let policy = Policy::new([("jira".parse().unwrap(), rules)]);
        let asked = format!("{spelled}{suffix}");
        prop_assert_eq!(denial(&policy, "jira", "GET", &asked), Some(Denied::ByRule), "{}", asked);
    }

    #[test]
    fn explain_agrees_with_decide(path in paths(), template in templates(), other in templates()) {
        let policy = policy(&[("jira", &[("GET", &other), ("GET", &template)])]);
        let path: PathAndQuery = path.parse().unwrap();
        let asked = Asked::get("jira", &path);
        let explained = explain(&policy, &asked);
        let decided = decide(&policy, &asked).map(|permitted| permitted.rule());
        let decided = decided.map_err(|denial| denial.reason);
        let last = explained.tried.last().map(|tried| tried.verdict.clone());
        prop_assert_eq!(&explained.outcome, &decided);
        prop_assert_eq!(last == Some(Ok(())), decided.is_ok());
    }
}

fn paths() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        proptest::sample::select(vec![
            "/", "a", "b", ".", "%2e", "%2F", "%41", ";", "%25", "2e",
        ]),
        0..8,
    )
    .prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn queries() -> impl Strategy<Value = String> {
    let pieces = vec!["?", "a=1", "&", "b=", "%61=1", "%3B", ";", "+", "%zz", "c"];
    proptest::collection::vec(proptest::sample::select(pieces), 0..5)
        .prop_map(|pieces| pieces.concat())
        .prop_map(|query| match query.strip_prefix('?') {
            Some(_) => query,
            None => String::new(),
        })
}

/// No condition, or one on the query.
fn conditions() -> impl Strategy<Value = Conditions> {
    let names = proptest::sample::subsequence(vec!["a", "b?", "c?"], 0..=3);
    let values = proptest::sample::select(vec!["*", "1", "b*"]);
    proptest::option::of((names, values)).prop_map(|query| match query {
        None => Conditions::default(),
        Some((names, values)) => {
            let named = names.into_iter();
            let named = named.map(|name| (name.to_owned(), Values::like(values)));
            Conditions::default().with_query(named.collect()).unwrap()
        }
    })
}

fn templates() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "/",
        "/a",
        "/{x}",
        "/a/{x}",
        "/a/b",
        "/{*rest}",
        "/a/{*rest}",
    ])
    .prop_map(str::to_owned)
}

fn policy(upstreams: &[(&str, &[(&str, &str)])]) -> Policy {
    Policy::new(upstreams.iter().map(|(name, rules)| {
        let rule = |(method, path): &(&str, &str)| Rule::parse(&[*method], path).unwrap();
        (name.parse().unwrap(), rules.iter().map(rule).collect())
    }))
}

fn denial(policy: &Policy, upstream: &str, method: &str, path: &str) -> Option<Denied> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let path = path.parse().unwrap();
    let asked = Asked {
        method: &method,
        ..Asked::get(upstream, &path)
    };
    decide(policy, &asked).err().map(|denial| denial.reason)
}
