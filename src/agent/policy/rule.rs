//! One rule: methods and a path template; how it is read, matched and shown.
//!
//! A template is compared with the path as it came, byte for byte and segment by segment; a literal
//! segment that needs escapes is written with them. The query is free.

use std::fmt;

use http::Method;

use super::Asked;

/// The most segments of a template. Paths of real services have a dozen at most.
const MAX_SEGMENTS: usize = 64;

/// Methods and a path template: `{name}` is one segment that is not empty, `{*rest}` at the end is
/// the rest, whatever it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    methods: Vec<Method>,
    segments: Vec<Segment>,
    takes_rest: bool,
    template: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    One,
}

/// Why a rule cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A rule without methods would allow nothing.
    #[error("no method is given")]
    NoMethod,
    /// Not a method at all.
    #[error("{0:?} is not an HTTP method")]
    Method(String),
    /// Methods are case-sensitive, and those in use are upper-case.
    #[error("{0:?} is written in upper case: {upper:?}", upper = .0.to_ascii_uppercase())]
    LowerCaseMethod(String),
    /// `CONNECT` opens tunnels to elsewhere, and `TRACE` shows the credentials that are set here.
    #[error("{0} cannot be allowed")]
    ForbiddenMethod(Method),
    /// A template is a path.
    #[error("the template does not begin with '/'")]
    NotFromRoot,
    /// Queries are not matched.
    #[error("the template has a {0:?}; only the path is matched")]
    BeyondPath(char),
    /// The template itself is ambiguous, so no path could match it.
    #[error("no path can match the template")]
    Ambiguous(#[source] super::Ambiguity),
    /// A brace that is not a whole segment `{name}` or `{*rest}`.
    #[error("{0:?} is neither plain text, nor {{name}}, nor {{*rest}}")]
    Placeholder(String),
    /// `{*rest}` takes all that follows.
    #[error("{{*rest}} can only stand at the end")]
    AfterRest,
    /// A character that cannot stand in a path.
    #[error("the template is not a path")]
    NotAPath,
    /// More segments than any real path.
    #[error("the template has more than {MAX_SEGMENTS} segments")]
    TooManySegments,
}

/// The first condition of a rule that was not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another method.
    #[error("the method is not among those of the rule")]
    Method,
    /// This segment, counted from one, differs.
    #[error("segment {0} of the path differs from the template")]
    Segment(usize),
    /// The path ends before the template does.
    #[error("the path has fewer segments than the template")]
    TooShort,
    /// The template ends before the path does.
    #[error("the path has more segments than the template")]
    TooLong,
}

impl Rule {
    /// Reads a rule as it is written in the configuration.
    ///
    /// # Errors
    /// The first mistake, as [`RuleError`].
    pub fn parse<M: AsRef<str>>(methods: &[M], template: &str) -> Result<Self, RuleError> {
        if methods.is_empty() {
            return Err(RuleError::NoMethod);
        }
        let methods = methods
            .iter()
            .map(|method| parse_method(method.as_ref()))
            .collect::<Result<_, _>>()?;
        let Some(path) = template.strip_prefix('/') else {
            return Err(RuleError::NotFromRoot);
        };
        if let Some(c) = template.chars().find(|c| matches!(c, '?' | '#')) {
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
            methods,
            segments,
            takes_rest,
            template: template.into(),
        })
    }

    /// Whether the rule allows what is asked, and if not, the first condition that fails.
    pub(super) fn check(&self, asked: &Asked<'_>) -> Result<(), Mismatch> {
        if !self.methods.contains(asked.method) {
            return Err(Mismatch::Method);
        }
        let path = asked.path_and_query.path();
        let mut asked = path.strip_prefix('/').unwrap_or(path).split('/');
        for (index, segment) in self.segments.iter().enumerate() {
            let Some(text) = asked.next() else {
                return Err(Mismatch::TooShort);
            };
            let matches = match segment {
                Segment::Literal(literal) => **literal == *text,
                Segment::One => !text.is_empty(),
            };
            if !matches {
                return Err(Mismatch::Segment(index + 1));
            }
        }
        match (self.takes_rest, asked.next()) {
            (true, None) => Err(Mismatch::TooShort),
            (false, Some(_)) => Err(Mismatch::TooLong),
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }
}

impl fmt::Display for Rule {
    /// `GET, PUT /issue/{key}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, method) in self.methods.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{method}")?;
        }
        write!(f, " {}", self.template)
    }
}

fn parse_method(text: &str) -> Result<Method, RuleError> {
    let method =
        Method::from_bytes(text.as_bytes()).map_err(|_| RuleError::Method(text.to_owned()))?;
    if text.chars().any(|c| c.is_ascii_lowercase()) {
        return Err(RuleError::LowerCaseMethod(text.to_owned()));
    }
    if matches!(method, Method::CONNECT | Method::TRACE) {
        return Err(RuleError::ForbiddenMethod(method));
    }
    Ok(method)
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

/// Literals that no plain path can have would make a rule that never allows anything.
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
    super::path::check(&path).map_err(RuleError::Ambiguous)
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
            let rule = Rule::parse(&["GET"], template).unwrap();
            assert_eq!(
                rule.check(&Asked::get("", &path.parse().unwrap())),
                expected,
                "{template} {path}"
            );
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let mistake = |methods: &[&str], template| Rule::parse(methods, template).unwrap_err();
        let template = |template| mistake(&["GET"], template);
        assert_eq!(mistake(&[], "/"), RuleError::NoMethod);
        assert_eq!(mistake(&["G T"], "/"), RuleError::Method("G T".into()));
        assert_eq!(
            mistake(&["get"], "/").to_string(),
            "\"get\" is written in upper case: \"GET\""
        );
        assert_eq!(
            mistake(&["TRACE"], "/"),
            RuleError::ForbiddenMethod(Method::TRACE)
        );
        assert_eq!(template("a"), RuleError::NotFromRoot);
        assert_eq!(template("/a?b"), RuleError::BeyondPath('?'));
        assert_eq!(template("/a b"), RuleError::NotAPath);
        assert_eq!(template("/{*rest}/a"), RuleError::AfterRest);
        assert_eq!(
            template("/{key}.json").to_string(),
            "\"{key}.json\" is neither plain text, nor {name}, nor {*rest}"
        );
        for placeholder in ["/{}", "/{*}", "/{", "/a}", "/{a-b}", "/{{a}}"] {
            assert!(matches!(template(placeholder), RuleError::Placeholder(_)));
        }
        for ambiguous in ["/a//b", "/../a", "/a%2fb", "/%2e"] {
            assert!(matches!(template(ambiguous), RuleError::Ambiguous(_)));
        }
        assert_eq!(template(&"/a".repeat(65)), RuleError::TooManySegments);
    }

    #[test]
    fn a_rule_shows_itself_as_written() {
        let rule = Rule::parse(&["GET", "PUT"], "/issue/{key}").unwrap();
        assert_eq!(rule.to_string(), "GET, PUT /issue/{key}");
    }
}
