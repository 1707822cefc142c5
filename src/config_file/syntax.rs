//! The syntax of a TOML file: on which line each key stands, and what is wrong with a file that is none, in words of
//! those who write one by hand.
//!
//! Never shows a value, which may be a secret; at the most a key or the name of a section.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree::{Node, Origin, Table, Value};

/// Quotes of a word processor, which are none in TOML.
const TYPOGRAPHIC: [char; 8] = ['“', '”', '„', '‟', '‘', '’', '«', '»'];
/// A key or a section's name in a message is cut off here.
const LONGEST_NAME: usize = 64;

/// What keeps a text from being TOML.
pub(super) struct Wrong {
    /// On which line, from 1.
    pub(super) line: usize,
    /// What is wrong, to be read after the line.
    pub(super) problem: String,
    /// What to do.
    pub(super) remedy: String,
}

/// Notes in the tables that were made of this text on which line each of their keys stands.
///
/// # Errors
/// Where the text is not TOML, and why.
pub(super) fn note_lines(text: &str, table: &mut Table) -> Result<(), Wrong> {
    let parsed = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        explain(text, offset, error.message())
    })?;
    note_in(text, parsed.get_ref(), table);
    Ok(())
}

fn note_in(text: &str, parsed: &DeTable<'_>, table: &mut Table) {
    for (key, value) in parsed {
        if let Some(node) = table.get_mut(&**key.get_ref()) {
            note_at(text, key.span().start, value.get_ref(), node);
        }
    }
}

fn note_at(text: &str, offset: usize, parsed: &DeValue<'_>, node: &mut Node) {
    if let Origin::File(_, line) = &mut node.origin {
        *line = Some(line_of(text, offset));
    }
    match (parsed, &mut node.value) {
        (DeValue::Table(parsed), Value::Table(table)) => note_in(text, parsed, table),
        (DeValue::Array(parsed), Value::Array(array)) => {
            for (parsed, node) in parsed.iter().zip(array) {
                note_at(text, start_of(parsed), parsed.get_ref(), node);
            }
        }
        _ => {}
    }
}

/// Where a value begins: of a section, its header.
fn start_of(value: &Spanned<DeValue<'_>>) -> usize {
    value.span().start
}

/// The line, from 1, that a byte of the text is on.
fn line_of(text: &str, offset: usize) -> usize {
    line_of_byte(text.as_bytes(), offset)
}

/// The same where the bytes are no text.
pub(super) fn line_of_byte(bytes: &[u8], offset: usize) -> usize {
    let before = bytes.iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

/// What a parser's message most likely means to somebody who wrote the line by hand.
fn explain(text: &str, offset: usize, message: &str) -> Wrong {
    let number = line_of(text, offset);
    let line = text.lines().nth(number - 1).unwrap_or_default().trim();
    let wrong = |problem: String, remedy: String| Wrong {
        line: number,
        problem,
        remedy,
    };
    let says = |problem: &str, remedy: &str| wrong(problem.to_owned(), remedy.to_owned());
    if line.contains(TYPOGRAPHIC) {
        return says("has typographic quotes", "write straight ones: \"…\"");
    }
    if message.contains("carriage return") {
        let remedy = "save the file with the line ends of Unix (LF) or Windows (CRLF)";
        return says("ends with CR alone", remedy);
    }
    if message.starts_with("duplicate key") {
        return match (line.strip_prefix("[["), line.strip_prefix('[')) {
            (Some(_), _) => wrong(
                format!("{} comes after what belongs to it", shown(line)),
                "write each such header first, and the sections of it below".to_owned(),
            ),
            (None, Some(_)) => wrong(
                format!("the section {} stands here a second time", shown(line)),
                "move its keys to where it stands first, and remove this one".to_owned(),
            ),
            (None, None) => wrong(
                format!("{} is set a second time in its section", key_of(line)),
                "remove one of the two".to_owned(),
            ),
        };
    }
    if message.contains("escape") || message.contains("unicode") {
        let remedy = "write it in '…', where a backslash is only a backslash, or double it";
        return says(
            "has a backslash that means nothing in a text in \"…\"",
            remedy,
        );
    }
    if message.contains("basic string") || message.contains("literal string") && line.contains('\'')
    {
        return says("has a text that does not end", "add the closing quote");
    }
    if message.starts_with("unclosed table") {
        return says("has a header that does not end", "add the closing ], or ]]");
    }
    if message.contains("comma between array elements") {
        let remedy = "put commas between the values, and the closing ] after the last";
        return says("has a list that does not end", remedy);
    }
    if message.starts_with("unclosed") {
        return says(
            "has a list or table that does not end",
            "add the closing ] or }",
        );
    }
    let Some((_, value)) = line.split_once('=') else {
        if !line.starts_with('[') {
            let remedy = "write key = value; a text in quotes; and # before a comment";
            return says("is no key with a value", remedy);
        }
        return wrong(message.to_owned(), "correct the TOML syntax".to_owned());
    };
    let value = value.trim();
    if value.is_empty() {
        return wrong(
            format!("{} has no value", key_of(line)),
            "write one, or remove the line".to_owned(),
        );
    }
    if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") {
        return says(
            "has a word in capitals",
            "write true or false in small letters",
        );
    }
    if !value.starts_with(['"', '\'', '[', '{']) {
        let remedy = format!("write a text in quotes: {} = \"…\"", key_of(line));
        return wrong(
            "has a value that is no number and not in quotes".to_owned(),
            remedy,
        );
    }
    wrong(
        message.replace('\n', ", "),
        "correct the TOML syntax".to_owned(),
    )
}

/// What stands before the equals sign.
fn key_of(line: &str) -> String {
    shown(line.split('=').next().unwrap_or_default().trim())
}

fn shown(name: &str) -> String {
    let name = name.split('#').next().unwrap_or_default().trim();
    name.chars().take(LONGEST_NAME).collect()
}
