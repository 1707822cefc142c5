//! What holds of all decisions, whatever the rules and the calls: with every kind of condition at once.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{
    Asked, Conditions, Denial, Denied, Expected, GivenBody, Literal, Policy, Predicate, Rule,
    Values, WholeBody, decide, explain, observe,
};
use crate::name::Name;

/// A call, whole.
#[derive(Debug, Clone)]
struct Call {
    method: Method,
    target: String,
    headers: HeaderMap,
    caller: Option<&'static str>,
    /// Nothing: not gathered.
    body: Option<String>,
}

/// What is compared of a decision: the rule's place, or why not and by which rule.
type Verdict = Result<usize, (Denied, Option<String>)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_rule_that_denies_never_allows_more(
        call in calls(),
        rules in vec(rules(), 0..4),
        more in denying(),
        place in 0..4_usize,
    ) {
        let mut narrowed = rules.clone();
        narrowed.insert(place.min(rules.len()), more);
        // A decision that waits for the body is none yet: it is looked at with a body, too.
        if let Ok(permitted) = verdict(&policy(narrowed), &call) {
            prop_assert_eq!(verdict(&policy(rules), &call), Ok(permitted));
        }
    }

    #[test]
    fn a_rule_that_allows_takes_no_permit_away(
        call in calls(),
        rules in vec(rules(), 0..4),
        more in allowing(),
    ) {
        let before = verdict(&policy(rules.clone()), &call);
        let mut widened = rules;
        widened.push(more);
        if before.is_ok() {
            prop_assert_eq!(verdict(&policy(widened), &call), before);
        }
    }

    #[test]
    fn a_decision_depends_on_rules_and_call_alone(
        call in calls(),
        others in vec(calls(), 0..3),
        rules in vec(rules(), 0..4),
    ) {
        let one = policy(rules.clone());
        let first = verdict(&one, &call);
        for other in &others {
            let _ = verdict(&one, other);
        }
        prop_assert_eq!(&verdict(&one, &call), &first);
        prop_assert_eq!(&verdict(&policy(rules), &call), &first);
    }

    #[test]
    fn what_is_tried_changes_nothing_and_says_what_it_would_decide_alone(
        call in calls(),
        rules in vec(rules(), 0..4),
        candidate in vec(rules(), 0..4),
    ) {
        let plain = policy(rules);
        let trying = plain.clone().trying(&name(), candidate.clone());
        prop_assert_eq!(verdict(&trying, &call), verdict(&plain, &call));
        prop_assert!(observed(&plain, &call).is_none());
        let alone = verdict(&policy(candidate), &call).map(drop);
        prop_assert_eq!(observed(&trying, &call), Some(alone));
    }

    #[test]
    fn explanations_agree_with_decisions(
        call in calls(),
        rules in vec(rules(), 0..4),
        candidate in option::of(vec(rules(), 0..3)),
    ) {
        let mut policy = policy(rules);
        if let Some(candidate) = candidate {
            policy = policy.trying(&name(), candidate);
        }
        let explained = call.asked(|asked| explain(&policy, asked));
        let decided = verdict(&policy, &call);
        prop_assert_eq!(explained.outcome, decided.as_ref().copied().map_err(|(reason, _)| *reason));
        let tried = explained.candidate.map(|it| it.outcome.map(drop));
        let seen = observed(&policy, &call).filter(|_| decided.is_ok());
        prop_assert_eq!(tried, seen.map(|it| it.map_err(|(reason, _)| reason)));
    }

    #[test]
    fn another_spelling_that_is_accepted_is_matched_as_the_plain_one(
        call in calls(),
        rules in vec(rules(), 0..4),
        spelling in vec(0..4_u8, 64),
    ) {
        let policy = policy(rules);
        let spelled = call.spelled(&spelling);
        let (plain, other) = (verdict(&policy, &call), verdict(&policy, &spelled));
        if let Ok(rule) = other {
            // An earlier rule may take the plain one, or wait for its body; none that denies, and it is not refused.
            let is_taken = match &plain {
                Ok(first) => *first <= rule,
                Err((reason, _)) => matches!(reason, Denied::NeedsBody(_)),
            };
            prop_assert!(is_taken, "{:?} {:?} {:?}", plain, call, spelled);
        }
        if let Err((Denied::ByRule, _)) = &plain {
            prop_assert!(verdict(&policy, &spelled).is_err(), "{:?} {:?}", call, spelled);
        }
    }
}

impl Call {
    fn asked<T>(&self, ask: impl FnOnce(&Asked<'_>) -> T) -> T {
        let path = self.target.parse().unwrap();
        let body = self.body.clone().map(|body| WholeBody::new(body.into()));
        ask(&Asked {
            upstream: "jira",
            method: &self.method,
            path_and_query: &path,
            headers: &self.headers,
            caller: self.caller,
            body: body.as_ref().map_or(GivenBody::NotGathered, GivenBody::of),
        })
    }

    /// The same call, written otherwise: letters and digits of the target as escapes, those in texts of the body as
    /// JSON's, with blanks between.
    fn spelled(&self, spelling: &[u8]) -> Self {
        let mut hows = spelling.iter().cycle();
        let mut how = || *hows.next().unwrap();
        let target = self.target.chars().map(|c| match how() {
            0 if c.is_ascii_alphanumeric() => format!("%{:02X}", u32::from(c)),
            1 if c.is_ascii_alphanumeric() => format!("%{:02x}", u32::from(c)),
            _ => c.into(),
        });
        // What follows a percent sign is a part of it already.
        let target = match self.target.contains('%') {
            true => self.target.clone(),
            false => target.collect(),
        };
        let body = self.body.as_ref().map(|body| {
            let spell = |c: char| match how() {
                0 if c.is_ascii_uppercase() => format!("\\u{:04x}", u32::from(c)),
                1 if matches!(c, '{' | ':' | ',') => format!("{c} \n"),
                _ => c.into(),
            };
            body.chars().map(spell).collect()
        });
        Self {
            target,
            body,
            ..self.clone()
        }
    }
}

fn verdict(policy: &Policy, call: &Call) -> Verdict {
    let decided = call.asked(|asked| decide(policy, asked));
    decided.map(|permitted| permitted.rule()).map_err(shown)
}

fn observed(policy: &Policy, call: &Call) -> Option<Result<(), (Denied, Option<String>)>> {
    let observed = call.asked(|asked| observe(policy, asked));
    observed.map(|verdict| verdict.map_err(shown))
}

fn shown(denial: Denial) -> (Denied, Option<String>) {
    (denial.reason, denial.rule_name().map(str::to_owned))
}

fn policy(rules: Vec<Rule>) -> Policy {
    Policy::new([(name(), rules)])
}

fn name() -> Name {
    "jira".parse().unwrap()
}

fn calls() -> impl Strategy<Value = Call> {
    let segments = vec!["/", "a", "b", ".", "%2e", "%2F", "%41", ";", "%3F", "%25"];
    let path = vec(select(segments), 0..5);
    let queries = vec![
        "", "?", "?q=1", "?q=2", "?q=1&q=1", "?q=1&r=2", "?Q=1", "?%71=1", "?q=%zz", "?q=1;r=2",
    ];
    let lines = vec![
        ("x-kind", "a"),
        ("x-kind", "b, a"),
        ("x_kind", "a"),
        ("content-type", "application/json"),
        ("content-type", "text/plain"),
        ("content-type", "application/json; charset=latin1"),
        ("content-encoding", "gzip"),
    ];
    let bodies = vec![
        r#"{"a":"X"}"#,
        r#"{"a":"Y","b":[1,true]}"#,
        r#"{"a":"X","a":"Y"}"#,
        r#"{"A":"X"}"#,
        "",
        "no JSON",
    ];
    (
        select(vec![Method::GET, Method::POST]),
        path,
        select(queries),
        subsequence(lines, 0..=3),
        option::of(select(vec!["reports", "backup"])),
        option::weighted(0.9, select(bodies)),
    )
        .prop_map(|(method, path, query, lines, caller, body)| Call {
            method,
            target: format!("/{}{query}", path.concat()),
            headers: headers(&lines),
            caller,
            body: body.map(str::to_owned),
        })
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Most calls with a body have this, so that their conditions are come to.
    headers.append(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in lines {
        let value = HeaderValue::from_static(value);
        match HeaderName::from_static(name) {
            CONTENT_TYPE => headers.insert(CONTENT_TYPE, value),
            name => {
                headers.append(name, value);
                None
            }
        };
    }
    headers
}

fn rules() -> impl Strategy<Value = Rule> {
    prop_oneof![allowing(), denying()]
}

fn allowing() -> impl Strategy<Value = Rule> {
    let methods = subsequence(vec!["GET", "POST"], 1..=2);
    (methods, templates(), conditions(), callers(), any::<bool>()).prop_map(
        |(methods, template, conditions, callers, encoded_slash)| {
            let rule = Rule::parse(&methods, template).unwrap();
            let rule = rule.taking_encoded_slash(encoded_slash);
            rule.requiring(conditions).for_callers(callers)
        },
    )
}

fn denying() -> impl Strategy<Value = Rule> {
    let methods = subsequence(vec!["GET", "POST"], 0..=2);
    (methods, templates(), conditions(), callers()).prop_map(
        |(methods, template, conditions, callers)| {
            let rule = Rule::parse_deny(&methods, template).unwrap();
            rule.requiring(conditions).for_callers(callers)
        },
    )
}

fn templates() -> impl Strategy<Value = &'static str> {
    select(vec![
        "/",
        "/a",
        "/{x}",
        "/a/{x}",
        "/{*rest}",
        "/a/{*rest}",
        "/b/{x}/a",
    ])
}

fn callers() -> impl Strategy<Value = Vec<Name>> {
    let names = prop_oneof![3 => Just(vec![]), 1 => Just(vec!["reports"])];
    names.prop_map(|names| names.into_iter().map(|it| it.parse().unwrap()).collect())
}

/// Of each kind none or some.
fn conditions() -> impl Strategy<Value = Conditions> {
    let named = |names: Vec<&'static str>, values: Vec<&'static str>| {
        let most = names.len();
        (subsequence(names, 0..=most), select(values)).prop_map(|(names, values)| {
            let pair = |name: &str| (name.to_owned(), Values::like(values));
            names.into_iter().map(pair).collect::<Vec<_>>()
        })
    };
    let literal = |text: &str| Literal::Text(text.to_owned());
    let expected = select(vec![
        Expected::OneOf(vec![literal("X")]),
        Expected::OneOf(vec![
            literal("Y"),
            Literal::Integer(1),
            Literal::Boolean(true),
        ]),
        Expected::Like(Values::like("*")),
    ]);
    let predicate = (select(vec!["/a", "/b/0", "/b/1"]), expected)
        .prop_map(|(pointer, expected)| Predicate::new(pointer, expected).unwrap());
    (
        option::weighted(0.3, named(vec!["q", "r?"], vec!["*", "1"])),
        option::weighted(0.3, named(vec!["x-kind", "x-more?"], vec!["*", "a"])),
        option::weighted(0.2, Just("application/json".to_owned())),
        option::weighted(0.4, predicate),
    )
        .prop_map(|(query, headers, content_type, predicate)| {
            let conditions = match query {
                Some(query) => Conditions::default().with_query(query).unwrap(),
                None => Conditions::default(),
            };
            let conditions = conditions.with_headers(headers.unwrap_or_default());
            let types: Vec<_> = content_type.into_iter().collect();
            let conditions = conditions.unwrap().with_content_types(&types);
            let body = predicate.into_iter().collect();
            conditions.unwrap().with_body(body).unwrap()
        })
}
