//! What a rule can ask of a call beyond method, path and caller. All of it must hold.
//!
//! A rule that allows is strict: its conditions hold when they do in every way in which a program could
//! read the call. A rule that denies is generous: one way is enough, and so is what cannot be read.

mod body;
mod content_type;
mod headers;
mod json;
mod query;

use std::fmt;

use http::HeaderName;

pub use self::body::{Expected, GivenBody, Literal, Predicate, WholeBody};

use self::content_type::ContentTypes;
use self::headers::Headers;
use self::query::Query;
use super::Asked;
use super::mismatch::{Mismatch, RuleError};
use super::path::PlainPath;
use super::pattern::Values;

/// The most parameters or headers that one rule can name. No sensible rule has a tenth of them.
const MAX_NAMED: usize = 64;

/// What else must hold for a rule to decide. As it begins, nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    query: Option<Query>,
    headers: Headers,
    content_types: ContentTypes,
    body: Vec<Predicate>,
}

/// Which way unclear things fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Every reading must meet the condition: a rule that allows.
    Strict,
    /// One is enough: a rule that denies.
    Generous,
}

impl Conditions {
    /// With a query of these parameters and no others, each at most once; one whose name ends in `?` may be
    /// missing. In a rule that denies, other parameters change nothing.
    ///
    /// # Errors
    /// A name that is empty or written twice, or too many of them.
    pub fn with_query(mut self, parameters: Vec<(String, Values)>) -> Result<Self, RuleError> {
        self.query = Some(Query::new(parameters)?);
        Ok(self)
    }

    /// With these headers, each in one line; one whose name ends in `?` may be missing. Others are free.
    ///
    /// # Errors
    /// A name that is none, is written twice or belongs to the connection, or too many of them.
    pub fn with_headers(mut self, headers: Vec<(String, Values)>) -> Result<Self, RuleError> {
        self.headers = Headers::new(headers)?;
        Ok(self)
    }

    /// With one of these content types; any, if there are none.
    ///
    /// # Errors
    /// What is not a type such as `application/json`.
    pub fn with_content_types(mut self, types: &[String]) -> Result<Self, RuleError> {
        self.content_types = ContentTypes::new(types)?;
        Ok(self)
    }

    /// With a JSON body of which these hold; none: any body.
    ///
    /// # Errors
    /// Too many of them.
    pub fn with_body(mut self, predicates: Vec<Predicate>) -> Result<Self, RuleError> {
        if predicates.len() > MAX_NAMED {
            return Err(RuleError::TooManyNamed);
        }
        self.body = predicates;
        Ok(self)
    }

    /// Whether the body is looked at.
    pub(super) const fn look_at_body(&self) -> bool {
        !self.body.is_empty()
    }

    /// Whether a header is asked for, be it that it may be missing.
    #[must_use]
    pub fn asks_for(&self, header: &HeaderName) -> bool {
        self.header_names().any(|name| name == header)
    }

    /// The headers that are asked for.
    pub(super) fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.headers.names()
    }

    /// The same for a rule that denies, which does not tell capitals from small letters.
    pub(super) fn folded(self) -> Self {
        Self {
            query: self.query.map(Query::folded),
            headers: self.headers.folded(),
            content_types: self.content_types,
            body: self.body.into_iter().map(Predicate::folded).collect(),
        }
    }

    /// Whether all of them hold, and if not, the first that does not.
    pub(super) fn check(
        &self,
        asked: &Asked<'_>,
        path: PlainPath<'_>,
        reading: Reading,
    ) -> Result<(), Mismatch> {
        if let Some(query) = &self.query {
            let sent = asked.path_and_query.query().unwrap_or_default();
            match reading {
                Reading::Strict => query.check(path, sent)?,
                Reading::Generous => query.check_generously(path, sent)?,
            }
        }
        self.headers.check(asked.headers, reading)?;
        self.content_types.check(asked.headers, reading)?;
        // Last, so that a body is gathered only where nothing else says no.
        body::check(&self.body, asked.headers, asked.body, reading)
    }
}

impl fmt::Display for Conditions {
    /// ` (query fields=*, maxResults?=50) (headers x-trace?=*)`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(query) = &self.query {
            write!(f, "{query}")?;
        }
        write!(f, "{}{}", self.headers, self.content_types)?;
        for (index, predicate) in self.body.iter().enumerate() {
            let before = if index == 0 { " (body " } else { ", " };
            write!(f, "{before}{predicate}")?;
        }
        f.write_str(if self.body.is_empty() { "" } else { ")" })
    }
}

/// A name as it is written in a rule, and whether it may be missing.
fn optional(name: &str) -> (&str, bool) {
    match name.strip_suffix('?') {
        Some(name) => (name, true),
        None => (name, false),
    }
}

/// ` (kind name=values, name?=values)`.
fn write_named<'a>(
    f: &mut fmt::Formatter<'_>,
    kind: &str,
    named: impl Iterator<Item = (&'a str, bool, &'a Values)>,
) -> fmt::Result {
    write!(f, " ({kind}")?;
    for (index, (name, is_optional, values)) in named.enumerate() {
        let before = if index == 0 { " " } else { ", " };
        let mark = if is_optional { "?" } else { "" };
        write!(f, "{before}{name}{mark}={values}")?;
    }
    f.write_str(")")
}
