//! What a value may be: a pattern with `*`, or a list of exact texts.
//!
//! A pattern always stands for the whole text. `*` is any text, also none; nothing else has a meaning,
//! so that no dot and no bracket surprises anyone.

use std::fmt;

/// The texts that a condition takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// Those of a pattern.
    Pattern(Pattern),
    /// These, exactly; a `*` is a plain character here.
    OneOf(Vec<String>),
}

/// A text in which `*` stands for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    first: String,
    /// What follows the first star, the second, and so on; none in a pattern without stars.
    after_stars: Vec<String>,
}

impl Values {
    /// Those of a pattern such as `AB-*`.
    #[must_use]
    pub fn like(pattern: &str) -> Self {
        Self::Pattern(Pattern::new(pattern))
    }

    /// Whether a text is one of them.
    pub(super) fn take(&self, text: &str) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.matches(text),
            Self::OneOf(texts) => texts.iter().any(|it| it == text),
        }
    }

    /// The same without the difference between capitals and small letters, for texts that went through [`fold`].
    pub(super) fn folded(self) -> Self {
        match self {
            Self::Pattern(pattern) => Self::Pattern(Pattern {
                first: fold(&pattern.first),
                after_stars: pattern.after_stars.iter().map(|it| fold(it)).collect(),
            }),
            Self::OneOf(texts) => Self::OneOf(texts.iter().map(|it| fold(it)).collect()),
        }
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        let mut pieces = text.split('*').map(str::to_owned);
        Self {
            first: pieces.next().unwrap_or_default(),
            after_stars: pieces.collect(),
        }
    }

    fn matches(&self, text: &str) -> bool {
        let Some((last, middle)) = self.after_stars.split_last() else {
            return self.first == text;
        };
        let Some(mut rest) = text.strip_prefix(self.first.as_str()) else {
            return false;
        };
        // The leftmost place of each piece leaves the most room for those after it.
        for piece in middle {
            let Some(at) = rest.find(piece.as_str()) else {
                return false;
            };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last.as_str())
    }
}

impl fmt::Display for Values {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => {
                f.write_str(&pattern.first)?;
                let mut after = pattern.after_stars.iter();
                after.try_for_each(|piece| write!(f, "*{piece}"))
            }
            Self::OneOf(texts) => f.write_str(&texts.join("|")),
        }
    }
}

/// A text without the difference between capitals and small letters. By way of the capitals, since some small
/// letters share one (`ſ` and `s`), and parsers that compare loosely know that.
pub(super) fn fold(text: &str) -> String {
    match text.is_ascii() {
        true => text.to_ascii_lowercase(),
        false => text.to_uppercase().to_lowercase(),
    }
}

/// Whether two texts are the same once [folded](fold).
pub(super) fn is_alike(one: &str, other: &str) -> bool {
    match one.is_ascii() && other.is_ascii() {
        true => one.eq_ignore_ascii_case(other),
        false => fold(one) == fold(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_the_whole_text() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("a", "a", true),
            ("a", "A", false),
            ("a", "ab", false),
            ("AB-*", "AB-1", true),
            ("AB-*", "AB-", true),
            ("AB-*", "xAB-1", false),
            ("*.json", "a.json", true),
            ("*.json", "ajson", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("a*a", "a", false),
            ("*a*a*", "xaxx", false),
            ("**", "x", true),
            ("a.c", "abc", false),
            ("ü*", "üb", true),
        ] {
            assert_eq!(
                Values::like(pattern).take(text),
                expected,
                "{pattern} {text}"
            );
            assert_eq!(Values::like(pattern).to_string(), pattern);
        }
    }

    #[test]
    fn a_list_is_taken_to_the_letter() {
        let values = Values::OneOf(vec!["a*".to_owned(), "b".to_owned()]);
        assert!(values.take("a*") && values.take("b"));
        assert!(!values.take("ab") && !values.take("B"));
        assert!(values.folded().take(&fold("B")));
    }
}
