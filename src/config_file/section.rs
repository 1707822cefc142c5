//! One table of a configuration: gives checked values and writes every mistake down.

mod free_keys;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use self::free_keys::{OneOrMany, Scalar};

use super::Mistake;
use super::document::Document;
use super::nearest::nearest;
use super::tree::{Node, Origin, Table};
use crate::secret::Secret;

/// A table of a configuration, or the place where one might have been.
///
/// Every method asks for one key. A wrong value is written down as a mistake, and the method returns
/// the default, or `None` where there is none. When the section is dropped, keys that nobody asked
/// for are written down as unknown.
pub struct Section<'a> {
    document: &'a Document,
    /// The key of the section from the top, empty for the top itself.
    path: String,
    origin: &'a Origin,
    table: Option<&'a Table>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) const fn new(
        document: &'a Document,
        path: String,
        origin: &'a Origin,
        table: Option<&'a Table>,
    ) -> Self {
        Self {
            document,
            path,
            origin,
            table,
            asked: BTreeSet::new(),
        }
    }

    /// Whether the key has a value of any kind.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.node(key).is_some()
    }

    /// A text that must be there.
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        self.required(key, Self::optional_string)
    }

    /// A text.
    pub fn optional_string(&mut self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        match node.value.as_text() {
            Some(text) => Some(text.to_owned()),
            None => self.wrong_kind(key, node, "a text in quotes"),
        }
    }

    /// A text that must not be shown.
    pub fn optional_secret(&mut self, key: &'static str) -> Option<Secret<String>> {
        self.optional_string(key).map(Secret::new)
    }

    /// A text with a form of its own, such as a name or an address, that must be there.
    pub fn parsed<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        self.required(key, Self::optional_parsed)
    }

    /// A text with a form of its own. The error's text is shown, so it must not repeat secrets.
    pub fn optional_parsed<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr<Err: Display>,
    {
        match self.optional_string(key)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.mistake(key, format!("cannot be used: {error}"), "correct it");
                None
            }
        }
    }

    /// An absolute path that must be there.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.required(key, Self::optional_path)
    }

    /// An absolute path; a relative one would depend on where the program was started.
    pub fn optional_path(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = PathBuf::from(self.optional_string(key)?);
        if path.is_absolute() {
            return Some(path);
        }
        self.mistake(
            key,
            "is not an absolute path",
            "write the whole path, from / on",
        );
        None
    }

    /// An absolute path, with a default.
    pub fn path_or(&mut self, key: &'static str, default: impl AsRef<Path>) -> PathBuf {
        self.optional_path(key)
            .unwrap_or_else(|| default.as_ref().to_owned())
    }

    /// A duration such as `"10s"`, within a range, with a default.
    pub fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(node) = self.node(key) else {
            return default;
        };
        let Some(text) = node.value.as_text() else {
            let form = "a duration with its unit in quotes, for instance \"10s\" or \"5m\"";
            return self.wrong_kind(key, node, form).unwrap_or(default);
        };
        match humantime::parse_duration(text) {
            Ok(duration) if range.contains(&duration) => return duration,
            Ok(_) => {
                let least = humantime::format_duration(*range.start());
                let most = humantime::format_duration(*range.end());
                let remedy = format!("write a duration from \"{least}\" to \"{most}\"");
                self.mistake(key, "is out of range", remedy);
            }
            Err(_) if text.trim().parse::<u64>().is_ok() => {
                let remedy = "write for instance \"10s\" or \"5m\"";
                self.mistake(key, "has no unit", remedy);
            }
            Err(_) => {
                let remedy = "write for instance \"10s\" or \"5m\"";
                self.mistake(key, "is not a duration", remedy);
            }
        }
        default
    }

    /// A whole number within a range, with a default.
    pub fn number<N>(&mut self, key: &'static str, default: N, range: RangeInclusive<N>) -> N
    where
        N: TryFrom<i64> + PartialOrd + Display,
    {
        let Some(node) = self.node(key) else {
            return default;
        };
        let number = node
            .value
            .as_integer()
            .or_else(|| node.environment_text()?.parse().ok());
        let Some(number) = number else {
            self.wrong_kind::<()>(key, node, "a whole number without quotes");
            return default;
        };
        match N::try_from(number) {
            Ok(number) if range.contains(&number) => number,
            Ok(_) | Err(_) => {
                let remedy = format!("write a number from {} to {}", range.start(), range.end());
                self.mistake(key, "is out of range", remedy);
                default
            }
        }
    }

    /// `true` or `false`, with a default.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(node) = self.node(key) else {
            return default;
        };
        let truth = node
            .value
            .as_boolean()
            .or_else(|| node.environment_text()?.parse().ok());
        truth
            .or_else(|| self.wrong_kind(key, node, "true or false, without quotes"))
            .unwrap_or(default)
    }

    /// One of several words, each standing for a value, with a default.
    pub fn choice<T: Clone>(&mut self, key: &'static str, choices: &[(&str, T)], default: T) -> T {
        let Some(text) = self.optional_string(key) else {
            return default;
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return value.clone();
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let remedy = format!("write one of {}", words.join(", "));
        self.mistake(key, "is none of the choices", remedy);
        default
    }

    /// A list of texts; empty when it is not there. In the environment: separated by commas.
    pub fn strings(&mut self, key: &'static str) -> Vec<String> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let texts = match (node.value.as_array(), node.environment_text()) {
            (Some(array), _) => array
                .iter()
                .map(|node| node.value.as_text().map(str::to_owned))
                .collect(),
            (None, Some(text)) => {
                let texts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|text| !text.is_empty());
                Some(texts.map(str::to_owned).collect())
            }
            (None, None) => None,
        };
        texts
            .or_else(|| self.wrong_kind(key, node, "a list of texts, [\"a\", \"b\"]"))
            .unwrap_or_default()
    }

    /// Whether the key has a list, whatever is in it. In the environment, any text is one.
    pub fn is_list(&mut self, key: &'static str) -> bool {
        let is_list =
            |node: &Node| node.value.as_array().is_some() || node.environment_text().is_some();
        self.node(key).is_some_and(is_list)
    }

    /// A table; when it is not there, an empty one.
    pub fn section(&mut self, key: &'static str) -> Self {
        let path = self.path_of(key);
        let Some(node) = self.node(key) else {
            return Self::new(self.document, path, self.origin, None);
        };
        let table = self.table_of(key, node);
        Self::new(self.document, path, &node.origin, table)
    }

    /// The tables of an array of tables; none when it is not there.
    pub fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let Some(array) = node.value.as_array() else {
            self.is_no_list_of_sections(key, node);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for (index, node) in array.iter().enumerate() {
            let Some(table) = node.value.as_table() else {
                self.is_no_list_of_sections(key, node);
                continue;
            };
            let label = match table.get("name").and_then(|name| name.value.as_text()) {
                Some(name) => name.to_owned(),
                None => format!("#{}", index + 1),
            };
            let path = format!("{}[{label}]", self.path_of(key));
            sections.push(Self::new(self.document, path, &node.origin, Some(table)));
        }
        sections
    }

    /// The tables under the keys of a table whose keys are free, sorted by key.
    pub fn keyed_sections(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let Some(node) = self.node(key) else {
            return Vec::new();
        };
        let Some(outer) = self.table_of(key, node) else {
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(outer.len());
        for (inner, node) in outer {
            let path = format!("{}.{inner}", self.path_of(key));
            let Some(table) = node.value.as_table() else {
                self.note(
                    &node.origin,
                    path,
                    is_instead(node),
                    "write a table, { … }".to_owned(),
                );
                continue;
            };
            let section = Self::new(self.document, path, &node.origin, Some(table));
            sections.push((inner.clone(), section));
        }
        sections
    }

    /// Writes down a mistake that the caller found: `problem` reads on from the key ("is used twice"),
    /// `remedy` says what to do ("rename one"). Neither may repeat a secret.
    pub fn mistake(
        &self,
        key: &'static str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let node = self.table.and_then(|table| table.get(key));
        let origin = node.map_or(self.origin, |node| &node.origin);
        self.note(origin, self.path_of(key), problem.into(), remedy.into());
    }

    fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> Option<T> {
        if !self.has(key) {
            self.mistake(key, "is missing", "add it");
            return None;
        }
        read(self, key)
    }

    fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.insert(key);
        self.table?.get(key)
    }

    fn table_of(&self, key: &'static str, node: &'a Node) -> Option<&'a Table> {
        node.value
            .as_table()
            .or_else(|| self.wrong_kind(key, node, "a table"))
    }

    fn wrong_kind<T>(&self, key: &'static str, node: &Node, expected: &str) -> Option<T> {
        let remedy = format!("write {expected}");
        self.note(&node.origin, self.path_of(key), is_instead(node), remedy);
        None
    }

    fn is_no_list_of_sections(&self, key: &'static str, node: &Node) {
        let header = header_of(&self.path_of(key));
        let remedy = if node.value.as_table().is_some() {
            format!("write [[{header}]], since there may be several")
        } else {
            format!("write it as a section of its own, [[{header}]], with its keys below")
        };
        let problem = if node.value.as_table().is_some() {
            "is one section with single brackets".to_owned()
        } else {
            is_instead(node)
        };
        self.note(&node.origin, self.path_of(key), problem, remedy);
    }

    fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    fn note(&self, origin: &Origin, key: String, problem: String, remedy: String) {
        self.document.note(Mistake {
            origin: origin.to_string(),
            line: origin.line(),
            key,
            problem,
            remedy,
        });
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let unknown = self
            .table
            .into_iter()
            .flatten()
            .filter(|(key, _)| !self.asked.contains(key.as_str()));
        for (key, node) in unknown {
            let remedy = match nearest(key, self.asked.iter().copied()) {
                Some(known) => format!("did you mean {known}?"),
                None => {
                    let known: Vec<_> = self.asked.iter().copied().collect();
                    format!("remove it; known here: {}", known.join(", "))
                }
            };
            self.note(
                &node.origin,
                self.path_of(key),
                "is not a known key".to_owned(),
                remedy,
            );
        }
    }
}

/// A key's path without what tells the members of a list apart.
fn header_of(path: &str) -> String {
    let mut header = String::new();
    let mut depth = 0_u32;
    for letter in path.chars() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 => header.push(letter),
            _ => {}
        }
    }
    header
}

fn is_instead(node: &Node) -> String {
    format!("is {}", node.value.kind())
}
