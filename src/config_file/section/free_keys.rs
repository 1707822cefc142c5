//! Values whose keys or kinds are free: tables of texts under any key, and texts, numbers or truth values.

use super::{Section, is_instead};
use crate::config_file::tree::{Node, Value};

/// One text, or a list of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OneOrMany {
    /// `"a"`.
    One(String),
    /// `["a", "b"]`.
    Many(Vec<String>),
}

/// A value of a kind that the reader of the configuration leaves open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// A text in quotes.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
}

impl Section<'_> {
    /// A table whose keys are free and whose values are texts or lists of texts, sorted by key.
    pub fn keyed_texts(&mut self, key: &'static str) -> Vec<(String, OneOrMany)> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (inner, node) in self.table_of(key, node).into_iter().flatten() {
            match one_or_many(node) {
                Some(value) => texts.push((inner.clone(), value)),
                None => self.note(
                    &node.origin,
                    format!("{}.{inner}", self.path_of(key)),
                    is_instead(node),
                    "write a text or a list of texts".to_owned(),
                ),
            }
        }
        texts
    }

    /// A text, a whole number or a truth value.
    pub fn optional_scalar(&mut self, key: &'static str) -> Option<Scalar> {
        let node = self.node(key)?;
        scalar(node).or_else(|| self.wrong_kind(key, node, "a text, a whole number, true or false"))
    }

    /// A list of texts, whole numbers and truth values.
    pub fn optional_scalars(&mut self, key: &'static str) -> Option<Vec<Scalar>> {
        let node = self.node(key)?;
        let list = node.value.as_array();
        list.and_then(|list| list.iter().map(scalar).collect())
            .or_else(|| self.wrong_kind(key, node, "a list of texts, whole numbers, true or false"))
    }
}

fn one_or_many(node: &Node) -> Option<OneOrMany> {
    if let Some(text) = node.value.as_text() {
        return Some(OneOrMany::One(text.to_owned()));
    }
    let list = node.value.as_array()?;
    let texts = list.iter().map(|item| item.value.as_text());
    let texts: Option<_> = texts.map(|text| text.map(str::to_owned)).collect();
    texts.map(OneOrMany::Many)
}

fn scalar(node: &Node) -> Option<Scalar> {
    match &node.value {
        Value::Text(text) => Some(Scalar::Text(text.clone())),
        Value::Integer(number) => Some(Scalar::Integer(*number)),
        Value::Boolean(truth) => Some(Scalar::Boolean(*truth)),
        Value::Fraction | Value::Array(_) | Value::Table(_) => None,
    }
}
