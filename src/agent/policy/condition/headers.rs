//! A condition on headers.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::head;
use super::super::mismatch::{Mismatch, RuleError};
use super::super::pattern::{Values, fold};
use super::{MAX_NAMED, Reading, optional, write_named};
use crate::forwarding;

/// Headers that relay and agent set, or that say how the message is framed: what a caller writes in them is not what is
/// sent.
const SET_HERE: [&str; 5] = ["content-length", "expect", "host", "trailer", "via"];

/// The headers that a rule asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers(Vec<Header>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    name: HeaderName,
    /// As CGI programs see it, to whom `-` and `_` are the same.
    dashed: Box<str>,
    is_optional: bool,
    values: Values,
}

impl Headers {
    pub(super) fn new(headers: Vec<(String, Values)>) -> Result<Self, RuleError> {
        if headers.len() > MAX_NAMED {
            return Err(RuleError::TooManyNamed);
        }
        let mut known: Vec<Header> = Vec::with_capacity(headers.len());
        for (written, values) in headers {
            let (name, is_optional) = optional(&written);
            let name: HeaderName = match name.parse() {
                Ok(name) => name,
                Err(_) => return Err(RuleError::Header(written)),
            };
            let is_twin = |it: &Header| head::is_same(&it.dashed, name.as_str());
            if known.iter().any(is_twin) {
                return Err(RuleError::Header(written));
            }
            if SET_HERE.contains(&name.as_str()) || forwarding::is_of_this_hop(name.as_str()) {
                return Err(RuleError::HeaderNotPassedOn(name));
            }
            known.push(Header {
                dashed: name.as_str().replace('_', "-").into(),
                name,
                is_optional,
                values,
            });
        }
        Ok(Self(known))
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|header| &header.name)
    }

    /// For a rule that denies.
    pub(super) fn folded(self) -> Self {
        let folded = |it: Header| Header {
            values: it.values.folded(),
            ..it
        };
        Self(self.0.into_iter().map(folded).collect())
    }

    pub(super) fn check(&self, sent: &HeaderMap, reading: Reading) -> Result<(), Mismatch> {
        let unmet = self.0.iter().find(|header| match reading {
            Reading::Strict => !header.is_met(sent),
            Reading::Generous => !header.could_be_met(sent),
        });
        match unmet {
            Some(header) => Err(Mismatch::Header(header.name.as_str().into())),
            None => Ok(()),
        }
    }
}

impl Header {
    /// In one line as it would be written, and with no other, nor a trailer, that a service could take for it.
    fn is_met(&self, sent: &HeaderMap) -> bool {
        if head::announces(sent, &self.dashed) {
            return false;
        }
        // HTTP/2 may bring blanks around a value, which in HTTP/1.1 do not belong to it.
        let is_taken = |value: &str| value.trim() == value && self.values.take(value);
        let mut lines = self.lines(sent);
        match (lines.next(), lines.next()) {
            (None, _) => self.is_optional,
            (Some((name, value)), None) => *name == self.name && value.to_str().is_ok_and(is_taken),
            (Some(_), Some(_)) => false,
        }
    }

    /// In any line or in a part of one, in one that is not text, or in a trailer, of which nobody knows what it will be.
    fn could_be_met(&self, sent: &HeaderMap) -> bool {
        let could_be = |value: &HeaderValue| {
            value.to_str().map(fold).map_or(true, |value| {
                let mut parts = value.split(',').map(str::trim);
                self.values.take(&value) || parts.any(|part| self.values.take(part))
            })
        };
        self.lines(sent).any(|(_, value)| could_be(value))
            || (self.is_optional && self.lines(sent).next().is_none())
            || head::announces(sent, &self.dashed)
    }

    fn lines<'a>(
        &'a self,
        sent: &'a HeaderMap,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        sent.iter()
            .filter(|(name, _)| head::is_same(&self.dashed, name.as_str()))
    }
}

impl fmt::Display for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        let named = self.0.iter();
        let named = named.map(|it| (it.name.as_str(), it.is_optional, &it.values));
        write_named(f, "headers", named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_stands_in_one_line_and_has_a_value_of_the_rule() {
        let headers = headers(&[("X-Kind", "a*"), ("X-More?", "1")]);
        for (sent, strict, generous) in [
            (&["x-kind: ab"][..], true, true),
            (&["x-kind: ab", "x-more: 1"], true, true),
            (&["x-kind: ab", "x-other: 1"], true, true),
            (&["x-kind: b, ab"], false, true),
            (&["x-kind: AB"], false, true),
            (&["x-kind: ab", "x-kind: ab"], false, true),
            (&["x-kind: b", "x-kind: ab"], false, true),
            (&["x-kind: ab", "x_kind: b"], false, true),
            (&["x_kind: ab"], false, true),
            (&["x-kind: ab", "x-more: 2"], false, false),
            (&["x-kind: \u{fc}"], false, true),
            (&["x-kind: ab "], false, true),
            (&["x-kind: ab", "trailer: x-sum"], true, true),
            (&["x-kind: ab", "trailer: x-sum, X_Kind"], false, true),
            (&["x-kind: b", "trailer: x-kind"], false, true),
            (&["x-kind: ab", "trailer: x-more"], false, true),
            (&["x-kind: b"], false, false),
            (&["x-more: 1"], false, false),
            (&[], false, false),
        ] {
            let map = map(sent);
            let met = headers.check(&map, Reading::Strict);
            assert_eq!(met.is_ok(), strict, "{sent:?}: {met:?}");
            let met = headers.clone().folded().check(&map, Reading::Generous);
            assert_eq!(met.is_ok(), generous, "{sent:?}: {met:?}");
        }
    }

    #[test]
    fn a_header_that_is_not_passed_on_cannot_be_asked_for() {
        for name in [
            "Host",
            "connection",
            "Relay-Caller",
            "a b",
            "?",
            "Forwarded",
            "X-Forwarded-For",
            "X_Real_IP",
            "Proxy",
            "TE",
            "Upgrade",
            "transfer-encoding",
        ] {
            assert!(
                Headers::new(vec![(name.to_owned(), Values::like("*"))]).is_err(),
                "{name}"
            );
        }
        let twice = ["X-A", "x_a"].map(|name| (name.to_owned(), Values::like("*")));
        assert!(Headers::new(twice.to_vec()).is_err());
    }

    fn headers(named: &[(&str, &str)]) -> Headers {
        let named = named.iter();
        let named = named.map(|(name, values)| ((*name).to_owned(), Values::like(values)));
        Headers::new(named.collect()).unwrap()
    }

    fn map(lines: &[&str]) -> HeaderMap {
        let lines = lines.iter().map(|line| line.split_once(": ").unwrap());
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(name.parse::<HeaderName>().unwrap(), value);
        }
        map
    }
}
