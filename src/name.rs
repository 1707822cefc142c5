//! Names that people give: connections, instances' short names, upstreams, token labels.
//!
//! One rule for all of them, so that a name can stand in a URL path, a file, a log line and a shell
//! word without quoting. Never accepts anything that would need escaping.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in characters. Long enough for `<local>_to_<remote>` of ordinary short names,
/// short enough for one column of a table.
pub const MAX_LENGTH: usize = 64;

/// A checked name: 1 to [`MAX_LENGTH`] of `A-Z a-z 0-9 . _ -`, and neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a name must not be empty")]
    Empty,
    /// More characters than [`MAX_LENGTH`].
    #[error("a name has at most {MAX_LENGTH} characters, this one has {0}")]
    TooLong(usize),
    /// A character outside the set.
    #[error("a name is made of letters, digits, '.', '_' and '-'; {0:?} is none of them")]
    Character(char),
    /// `.` and `..` would change meaning in a path.
    #[error("'.' and '..' are not names")]
    Dots,
}

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The default name of a connection between two instances: `<local>_to_<remote>`.
    ///
    /// # Errors
    /// When both short names together are too long to be one name.
    pub fn of_connection(local: &Self, remote: &Self) -> Result<Self, NameError> {
        format!("{local}_to_{remote}").parse()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(c) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(c));
        }
        if text.len() > MAX_LENGTH {
            return Err(NameError::TooLong(text.len()));
        }
        if matches!(text, "." | "..") {
            return Err(NameError::Dots);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_accepted() {
        for text in [
            "a",
            "acme",
            "acme_to_widgets",
            "A.b-c_9",
            &"x".repeat(MAX_LENGTH),
        ] {
            assert_eq!(text.parse::<Name>().map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn each_refusal_names_its_reason() {
        let refusal = |text: &str| text.parse::<Name>().unwrap_err();
        assert_eq!(refusal(""), NameError::Empty);
        assert_eq!(refusal("a b"), NameError::Character(' '));
        assert_eq!(refusal("a/b"), NameError::Character('/'));
        assert_eq!(refusal("zürich"), NameError::Character('ü'));
        assert_eq!(refusal(".."), NameError::Dots);
        assert_eq!(
            refusal(&"x".repeat(MAX_LENGTH + 1)),
            NameError::TooLong(MAX_LENGTH + 1)
        );
    }
}
