//! A path template: how it is read, matched and shown.
//!
//! Compared with the path as it came, byte for byte and segment by segment; a literal segment that needs
//! escapes is written with them.

use std::fmt;

use super::mismatch::{Mismatch, RuleError};
use super::path::{self, PlainPath};

/// The most segments of a template. Paths of real services have a dozen at most.
pub(super) const MAX_SEGMENTS: usize = 64;

/// `{name}` is one segment that is not empty, `{*rest}` at the end is the rest, whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    segments: Vec<Segment>,
    takes_rest: bool,
    text: Box<str>,
}

/// One segment of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// Plain text, as it stands in a path.
    Literal(Box<str>),
    /// `{name}`.
    One,
}

impl Template {
    /// Reads a template as it is written in the configuration.
    pub(super) fn parse(text: &str) -> Result<Self, RuleError> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(RuleError::NotFromRoot);
        };
        if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(RuleError::BeyondPath(c));
        }
        let mut segments = Vec::new();
        let mut takes_rest = false;
        for text in path.split('/') {
            if takes_rest {
                return Err(RuleError::AfterRest);
            }
            match parse_segment(text)? {
                Some(segment) => segments.push(segment),
                None => takes_rest = true,
            }
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(RuleError::TooManySegments);
        }
        check_literals(&segments)?;
        Ok(Self {
            segments,
            takes_rest,
            text: text.into(),
        })
    }

    /// Whether a path with these segments is one of the template. Where `encoded_slash` says so, `{name}` takes `%2f`.
    pub(super) fn check(&self, path: &[&str], encoded_slash: bool) -> Result<(), Mismatch> {
        let mut asked = path.iter();
        for (index, segment) in self.segments.iter().enumerate() {
            let Some(text) = asked.next() else {
                return Err(Mismatch::TooShort);
            };
            let matches = match segment {
                Segment::Literal(literal) => **literal == **text,
                Segment::One if !encoded_slash && path::has_encoded_slash(text) => {
                    return Err(Mismatch::EncodedSlash);
                }
                Segment::One => !text.is_empty(),
            };
            if !matches {
                return Err(Mismatch::Segment(index + 1));
            }
        }
        match (self.takes_rest, asked.next()) {
            (true, None) => Err(Mismatch::TooShort),
            (false, Some(_)) => Err(Mismatch::TooLong),
            (true, Some(first)) if asked.chain([first]).any(|it| path::has_encoded_slash(it)) => {
                Err(Mismatch::EncodedSlash)
            }
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) const fn takes_rest(&self) -> bool {
        self.takes_rest
    }
}

impl fmt::Display for Template {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A literal or `{name}`; nothing for `{*rest}`.
fn parse_segment(text: &str) -> Result<Option<Segment>, RuleError> {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !text.contains(['{', '}']) {
        return Ok(Some(Segment::Literal(text.into())));
    }
    let inside = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
        .ok_or_else(|| RuleError::Placeholder(text.to_owned()))?;
    match inside.strip_prefix('*') {
        Some(rest) if is_name(rest) => Ok(None),
        None if is_name(inside) => Ok(Some(Segment::One)),
        _ => Err(RuleError::Placeholder(text.to_owned())),
    }
}

/// Literals that no plain path can have would make a rule that never matches.
fn check_literals(segments: &[Segment]) -> Result<(), RuleError> {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.push_str(match segment {
            Segment::Literal(literal) => literal,
            Segment::One => "x",
        });
    }
    let path = if path.is_empty() { "/" } else { &path };
    let path = path.parse().map_err(|_| RuleError::NotAPath)?;
    let path = PlainPath::read(&path).map_err(RuleError::Ambiguous)?;
    if path.has_encoded_slash() {
        return Err(RuleError::Ambiguous(super::Ambiguity::EncodedSlash));
    }
    match path.cuts().next() {
        Some(_) => Err(RuleError::Ambiguous(super::Ambiguity::EncodedDelimiter)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_what_they_say() {
        for (template, path, expected) in [
            ("/", "/", Ok(())),
            ("/", "/a", Err(Mismatch::Segment(1))),
            ("/a", "/a", Ok(())),
            ("/a", "/a/", Err(Mismatch::TooLong)),
            ("/a/", "/a/", Ok(())),
            ("/a/", "/a", Err(Mismatch::TooShort)),
            ("/a/{x}", "/a/b", Ok(())),
            ("/a/{x}", "/a/%62", Ok(())),
            ("/a/{x}", "/a/", Err(Mismatch::Segment(2))),
            ("/a/{x}", "/a", Err(Mismatch::TooShort)),
            ("/a/{x}", "/a/b/c", Err(Mismatch::TooLong)),
            ("/a/{x}/c", "/a/b/d", Err(Mismatch::Segment(3))),
            ("/a", "/%61", Err(Mismatch::Segment(1))),
            ("/a", "/A", Err(Mismatch::Segment(1))),
            ("/{*rest}", "/", Ok(())),
            ("/{*rest}", "/a/b/c", Ok(())),
            ("/a/{*rest}", "/a/", Ok(())),
            ("/a/{*rest}", "/a/b/", Ok(())),
            ("/a/{*rest}", "/a", Err(Mismatch::TooShort)),
            ("/a/{*rest}", "/ab", Err(Mismatch::Segment(1))),
        ] {
            let parsed = Template::parse(template).unwrap();
            let verdict = parsed.check(&segments(path), false);
            assert_eq!(verdict, expected, "{template} {path}");
        }
    }

    #[test]
    fn an_encoded_slash_is_part_of_one_segment_where_the_rule_says_so() {
        for (template, path, without, with) in [
            ("/p/{id}", "/p/a%2Fb", Err(Mismatch::EncodedSlash), Ok(())),
            (
                "/p/{id}/x",
                "/p/a%2fb/x",
                Err(Mismatch::EncodedSlash),
                Ok(()),
            ),
            (
                "/p/{*rest}",
                "/p/a/b%2Fc",
                Err(Mismatch::EncodedSlash),
                Err(Mismatch::EncodedSlash),
            ),
            (
                "/p/{id}",
                "/p%2Fa",
                Err(Mismatch::Segment(1)),
                Err(Mismatch::Segment(1)),
            ),
        ] {
            let parsed = Template::parse(template).unwrap();
            let path = &segments(path)[..];
            assert_eq!(parsed.check(path, false), without, "{template} {path:?}");
            assert_eq!(parsed.check(path, true), with, "{template} {path:?}");
        }
    }

    fn segments(path: &str) -> Vec<&str> {
        path[1..].split('/').collect()
    }
}
