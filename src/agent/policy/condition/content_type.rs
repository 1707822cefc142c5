//! A condition on the content type, and which types are clear.

use std::fmt;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::head;
use super::super::mismatch::{Mismatch, RuleError};
use super::Reading;

/// The content types that a rule takes, in small letters. None: any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ContentTypes(Vec<String>);

impl ContentTypes {
    pub(super) fn new(types: &[String]) -> Result<Self, RuleError> {
        let is_token = |text: &str| {
            let is_one = |c: char| c.is_ascii_alphanumeric() || "!#$%&'^_`{|}~+-.".contains(c);
            !text.is_empty() && text.chars().all(is_one)
        };
        for text in types {
            let parts = text.split_once('/');
            if !parts.is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype)) {
                return Err(RuleError::ContentType(text.clone()));
            }
        }
        Ok(Self(
            types.iter().map(|it| it.to_ascii_lowercase()).collect(),
        ))
    }

    pub(super) fn check(&self, headers: &HeaderMap, reading: Reading) -> Result<(), Mismatch> {
        let is_named = |essence: &str| self.0.iter().any(|it| it.eq_ignore_ascii_case(essence));
        let is_met = match reading {
            _ if self.0.is_empty() => true,
            Reading::Strict => clear_essence(headers).is_some_and(is_named),
            Reading::Generous => could_be(headers, is_named),
        };
        if is_met {
            Ok(())
        } else {
            Err(Mismatch::ContentType)
        }
    }
}

impl fmt::Display for ContentTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => Ok(()),
            types => write!(f, " ({})", types.join("|")),
        }
    }
}

/// The content type where all programs see the same: one line, and no parameter but `charset=utf-8`.
pub(super) fn clear_essence(headers: &HeaderMap) -> Option<&str> {
    if twins(headers).next().is_some() || head::announces(headers, CONTENT_TYPE.as_str()) {
        return None;
    }
    let mut lines = headers.get_all(CONTENT_TYPE).iter();
    let (line, None) = (lines.next()?.to_str().ok()?, lines.next()) else {
        return None;
    };
    let (essence, parameter) = match line.split_once(';') {
        Some((essence, parameter)) => (essence, Some(parameter.trim())),
        None => (line, None),
    };
    let is_clear = parameter.is_none_or(|parameter| {
        ["charset=utf-8", "charset=\"utf-8\""]
            .iter()
            .any(|clear| parameter.eq_ignore_ascii_case(clear))
    });
    is_clear.then(|| essence.trim_end())
}

/// Whether some line could be read as one of the types; without any line a service may guess.
fn could_be(headers: &HeaderMap, is_named: impl Fn(&str) -> bool) -> bool {
    let could_be = |line: &HeaderValue| {
        line.to_str().map_or(true, |line| {
            line.split([';', ',']).any(|part| is_named(part.trim()))
        })
    };
    let lines = headers.get_all(CONTENT_TYPE).iter();
    let mut lines = lines.chain(twins(headers)).peekable();
    lines.peek().is_none() || lines.any(could_be) || head::announces(headers, CONTENT_TYPE.as_str())
}

/// The values of headers that a service could take for the type: behind CGI or WSGI some see no difference between `-`
/// and `_`.
fn twins(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    let is_twin = |name: &HeaderName| {
        *name != CONTENT_TYPE && head::is_same(CONTENT_TYPE.as_str(), name.as_str())
    };
    headers
        .iter()
        .filter(move |(name, _)| is_twin(name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_is_one_of_the_rule_and_says_nothing_else() {
        let types = ContentTypes::new(&["application/JSON".to_owned()]).unwrap();
        for (sent, strict, generous) in [
            (&["application/json"][..], true, true),
            (&["Application/Json"], true, true),
            (&["application/json; charset=utf-8"], true, true),
            (&["application/json;charset=\"UTF-8\""], true, true),
            (&["application/json ; charset=utf-8"], true, true),
            (&["application/json; charset=utf-16"], false, true),
            (
                &["application/json; charset=utf-8; charset=utf-7"],
                false,
                true,
            ),
            (&["application/json; boundary=x"], false, true),
            (&["application/json;"], false, true),
            (&["text/plain, application/json"], false, true),
            (&["application/json", "text/plain"], false, true),
            (&["application/json\u{fc}"], false, true),
            (&["text/plain"], false, false),
            (&["application/jsonx"], false, false),
            (&[], false, true),
        ] {
            let mut headers = HeaderMap::new();
            for line in sent {
                let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
                headers.append(CONTENT_TYPE, line);
            }
            let check = |reading| types.check(&headers, reading).is_ok();
            assert_eq!(check(Reading::Strict), strict, "{sent:?}");
            assert_eq!(check(Reading::Generous), generous, "{sent:?}");
        }
    }

    #[test]
    fn what_could_be_taken_for_the_content_type_makes_it_unclear() {
        let types = ContentTypes::new(&["application/json".to_owned()]).unwrap();
        for (sent, strict, generous) in [
            (
                &[("content-type", "application/json"), ("x-type", "a/b")][..],
                true,
                true,
            ),
            (
                &[
                    ("content-type", "application/json"),
                    ("content_type", "a/b"),
                ],
                false,
                true,
            ),
            (
                &[
                    ("content-type", "a/b"),
                    ("content_type", "application/json"),
                ],
                false,
                true,
            ),
            (&[("content_type", "application/json")], false, true),
            (
                &[("content-type", "a/b"), ("content_type", "a/b")],
                false,
                false,
            ),
            (
                &[
                    ("content-type", "application/json"),
                    ("trailer", "x, Content_Type"),
                ],
                false,
                true,
            ),
            (
                &[("content-type", "a/b"), ("trailer", "content-type")],
                false,
                true,
            ),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let check = |reading| types.check(&headers, reading).is_ok();
            assert_eq!(check(Reading::Strict), strict, "{sent:?}");
            assert_eq!(check(Reading::Generous), generous, "{sent:?}");
        }
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in ["json", "a/", "/b", "a/b; charset=utf-8", "*/*", "a b/c"] {
            assert!(ContentTypes::new(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
