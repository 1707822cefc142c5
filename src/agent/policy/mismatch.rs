//! Why a rule cannot be, and why one does not decide. Texts for the private side alone.

use std::sync::Arc;

use http::{HeaderName, Method};

use super::template::MAX_SEGMENTS;

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
    /// A parameter without a name, or one that stands there twice.
    #[error("{0:?} is no name of a parameter, or stands there twice")]
    Parameter(String),
    /// What is not the name of a header, or stands there twice.
    #[error("{0:?} is no name of a header, or stands there twice")]
    Header(String),
    /// A header that ends here or is set here.
    #[error("the header {0} is not passed on as callers write it")]
    HeaderNotPassedOn(HeaderName),
    /// What is not a content type.
    #[error("{0:?} is no content type; parameters are left out")]
    ContentType(String),
    /// What is not a JSON pointer.
    #[error("{0:?} is no JSON pointer such as \"/fields/project/key\"")]
    Pointer(String),
    /// More parameters or headers than any real rule.
    #[error("more than 64 names are given")]
    TooManyNamed,
    /// More segments than any real path.
    #[error("the template has more than {MAX_SEGMENTS} segments")]
    TooManySegments,
}

/// The first condition of a rule that was not met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// No reading of the path lies under the template of a rule that denies.
    #[error("the path is not one of the template, however it is read")]
    NotCovered,
    /// `%2f` where the rule does not take it.
    #[error("the path has an encoded slash (%2f), which the rule does not take there")]
    EncodedSlash,
    /// `%3f` or `%23` where the rest of the template stands behind it.
    #[error("cut at its encoded '?' or '#' (%3f, %23), the path is not one of the template")]
    EncodedDelimiter,
    /// The query can be read in more than one way, or not at all.
    #[error("the query can be read in more than one way, or not at all")]
    UnclearQuery,
    /// A parameter that the rule does not list.
    #[error("the query has a parameter that the rule does not list")]
    UnlistedParameter,
    /// A parameter that stands there twice.
    #[error("the query has the parameter {0} more than once")]
    RepeatedParameter(Arc<str>),
    /// A parameter is missing, or has another value.
    #[error("the query's parameter {0} is not as the rule says")]
    Parameter(Arc<str>),
    /// A header is missing, has another value, or stands there twice.
    #[error("the header {0} is not as the rule says, or has several lines")]
    Header(Arc<str>),
    /// Another content type, or one that can be read in more than one way.
    #[error("the content type is not among those of the rule, or is not clear")]
    ContentType,
    /// A place of the body holds something else, or is not there.
    #[error("the body's {0:?} is not as the rule says")]
    Body(Arc<str>),
    /// Programs could read the body differently.
    #[error(
        "the body is not JSON that every program reads the same, or is too long to be looked at"
    )]
    UnclearBody,
    /// All else holds, and the body is not at hand.
    #[error("all else holds, but the rule needs the body, which is not given")]
    BodyNotGiven,
    /// Another caller, or an unknown one.
    #[error("the caller is not among those of the rule")]
    Caller,
}

impl Mismatch {
    /// How many of a rule's conditions hold before the one that fails, for comparison: conditions are looked at
    /// in the order in which they stand here.
    pub(super) const fn nearness(&self) -> usize {
        match self {
            Self::Method | Self::NotCovered => 0,
            Self::Segment(place) => *place,
            Self::TooShort | Self::TooLong => MAX_SEGMENTS + 1,
            Self::EncodedSlash | Self::EncodedDelimiter => MAX_SEGMENTS + 2,
            Self::Caller => MAX_SEGMENTS + 3,
            Self::UnclearQuery
            | Self::UnlistedParameter
            | Self::RepeatedParameter(_)
            | Self::Parameter(_) => MAX_SEGMENTS + 4,
            Self::Header(_) => MAX_SEGMENTS + 5,
            Self::ContentType => MAX_SEGMENTS + 6,
            Self::Body(_) | Self::UnclearBody | Self::BodyNotGiven => MAX_SEGMENTS + 7,
        }
    }

    /// Whether method and path are those of the rule, and a further condition fails.
    pub(super) const fn is_beyond_path(&self) -> bool {
        match self {
            Self::Method
            | Self::Segment(_)
            | Self::TooShort
            | Self::TooLong
            | Self::NotCovered
            | Self::EncodedSlash
            | Self::EncodedDelimiter
            | Self::Caller => false,
            Self::UnclearQuery
            | Self::UnlistedParameter
            | Self::RepeatedParameter(_)
            | Self::Parameter(_)
            | Self::Header(_)
            | Self::ContentType
            | Self::Body(_)
            | Self::UnclearBody
            | Self::BodyNotGiven => true,
        }
    }
}
