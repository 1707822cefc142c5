//! What is known of the terminal that a screen is shown on: whether it is one, its size, and whether it wants colours.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};

use terminal_size::{Height, Width, terminal_size};

/// The narrowest that a screen is made for; on a narrower terminal lines break where they please.
const NARROWEST: usize = 40;

/// How a screen is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// Columns; nothing where lines may be as long as they are, for files and programs.
    pub width: Option<usize>,
    /// Lines, where there is no scrolling back.
    pub height: Option<usize>,
    /// Whether colours are wanted.
    pub colours: bool,
}

/// A colour of the terminal (ECMA-48, SGR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Someone has to act.
    Red,
    /// Someone should know.
    Yellow,
    /// All is well.
    Green,
}

impl Look {
    /// For standard output as it is now.
    #[must_use]
    pub fn of_output() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let size = terminal_size().filter(|_| is_terminal);
        let variable = |name| std::env::var_os(name);
        Self {
            width: size.map(|(Width(columns), _)| usize::from(columns).max(NARROWEST)),
            height: size.map(|(_, Height(lines))| usize::from(lines)),
            colours: wants_colours(
                is_terminal,
                variable("NO_COLOR").as_deref(),
                variable("CLICOLOR_FORCE").as_deref(),
                variable("TERM").as_deref(),
            ),
        }
    }

    /// The text in a colour, if colours are wanted.
    #[must_use]
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Red => 31,
            Colour::Yellow => 33,
            Colour::Green => 32,
        };
        format!("\x1b[1;{code}m{text}\x1b[0m")
    }

    /// A line no longer than the terminal is wide; `…` stands for what is left out.
    #[must_use]
    pub fn cut(&self, line: &str) -> String {
        match self.width {
            Some(width) if line.chars().count() > width => {
                let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
                cut.truncate(cut.trim_end().len());
                cut.push('…');
                cut
            }
            Some(_) | None => line.to_owned(),
        }
    }

    /// A line that is wrapped where it is too long, and keeps its spaces where it is not.
    #[must_use]
    pub fn wrap_as_it_is(&self, line: &str, indent: &str) -> String {
        match self.width {
            Some(width) if line.chars().count() > width => self.wrap(line, indent),
            Some(_) | None => format!("{line}\n"),
        }
    }

    /// A text broken into lines between words; those after the first are indented.
    #[must_use]
    pub fn wrap(&self, text: &str, indent: &str) -> String {
        let Some(width) = self.width else {
            return format!("{text}\n");
        };
        let mut wrapped = String::new();
        let mut used = 0;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let length = word.chars().count();
            if used > 0 && used + 1 + length > width {
                wrapped.push('\n');
                wrapped.push_str(indent);
                used = indent.chars().count();
            } else if used > 0 {
                wrapped.push(' ');
                used += 1;
            }
            wrapped.push_str(word);
            used += length;
        }
        wrapped.push('\n');
        wrapped
    }
}

/// `NO_COLOR` (no-color.org) wins over `CLICOLOR_FORCE`, and that over what the output is.
fn wants_colours(
    is_terminal: bool,
    no_color: Option<&OsStr>,
    force: Option<&OsStr>,
    terminal: Option<&OsStr>,
) -> bool {
    if no_color.is_some_and(|value| !value.is_empty()) {
        return false;
    }
    if force.is_some_and(|value| !value.is_empty() && value != "0") {
        return true;
    }
    is_terminal && terminal != Some(OsStr::new("dumb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: Look = Look {
        width: Some(20),
        height: None,
        colours: false,
    };

    #[test]
    fn colours_are_for_terminals_unless_someone_says_otherwise() {
        let some = |value: &'static str| Some(OsStr::new(value));
        assert!(wants_colours(true, None, None, some("xterm")));
        assert!(!wants_colours(true, None, None, some("dumb")));
        assert!(!wants_colours(false, None, None, some("xterm")));
        assert!(wants_colours(true, some(""), None, None));
        assert!(!wants_colours(true, some("1"), some("1"), None));
        assert!(wants_colours(false, None, some("1"), None));
        assert!(!wants_colours(false, None, some("0"), None));
    }

    #[test]
    fn a_long_line_is_cut_where_the_terminal_ends() {
        assert_eq!(NARROW.cut("short"), "short");
        let cut = NARROW.cut("12345678901234567 90123");
        assert_eq!(cut, "12345678901234567 9…");
        assert_eq!(cut.chars().count(), 20);
        assert_eq!(Look::default().cut(&"x".repeat(99)).len(), 99);
    }

    #[test]
    fn a_long_text_is_broken_between_words() {
        let wrapped = NARROW.wrap("one two three four five six seven", "  ");
        assert_eq!(wrapped, "one two three four\n  five six seven\n");
        assert_eq!(Look::default().wrap("a b", "  "), "a b\n");
    }

    #[test]
    fn without_colours_there_is_no_escape() {
        assert_eq!(NARROW.paint(Colour::Red, "x"), "x");
        let colours = Look {
            colours: true,
            ..NARROW
        };
        assert_eq!(colours.paint(Colour::Red, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
