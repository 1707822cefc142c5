//! Conditions on a JSON body: what stands at a place of it.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_RANGE};
use http::{HeaderMap, HeaderName};

use super::super::MAX_GATHERED;
use super::super::head;
use super::super::mismatch::{Mismatch, RuleError};
use super::super::pattern::{Values, fold, is_alike};
use super::Reading;
use super::content_type::clear_essence;
use super::json::{Json, rounded};

/// The body of a call, as far as it is at hand.
#[derive(Debug, Clone, Copy)]
pub enum GivenBody<'a> {
    /// Nobody has looked at it yet.
    NotGathered,
    /// All of it.
    Whole(&'a WholeBody),
    /// It is longer than what is gathered.
    TooLong,
}

/// A body that was gathered. It is read at most once, and only when a rule asks.
#[derive(Debug, Default)]
pub struct WholeBody {
    bytes: Bytes,
    json: OnceLock<Option<Json>>,
}

/// What must stand at one place of a JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    /// As it is written: a JSON pointer (RFC 6901).
    pointer: Arc<str>,
    /// Its parts without escapes.
    parts: Vec<String>,
    expected: Expected,
}

/// What a predicate takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// One of these, to the letter.
    OneOf(Vec<Literal>),
    /// A text of this pattern.
    Like(Values),
}

/// A value in a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
}

impl<'a> GivenBody<'a> {
    /// A body that is at hand, as far as rules are told of it.
    #[must_use]
    pub fn of(whole: &'a WholeBody) -> Self {
        match whole.bytes.len() > MAX_GATHERED {
            true => Self::TooLong,
            false => Self::Whole(whole),
        }
    }
}

impl WholeBody {
    /// This body.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            json: OnceLock::new(),
        }
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn json(&self) -> Option<&Json> {
        let read = || Json::read(&self.bytes);
        self.json.get_or_init(read).as_ref()
    }
}

impl Predicate {
    /// What must stand where a JSON pointer such as `/fields/project/key` leads.
    ///
    /// # Errors
    /// What is not a pointer.
    pub fn new(pointer: &str, expected: Expected) -> Result<Self, RuleError> {
        let bad = || RuleError::Pointer(pointer.to_owned());
        let mut parts = Vec::new();
        // The empty pointer is the whole body.
        for part in pointer.split('/').skip(1) {
            let mut plain = String::with_capacity(part.len());
            let mut rest = part.chars();
            while let Some(c) = rest.next() {
                plain.push(match (c, c == '~') {
                    (_, true) => match rest.next() {
                        Some('0') => '~',
                        Some('1') => '/',
                        Some(_) | None => return Err(bad()),
                    },
                    (c, false) => c,
                });
            }
            parts.push(plain);
        }
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(bad());
        }
        Ok(Self {
            pointer: pointer.into(),
            parts,
            expected,
        })
    }

    /// For a rule that denies.
    pub(super) fn folded(self) -> Self {
        let expected = match self.expected {
            Expected::Like(values) => Expected::Like(values.folded()),
            Expected::OneOf(literals) => {
                let text = |it: &Literal| match it {
                    // As it is found: rounded, where programs round it.
                    Literal::Integer(number) => rounded(*number).to_string(),
                    Literal::Text(_) | Literal::Boolean(_) => fold(&it.to_string()),
                };
                Expected::Like(Values::OneOf(literals.iter().map(text).collect()))
            }
        };
        Self {
            parts: self.parts.iter().map(|it| fold(it)).collect(),
            expected,
            ..self
        }
    }

    /// To the letter, where no other name could be taken for one on the way.
    fn holds(&self, body: &Json) -> bool {
        let mut here = body;
        for part in &self.parts {
            let next = match here {
                Json::Object(members) => {
                    let alike = members.keys().filter(|name| is_alike(name, part));
                    (alike.count() == 1).then(|| members.get(part)).flatten()
                }
                Json::Array(items) => index(part).and_then(|index| items.get(index)),
                Json::Null
                | Json::Boolean(_)
                | Json::Integer(_)
                | Json::Number(_)
                | Json::Text(_) => None,
            };
            let Some(next) = next else { return false };
            here = next;
        }
        match (&self.expected, here) {
            (Expected::Like(values), Json::Text(text)) => !text.contains('\0') && values.take(text),
            (Expected::OneOf(literals), found) => literals.iter().any(|it| it.is(found)),
            (Expected::Like(_), _) => false,
        }
    }

    /// Where names and values are alike, whatever their kind. What is expected was folded.
    fn could_hold(&self, here: &Json, parts: &[String]) -> bool {
        match (parts.split_first(), here) {
            (Some((part, rest)), Json::Object(members)) => members
                .iter()
                .filter(|(name, _)| fold(name) == *part)
                .any(|(_, next)| self.could_hold(next, rest)),
            (Some((part, rest)), Json::Array(items)) => index(part)
                .and_then(|index| items.get(index))
                .is_some_and(|next| self.could_hold(next, rest)),
            (Some(_), _) => false,
            (None, found) => {
                let text = match found {
                    Json::Text(text) => text.clone(),
                    Json::Integer(number) => number.to_string(),
                    Json::Number(number) => number.to_string(),
                    Json::Boolean(truth) => truth.to_string(),
                    Json::Null | Json::Array(_) | Json::Object(_) => return false,
                };
                let text = fold(text.split('\0').next().unwrap_or_default().trim());
                match &self.expected {
                    Expected::Like(values) => values.take(&text),
                    Expected::OneOf(_) => false,
                }
            }
        }
    }
}

impl Literal {
    fn is(&self, found: &Json) -> bool {
        match (self, found) {
            (Self::Text(text), Json::Text(found)) => text == found,
            (Self::Integer(number), Json::Integer(found)) => number == found,
            (Self::Boolean(truth), Json::Boolean(found)) => truth == found,
            (Self::Text(_) | Self::Integer(_) | Self::Boolean(_), _) => false,
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Boolean(truth) => truth.fmt(f),
        }
    }
}

impl fmt::Display for Predicate {
    /// `/fields/project/key=AB-*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.pointer)?;
        match &self.expected {
            Expected::Like(values) => values.fmt(f),
            Expected::OneOf(literals) => {
                let texts: Vec<_> = literals.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("|"))
            }
        }
    }
}

/// Whether all predicates hold, and if not, the first that does not.
pub(super) fn check(
    predicates: &[Predicate],
    headers: &HeaderMap,
    body: GivenBody<'_>,
    reading: Reading,
) -> Result<(), Mismatch> {
    if predicates.is_empty() {
        return Ok(());
    }
    let is_clear = is_clear_json(headers);
    let unclear = match reading {
        Reading::Strict => Err(Mismatch::UnclearBody),
        Reading::Generous => Ok(()),
    };
    let unmet = |predicate: &Predicate| Err(Mismatch::Body(Arc::clone(&predicate.pointer)));
    let whole = match body {
        // Whatever it holds, it would not do.
        _ if !is_clear && reading == Reading::Strict => return unclear,
        GivenBody::NotGathered => return Err(Mismatch::BodyNotGiven),
        GivenBody::TooLong => return unclear,
        // Nothing stands anywhere in it.
        GivenBody::Whole(whole) if whole.bytes.is_empty() => return unmet(&predicates[0]),
        GivenBody::Whole(whole) => whole,
    };
    let Some(json) = whole.json().filter(|_| is_clear) else {
        return unclear;
    };
    let holds = |predicate: &&Predicate| match reading {
        Reading::Strict => predicate.holds(json),
        Reading::Generous => predicate.could_hold(json, &predicate.parts),
    };
    match predicates.iter().find(|it| !holds(it)) {
        Some(predicate) => unmet(predicate),
        None => Ok(()),
    }
}

/// Whether the head says JSON in UTF-8, as it is, to every program.
fn is_clear_json(headers: &HeaderMap) -> bool {
    let is_json = |essence: &str| {
        let essence = essence.to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    };
    // A body that is packed, or a piece of one that the service puts together.
    let makes_other = |name: &HeaderName| {
        let mut making = [CONTENT_ENCODING, CONTENT_RANGE].into_iter();
        making.any(|it| head::is_same(it.as_str(), name.as_str()))
    };
    clear_essence(headers).is_some_and(is_json) && !headers.keys().any(makes_other)
}

/// A place in a list, without leading zeros.
fn index(part: &str) -> Option<usize> {
    let is_plain = part == "0" || !part.starts_with(['0', '+']);
    part.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn a_predicate_looks_at_one_place_of_a_body_and_at_what_could_be_taken_for_it() {
        let text = |text: &str| Expected::OneOf(vec![Literal::Text(text.to_owned())]);
        let like = |pattern| Expected::Like(Values::like(pattern));
        let large = || Expected::OneOf(vec![Literal::Integer(9_007_199_254_740_993)]);
        let numbers = || Expected::OneOf(vec![Literal::Integer(5), Literal::Boolean(true)]);
        for (pointer, expected, body, strict, generous) in [
            ("/a/b", text("X"), r#"{"a":{"b":"X"}}"#, true, true),
            (
                "/a/b",
                text("X"),
                r#"{"a":{"b":"X","c":1},"d":2}"#,
                true,
                true,
            ),
            ("/a/b", text("X"), r#"{"a":{"b":"\u0058"}}"#, true, true),
            ("/a/b", text("X"), r#"{"a":{"b":"x"}}"#, false, true),
            ("/a/b", text("X"), r#"{"A":{"B":"X"}}"#, false, true),
            (
                "/a/b",
                text("X"),
                r#"{"a":{"b":"X"},"A":{"b":"Y"}}"#,
                false,
                true,
            ),
            (
                "/s",
                text("X"),
                "{\"s\":\"X\",\"\u{17f}\":\"Y\"}",
                false,
                true,
            ),
            (
                "/a/b",
                text("X"),
                r#"{"a":{"b":"Y"},"A":{"b":"X"}}"#,
                false,
                true,
            ),
            ("/a/b", text("X"), r#"{"a":{"b":"Y"}}"#, false, false),
            ("/a/b", text("X"), r#"{"a":{"b":["X"]}}"#, false, false),
            ("/a/b", text("X"), r#"{"a":"X"}"#, false, false),
            ("/a/b", text("X"), r#"{}"#, false, false),
            ("/a/b", text("X"), "", false, false),
            // What cannot be read by all alike is refused by both.
            ("/a/b", text("X"), r#"{"a":{"b":"X","b":"Y"}}"#, false, true),
            ("/a/b", text("X"), "not json", false, true),
            ("/a", like("AB-*"), r#"{"a":"AB-1"}"#, true, true),
            ("/a", like("AB-*"), r#"{"a":"AB-\u0000"}"#, false, true),
            ("/a", like("AB-*"), r#"{"a":"xAB-1"}"#, false, false),
            ("/a", like("*"), r#"{"a":5}"#, false, true),
            ("/a", numbers(), r#"{"a":5}"#, true, true),
            ("/a", numbers(), r#"{"a":true}"#, true, true),
            ("/a", numbers(), r#"{"a":5.0}"#, false, true),
            ("/a", numbers(), r#"{"a":"5"}"#, false, true),
            ("/a", numbers(), r#"{"a":6}"#, false, false),
            // Neighbours that are the same number to many programs.
            ("/a", large(), r#"{"a":9007199254740993}"#, false, true),
            ("/a", large(), r#"{"a":9007199254740992}"#, false, true),
            ("/a", large(), r#"{"a":9007199254740992.5}"#, false, true),
            ("/a", large(), r#"{"a":9007199254740990}"#, false, false),
            ("/a/0/b", text("X"), r#"{"a":[{"b":"X"}]}"#, true, true),
            ("/a/00/b", text("X"), r#"{"a":[{"b":"X"}]}"#, false, false),
            ("/a~1b/~0", text("X"), r#"{"a/b":{"~":"X"}}"#, true, true),
            ("", text("X"), r#""X""#, true, true),
        ] {
            let predicate = Predicate::new(pointer, expected).unwrap();
            let whole = WholeBody::new(Bytes::copy_from_slice(body.as_bytes()));
            let given = GivenBody::Whole(&whole);
            let met = check(
                std::slice::from_ref(&predicate),
                &json(),
                given,
                Reading::Strict,
            );
            assert_eq!(met.is_ok(), strict, "{predicate} {body}: {met:?}");
            let met = check(
                &[predicate.clone().folded()],
                &json(),
                given,
                Reading::Generous,
            );
            assert_eq!(met.is_ok(), generous, "deny {predicate} {body}: {met:?}");
        }
    }

    #[test]
    fn what_the_head_makes_unclear_is_never_allowed_and_always_denied() {
        let any = Predicate::new("/a", Expected::Like(Values::like("X"))).unwrap();
        let whole = WholeBody::new(Bytes::from_static(br#"{"a":"Y"}"#));
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-type", "application/json; charset=utf-16"),
            ("content-type", "multipart/form-data; boundary=x"),
            ("content-type", "application/json, text/plain"),
            ("content-encoding", "gzip"),
            ("content-encoding", "identity"),
            ("content-range", "bytes 0-8/20"),
            ("content_encoding", "gzip"),
        ] {
            let mut headers = json();
            let name: HeaderName = name.parse().unwrap();
            headers.insert(name, HeaderValue::from_static(value));
            let check =
                |reading, given| check(std::slice::from_ref(&any), &headers, given, reading);
            let given = GivenBody::Whole(&whole);
            assert_eq!(check(Reading::Strict, given), Err(Mismatch::UnclearBody));
            assert_eq!(check(Reading::Generous, given), Ok(()));
            // There is no need to gather it.
            let none = GivenBody::NotGathered;
            assert_eq!(check(Reading::Strict, none), Err(Mismatch::UnclearBody));
        }
        let check = |reading, given| check(std::slice::from_ref(&any), &json(), given, reading);
        let needed = Err(Mismatch::BodyNotGiven);
        assert_eq!(check(Reading::Strict, GivenBody::NotGathered), needed);
        assert_eq!(check(Reading::Generous, GivenBody::NotGathered), needed);
        assert_eq!(
            check(Reading::Strict, GivenBody::TooLong),
            Err(Mismatch::UnclearBody)
        );
        assert_eq!(check(Reading::Generous, GivenBody::TooLong), Ok(()));
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        for pointer in ["a", "a/b", "/a~", "/a~2", "#/a"] {
            let new = Predicate::new(pointer, Expected::Like(Values::like("*")));
            assert_eq!(new, Err(RuleError::Pointer(pointer.to_owned())));
        }
    }

    fn json() -> HeaderMap {
        let value = HeaderValue::from_static("application/json");
        HeaderMap::from_iter([(CONTENT_TYPE, value)])
    }
}
