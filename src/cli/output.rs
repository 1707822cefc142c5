//! What commands print: tables and JSON on standard output, notes and failures on standard error.
//!
//! Texts that came from elsewhere are made harmless first, so that no far side can write to the
//! terminal what it likes.

use std::io::{self, Write as _};

use serde::Serialize;

use super::exit_code::{ExitCode, Failure};

/// Writes to standard output. A reader that went away (`agent status | head -1`) is no failure.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error, for people: questions, notes and failures.
pub fn note(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Asks a question on the terminal that only a yes answers.
///
/// # Errors
/// That nothing was done, as `refused` says, with `remedy`; and where the answer cannot be read.
pub fn confirm(question: &str, refused: &str, remedy: &str) -> Result<(), Failure> {
    note(&format!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| {
        let problem = format!("the answer could not be read: {error}");
        Failure::new(ExitCode::Usage, problem, "")
    })?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(ExitCode::Usage, refused, remedy)),
    }
}

/// Writes a value as indented JSON.
///
/// # Errors
/// None in practice: what commands print has a JSON form.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&to_json(value)?);
    Ok(())
}

/// A value as indented JSON, with a line's end.
///
/// # Errors
/// None in practice.
pub fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Failure::new(
            ExitCode::Internal,
            format!("the answer could not be written as JSON: {error}"),
            "",
        )
    })?;
    Ok(text + "\n")
}

/// Lines up columns under their headings, two spaces apart.
#[must_use]
pub fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let headings = headings.map(str::to_owned);
    let rows: Vec<[String; N]> = std::iter::once(&headings)
        .chain(rows)
        .map(|row| row.each_ref().map(|cell| printable(cell)))
        .collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A text without control characters, which could move the cursor or hide what stands before them.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_spaces() {
        let rows = [
            ["a".to_owned(), "online".to_owned()],
            ["longer".to_owned(), String::new()],
        ];
        assert_eq!(
            table(["NAME", "LINK"], &rows),
            "NAME    LINK\na       online\nlonger\n"
        );
    }

    #[test]
    fn what_came_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
