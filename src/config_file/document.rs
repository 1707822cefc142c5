//! The sources, read and laid over one another.
//!
//! The `config` crate parses TOML and the environment; laying over is done here, because the crate
//! replaces arrays, where drop-ins must be able to add an upstream.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use config::{Environment, FileFormat, Source as _};

use super::syntax::{self, Wrong};
use super::tree::{Node, Origin, Table, Value};
use super::{Mistake, Mistakes, Section, Sources};

/// The largest file that is read, in bytes. A thousand upstreams with ten rules each need a tenth of it.
const MAX_FILE_LENGTH: u64 = 1 << 20;
/// Separates the levels of a key in the name of an environment variable.
const ENVIRONMENT_SEPARATOR: &str = "__";

/// The whole configuration before anyone has asked for anything, and the mistakes found so far.
pub(super) struct Document {
    table: Table,
    main: Origin,
    mistakes: RefCell<Vec<Mistake>>,
}

impl Document {
    /// Reads all sources. What cannot be read becomes a mistake.
    pub(super) fn load(
        sources: &Sources<'_>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let mut document = Self {
            table: Table::new(),
            main: Origin::File(sources.file.into(), None),
            mistakes: RefCell::default(),
        };
        document.lay_over_file(sources.file, sources.file_may_be_absent);
        if let Some(directory) = sources.drop_ins {
            for path in document.drop_ins(directory) {
                document.lay_over_file(&path, false);
            }
        }
        document.lay_over_environment(sources.environment_prefix, environment);
        document
    }

    /// The top of the tree.
    pub(super) fn root(&self) -> Section<'_> {
        Section::new(self, String::new(), &self.main, Some(&self.table))
    }

    /// Whether a source could not be read or sources contradict each other.
    pub(super) fn is_unreadable(&self) -> bool {
        !self.mistakes.borrow().is_empty()
    }

    /// Writes a mistake down.
    pub(super) fn note(&self, mistake: Mistake) {
        self.mistakes.borrow_mut().push(mistake);
    }

    /// All the mistakes, once nobody asks for values any more.
    pub(super) fn into_mistakes(self) -> Mistakes {
        Mistakes::new(self.mistakes.into_inner())
    }

    /// The drop-in files of a directory, sorted by name.
    fn drop_ins(&self, directory: &Path) -> Vec<PathBuf> {
        let listing = fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = match listing {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.note_file(
                    directory,
                    format!("cannot be listed: {error}"),
                    "let the program's user read the directory",
                );
                return Vec::new();
            }
        };
        let mut paths: Vec<_> = entries
            .into_iter()
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "toml")
            })
            .collect();
        paths.sort();
        paths
    }

    fn lay_over_file(&mut self, path: &Path, may_be_absent: bool) {
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !may_be_absent {
                    let remedy = "create the file, or name the right one";
                    self.note_file(path, "does not exist".to_owned(), remedy);
                }
                return;
            }
            Err(error) => {
                let kind = error.kind();
                let remedy = if kind == io::ErrorKind::PermissionDenied {
                    "run this as root, and let the daemon's group read it: chgrp and chmod 0640"
                } else if kind == io::ErrorKind::IsADirectory {
                    "name a file"
                } else {
                    "make it a text file of a usual size"
                };
                return self.note_file(path, format!("cannot be read: {error}"), remedy);
            }
        };
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let line = syntax::line_of_byte(error.as_bytes(), error.utf8_error().valid_up_to());
                return self.note(Mistake {
                    origin: path.display().to_string(),
                    line: Some(line),
                    key: String::new(),
                    problem: "is not UTF-8".to_owned(),
                    remedy: "save the file in that encoding".to_owned(),
                });
            }
        };
        match parse(path, &text) {
            Ok(table) => {
                for (key, node) in table {
                    lay_over(&mut self.table, &key, key.clone(), node, &self.mistakes);
                }
            }
            Err(wrong) => self.note(Mistake {
                origin: path.display().to_string(),
                line: Some(wrong.line),
                key: String::new(),
                problem: wrong.problem,
                remedy: wrong.remedy,
            }),
        }
    }

    fn lay_over_environment(
        &mut self,
        prefix: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) {
        let begin = format!("{prefix}{ENVIRONMENT_SEPARATOR}");
        let mut ours = config::Map::new();
        for (name, value) in environment {
            let Some(name) = name.to_str().filter(|name| name.starts_with(&begin)) else {
                continue;
            };
            match value.into_string() {
                Ok(value) => {
                    ours.insert(name.to_owned(), value);
                }
                Err(_) => self.note(Mistake {
                    origin: format!("environment variable {name}"),
                    line: None,
                    key: String::new(),
                    problem: "is not UTF-8".to_owned(),
                    remedy: "write it in UTF-8".to_owned(),
                }),
            }
        }
        let source = Environment::with_prefix(prefix)
            .prefix_separator(ENVIRONMENT_SEPARATOR)
            .separator(ENVIRONMENT_SEPARATOR)
            .source(Some(ours));
        // With the variables handed over as text there is nothing left that could fail.
        let sorted: BTreeMap<_, _> = source.collect().unwrap_or_default().into_iter().collect();
        for (key, value) in sorted {
            let name = key.replace('.', ENVIRONMENT_SEPARATOR).to_uppercase();
            let origin = Origin::Environment(format!("{begin}{name}").into());
            let mut levels: Vec<&str> = key.split('.').collect();
            let top = levels.remove(0);
            let node = levels
                .into_iter()
                .rev()
                .fold(Node::of(value, &origin), |inner, level| {
                    let table = Table::from([(level.to_owned(), inner)]);
                    Node {
                        origin: origin.clone(),
                        value: Value::Table(table),
                    }
                });
            lay_over(&mut self.table, top, top.to_owned(), node, &self.mistakes);
        }
    }

    fn note_file(&self, path: &Path, problem: String, remedy: &str) {
        self.note(Mistake {
            origin: path.display().to_string(),
            line: None,
            key: String::new(),
            problem,
            remedy: remedy.to_owned(),
        });
    }
}

/// Puts `over` under `key`: tables merge, arrays of tables append, all else overrides.
fn lay_over(
    table: &mut Table,
    key: &str,
    path: String,
    over: Node,
    mistakes: &RefCell<Vec<Mistake>>,
) {
    let Some(under) = table.get_mut(key) else {
        table.insert(key.to_owned(), over);
        return;
    };
    let both_append = under.is_array_of_tables() && over.is_array_of_tables();
    match (&mut under.value, over.value) {
        (Value::Table(under), Value::Table(over)) => {
            for (key, node) in over {
                let path = format!("{path}.{key}");
                lay_over(under, &key, path, node, mistakes);
            }
        }
        (Value::Array(under), Value::Array(over)) if both_append => under.extend(over),
        (Value::Table(_), other) => mistakes.borrow_mut().push(Mistake {
            origin: over.origin.to_string(),
            line: over.origin.line(),
            key: path,
            problem: format!("is {} here and a table in {}", other.kind(), under.origin),
            remedy: "give it one form in both".to_owned(),
        }),
        (other, Value::Table(_)) => mistakes.borrow_mut().push(Mistake {
            origin: over.origin.to_string(),
            line: over.origin.line(),
            key: path,
            problem: format!("is a table here and {} in {}", other.kind(), under.origin),
            remedy: "give it one form in both".to_owned(),
        }),
        (_, value) => {
            *under = Node {
                origin: over.origin,
                value,
            }
        }
    }
}

/// What a file of at most [`MAX_FILE_LENGTH`] holds.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    let length = file.take(MAX_FILE_LENGTH + 1).read_to_end(&mut bytes)?;
    if length as u64 > MAX_FILE_LENGTH {
        let problem = format!("it is larger than {MAX_FILE_LENGTH} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// The tables that a text holds, each value with its line.
fn parse(path: &Path, text: &str) -> Result<Table, Wrong> {
    let origin = Origin::File(path.into(), None);
    let collected = config::File::from_str(text, FileFormat::Toml).collect();
    let nodes = collected.into_iter().flatten();
    let mut table: Table = nodes
        .map(|(key, value)| (key, Node::of(value, &origin)))
        .collect();
    syntax::note_lines(text, &mut table)?;
    Ok(table)
}
