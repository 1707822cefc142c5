//! The repository's Rust sources as text, for the tests that hold the rules of the house.

use std::fs;
use std::path::Path;

/// What stands before an item that only tests have.
const TEST_ONLY: &str = "\n#[cfg(test)]\n";

/// A source file.
pub(crate) struct Source {
    /// Its path from the top of the repository, such as `src/agent/policy.rs`.
    pub(crate) path: String,
    /// The text as it is.
    pub(crate) text: String,
}

impl Source {
    /// Whether the whole file is tests.
    pub(crate) fn is_tests(&self) -> bool {
        let in_src = self.path.starts_with("src/");
        !in_src || self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The text with comments and the contents of strings blanked out, line by line.
    pub(crate) fn code(&self) -> String {
        blank(&self.text)
    }

    /// The code that goes into the programs: without test modules.
    pub(crate) fn production(&self) -> String {
        if self.is_tests() {
            return String::new();
        }
        let mut production = String::new();
        let mut rest = self.code();
        while let Some(at) = rest.find(TEST_ONLY) {
            let item = &rest[at + TEST_ONLY.len()..];
            let first_line = item.lines().next().unwrap_or_default();
            // An item without a block, such as `mod tests;`, ends with its line.
            let end = if first_line.ends_with('{') {
                "\n}"
            } else {
                "\n"
            };
            let length = item
                .find(end)
                .map_or(item.len(), |length| length + end.len());
            production.push_str(&rest[..at]);
            rest = format!("\n{}", &item[length..]);
        }
        production + &rest
    }

    /// How many lines the file has.
    pub(crate) fn length(&self) -> usize {
        self.text.lines().count()
    }
}

/// All Rust files below a folder of the repository, sorted by path.
pub(crate) fn below(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    collect(&root.join(folder), root, &mut sources);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn collect(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, root, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            sources.push(Source { path, text });
        }
    }
}

/// Blanks out comments and the contents of strings and character literals.
fn blank(text: &str) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = comment_length(rest).or_else(|| literal_length(rest, &blanked));
        match skipped {
            Some(length) => {
                let newlines = rest[..length].chars().filter(|c| *c == '\n');
                blanked.push(' ');
                blanked.extend(newlines);
                rest = &rest[length..];
            }
            None => {
                blanked.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    blanked
}

/// The length of the comment that the text begins with.
fn comment_length(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*")
        .then(|| text.find("*/").map_or(text.len(), |end| end + 2))
}

/// The length of the string or character literal that the text begins with.
fn literal_length(text: &str, before: &str) -> Option<usize> {
    let is_within_word = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    if text.starts_with('r') && !is_within_word {
        let hashes = text[1..].chars().take_while(|c| *c == '#').count();
        if text[1 + hashes..].starts_with('"') {
            let begin = hashes + 2;
            let closing = format!("\"{}", "#".repeat(hashes));
            let end = text[begin..].find(&closing)?;
            return Some(begin + end + closing.len());
        }
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut characters = text.char_indices().skip(1);
    if quote == '\'' {
        // A lifetime has no closing quote behind its first character.
        let inner: Vec<char> = text.chars().skip(1).take(2).collect();
        let is_literal = matches!(inner.as_slice(), ['\\', _] | [_, '\'']);
        if !is_literal {
            return None;
        }
    }
    while let Some((index, c)) = characters.next() {
        if c == '\\' {
            characters.next();
        } else if c == quote {
            return Some(index + 1);
        }
    }
    None
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = "//! tokio\nlet a = \"tokio \\\" x\"; /* tokio */ let b = r#\"tokio \"\"#;\n\
                let c = '\"'; fn f<'a>(x: &'a str) {} // tokio\nlet d = '\\''; use tokio;\n";
    let code = blank(text);
    assert_eq!(code.matches("tokio").count(), 1, "{code}");
    assert_eq!(code.lines().count(), text.lines().count());
    for kept in [
        "let b =",
        "fn f<'a>(x: &'a str) {}",
        "let d =",
        "use tokio;",
    ] {
        assert!(code.contains(kept), "{kept}: {code}");
    }
}

#[test]
fn test_modules_are_not_production() {
    let text = "use a;\n#[cfg(test)]\nmod tests;\nfn f() {}\n#[cfg(test)]\npub(crate) mod tests {\n    \
                use b;\n    fn t() {\n    }\n}\nfn g() {}\n";
    let source = Source {
        path: "src/x.rs".to_owned(),
        text: text.to_owned(),
    };
    let production = source.production();
    for kept in ["use a;", "fn f()", "fn g()"] {
        assert!(production.contains(kept), "{production}");
    }
    for gone in ["tests", "use b", "fn t"] {
        assert!(!production.contains(gone), "{production}");
    }
    let child = Source {
        path: "src/x/tests.rs".to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(child.production(), "");
}
