//! Values of a configuration, each knowing where it came from. Reads nothing itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use config::ValueKind;

/// A table: its keys and their values.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and where it came from.
pub(super) struct Node {
    /// The source that gave the value; of a merged table, the first one that named it.
    pub(super) origin: Origin,
    /// The value.
    pub(super) value: Value,
}

/// A value of a configuration. Not `Debug`, since any text may be a secret.
pub(super) enum Value {
    Boolean(bool),
    Integer(i64),
    /// A number with a fraction, which no key of ours takes.
    Fraction,
    Text(String),
    Array(Vec<Node>),
    Table(Table),
}

/// Where a value came from.
#[derive(Clone)]
pub(super) enum Origin {
    /// A file, and the line where it is known.
    File(Arc<Path>, Option<usize>),
    Environment(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, _) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl Origin {
    /// The line in the file, where it is known.
    pub(super) const fn line(&self) -> Option<usize> {
        match self {
            Self::File(_, line) => *line,
            Self::Environment(_) => None,
        }
    }
}

impl Value {
    /// What kind of value it is, for a message.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a truth value",
            Self::Integer(_) => "a number",
            Self::Fraction => "a number with a fraction",
            Self::Text(_) => "a text",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// The text, where it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self {
            Some(text)
        } else {
            None
        }
    }

    /// The whole number, where it is one.
    pub(super) const fn as_integer(&self) -> Option<i64> {
        if let Self::Integer(number) = self {
            Some(*number)
        } else {
            None
        }
    }

    /// The truth value, where it is one.
    pub(super) const fn as_boolean(&self) -> Option<bool> {
        if let Self::Boolean(truth) = self {
            Some(*truth)
        } else {
            None
        }
    }

    /// The list, where it is one.
    pub(super) fn as_array(&self) -> Option<&[Node]> {
        if let Self::Array(array) = self {
            Some(array)
        } else {
            None
        }
    }

    /// The table, where it is one.
    pub(super) const fn as_table(&self) -> Option<&Table> {
        if let Self::Table(table) = self {
            Some(table)
        } else {
            None
        }
    }

    fn of(value: config::Value, origin: &Origin) -> Self {
        let number = |number: Option<i64>| number.map_or(Self::Fraction, Self::Integer);
        match value.kind {
            ValueKind::Nil => Self::Text(String::new()),
            ValueKind::Boolean(truth) => Self::Boolean(truth),
            ValueKind::I64(integer) => Self::Integer(integer),
            ValueKind::I128(integer) => number(integer.try_into().ok()),
            ValueKind::U64(integer) => number(integer.try_into().ok()),
            ValueKind::U128(integer) => number(integer.try_into().ok()),
            ValueKind::Float(_) => Self::Fraction,
            ValueKind::String(text) => Self::Text(text),
            ValueKind::Table(table) => Self::Table(
                table
                    .into_iter()
                    .map(|(key, value)| (key, Node::of(value, origin)))
                    .collect(),
            ),
            ValueKind::Array(array) => Self::Array(
                array
                    .into_iter()
                    .map(|value| Node::of(value, origin))
                    .collect(),
            ),
        }
    }
}

impl Node {
    /// The crate's value as ours.
    pub(super) fn of(value: config::Value, origin: &Origin) -> Self {
        Self {
            origin: origin.clone(),
            value: Value::of(value, origin),
        }
    }

    /// The text, where the environment gave it: there, numbers and lists are text, too.
    pub(super) fn environment_text(&self) -> Option<&str> {
        match self.origin {
            Origin::Environment(_) => self.value.as_text(),
            Origin::File(..) => None,
        }
    }

    /// Whether it is a list of nothing but tables.
    pub(super) fn is_array_of_tables(&self) -> bool {
        let is_table = |node: &Self| node.value.as_table().is_some();
        self.value
            .as_array()
            .is_some_and(|array| array.iter().all(is_table))
    }
}
