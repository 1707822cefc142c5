//! Reads a program's configuration: one TOML file, its drop-ins and the environment, checked as a whole.
//!
//! [`read`] lays the sources over one another and hands the caller a [`Section`], which gives checked
//! values and writes down every mistake; the caller gets either a whole configuration or *all* its
//! mistakes, each with file, key, problem and remedy. Never stops at the first mistake, never lets an
//! unknown key pass, and never shows a value that may be a secret.
//!
//! Later sources win: file, then drop-ins in the order of their names, then environment variables
//! such as `AGENT__NETWORK__PROXY`. Tables merge, arrays of tables append, everything else overrides.

mod document;
mod look;
mod mistake;
mod nearest;
mod section;
mod syntax;
mod tree;

use std::ffi::OsString;
use std::path::Path;

pub use self::look::{Look, Looks};
pub use self::mistake::{Mistake, Mistakes};
pub use self::section::{OneOrMany, Scalar, Section};

use self::document::Document;

/// Where a configuration comes from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The main file.
    pub file: &'a Path,
    /// Whether the main file may be missing, as at a default path that nobody named.
    pub file_may_be_absent: bool,
    /// The directory whose `*.toml` files lie over the main file; it may be missing.
    pub drop_ins: Option<&'a Path>,
    /// What environment variables begin with, before the first `__`: `AGENT`, `RELAY`.
    pub environment_prefix: &'a str,
}

/// Reads the sources and lets `check` make a configuration of them.
///
/// `environment` is normally `std::env::vars_os()`. `check` asks the section for every key that is
/// known, also for those that do not matter in the case at hand, because a key that nobody asked for
/// is reported as unknown. It returns `None` only after a required value was missing or wrong.
///
/// ```
/// use relay_agent::config_file::{Sources, read};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("agent.toml");
/// # std::fs::write(&path, "[network]\nproxy = \"none\"\n").unwrap();
/// let sources = Sources {
///     file: &path,
///     file_may_be_absent: false,
///     drop_ins: None,
///     environment_prefix: "AGENT",
/// };
/// let proxy = read(&sources, std::env::vars_os(), |mut root| {
///     root.section("network").string("proxy")
/// });
/// assert_eq!(proxy.unwrap(), "none");
/// ```
///
/// # Errors
/// All the mistakes: unreadable files, bad syntax, wrong, missing and unknown keys.
pub fn read<T>(
    sources: &Sources<'_>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    check: impl FnOnce(Section<'_>) -> Option<T>,
) -> Result<T, Mistakes> {
    let document = Document::load(sources, environment);
    if document.is_unreadable() {
        // Values that stand in a file nobody could read would only be reported as missing.
        return Err(document.into_mistakes());
    }
    let value = check(document.root());
    let mistakes = document.into_mistakes();
    match value {
        Some(value) if mistakes.is_empty() => Ok(value),
        Some(_) | None => Err(mistakes),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    /// What a directory's `main.toml`, its `main.d` and the environment say.
    fn read_in<T>(
        directory: &Path,
        environment: &[(&str, &str)],
        check: impl FnOnce(Section<'_>) -> Option<T>,
    ) -> Result<T, Mistakes> {
        let sources = Sources {
            file: &directory.join("main.toml"),
            file_may_be_absent: false,
            drop_ins: Some(&directory.join("main.d")),
            environment_prefix: "AGENT",
        };
        let environment = environment
            .iter()
            .map(|(key, value)| (OsString::from(key), OsString::from(value)));
        read(&sources, environment, check)
    }

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("main.d")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    #[test]
    fn later_sources_win_and_arrays_of_tables_append() {
        let directory = directory(&[
            (
                "main.toml",
                "[network]\nproxy = 'none'\nca_file = '/a'\n[[upstream]]\nname = 'One'\n",
            ),
            (
                "main.d/20.toml",
                "[network]\nproxy = 'second'\n[[upstream]]\nname = 'Three'\n",
            ),
            (
                "main.d/10.toml",
                "[network]\nproxy = 'first'\n[[upstream]]\nname = 'Two'\n",
            ),
            ("main.d/ignored.toml.bak", "= not TOML"),
        ]);
        let whole = |mut root: Section<'_>| {
            let mut network = root.section("network");
            let proxy = network.string("proxy")?;
            let ca_file = network.optional_path("ca_file")?;
            let names: Vec<_> = root
                .sections("upstream")
                .into_iter()
                .filter_map(|mut upstream| upstream.string("name"))
                .collect();
            Some((proxy, ca_file, names.join(" ")))
        };
        let (proxy, ca_file, names) = read_in(directory.path(), &[], whole).unwrap();
        assert_eq!(
            (proxy.as_str(), ca_file.to_str(), names.as_str()),
            ("second", Some("/a"), "One Two Three")
        );
        let environment = [
            ("AGENT__NETWORK__PROXY", "Third"),
            ("AGENTX", "y"),
            ("OTHER", "z"),
        ];
        let (proxy, ..) = read_in(directory.path(), &environment, whole).unwrap();
        assert_eq!(proxy, "Third");
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_file_key_and_remedy() {
        let directory = directory(&[
            (
                "main.toml",
                "wait = 'long'\nportt = 1\n[[upstream]]\nname = 'jira'\n[[upstream]]\n",
            ),
            ("main.d/x.toml", "mode = 'fast'\ncount = 0\n"),
        ]);
        let mistakes = read_in(
            directory.path(),
            &[("AGENT__NETWORK__PROXXY", "secret-value")],
            |mut root| {
                let second = Duration::from_secs(1);
                root.duration("wait", second, second..=second * 10);
                root.number("port", 8443_u16, 1..=u16::MAX);
                root.number("count", 5_u32, 1..=10);
                root.choice("mode", &[("slow", 1), ("slower", 2)], 1);
                root.section("network").optional_string("proxy");
                for mut upstream in root.sections("upstream") {
                    upstream.string("name");
                    upstream.string("url");
                }
                Some(())
            },
        )
        .unwrap_err();
        let text = mistakes.to_string();
        let base = directory.path().display();
        for line in [
            format!("{base}/main.toml: line 2: portt: is not a known key; did you mean port?"),
            format!("{base}/main.toml: line 1: wait: is not a duration; write for instance \"10s\" or \"5m\""),
            format!("{base}/main.toml: line 3: upstream[jira].url: is missing; add it"),
            format!("{base}/main.toml: line 5: upstream[#2].name: is missing; add it"),
            format!("{base}/main.toml: line 5: upstream[#2].url: is missing; add it"),
            format!("{base}/main.d/x.toml: line 1: mode: is none of the choices; write one of slow, slower"),
            format!("{base}/main.d/x.toml: line 2: count: is out of range; write a number from 1 to 10"),
            "environment variable AGENT__NETWORK__PROXXY: network.proxxy: is not a known key; did you mean proxy?"
                .to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line:?} is not in\n{text}");
        }
        assert_eq!(text.lines().count(), 8, "{text}");
        assert!(!text.contains("secret-value"));
    }

    #[test]
    fn bad_syntax_is_told_with_file_and_line_but_without_the_text_itself() {
        let directory = directory(&[
            ("main.toml", "a = 1\nproxy = \"http://u:hunter2@x\n"),
            ("main.d/x.toml", "b == 2"),
        ]);
        let mistakes = read_in(directory.path(), &[], |_| Some(())).unwrap_err();
        let text = mistakes.to_string();
        assert!(
            text.contains("main.toml: line 2: has a text that does not end"),
            "{text}"
        );
        assert!(
            text.contains("x.toml: line 1: has a value that is no number"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(mistakes.iter().count(), 2, "{text}");
    }

    #[test]
    fn a_missing_file_is_a_mistake_only_where_someone_named_it() {
        let directory = tempfile::tempdir().unwrap();
        let text = read_in(directory.path(), &[], |_| Some(()))
            .unwrap_err()
            .to_string();
        assert!(text.contains("main.toml: does not exist"), "{text}");
        let sources = Sources {
            file: &directory.path().join("main.toml"),
            file_may_be_absent: true,
            drop_ins: Some(&directory.path().join("main.d")),
            environment_prefix: "AGENT",
        };
        assert!(read(&sources, [], |_| Some(())).is_ok());
    }

    #[test]
    fn the_environment_gives_numbers_truths_and_lists_as_text() {
        let directory = directory(&[("main.toml", "")]);
        let environment = [
            ("AGENT__COUNT", "7"),
            ("AGENT__ON", "true"),
            ("AGENT__METHODS", "GET,POST"),
        ];
        let read_all = |mut root: Section<'_>| {
            Some((
                root.number("count", 1_usize, 0..=10),
                root.boolean("on", false),
                root.strings("methods"),
            ))
        };
        let (count, on, methods) = read_in(directory.path(), &environment, read_all).unwrap();
        assert_eq!((count, on, methods.join(" ")), (7, true, "GET POST".into()));
        fs::write(directory.path().join("main.toml"), "count = '7'\n").unwrap();
        assert!(read_in(directory.path(), &[], read_all).is_err());
    }

    #[test]
    fn a_table_and_a_plain_value_under_one_key_are_a_mistake() {
        let directory = directory(&[
            ("main.toml", "[network]\nproxy = 'none'\n"),
            ("main.d/x.toml", "network = 'fast'\n"),
        ]);
        let text = read_in(directory.path(), &[], |mut root| {
            root.section("network").string("proxy")
        })
        .unwrap_err()
        .to_string();
        assert!(
            text.contains("x.toml: line 1: network: is a text here and a table in"),
            "{text}"
        );
    }

    #[test]
    fn keys_of_a_free_table_keep_their_case_and_dots() {
        let directory = directory(&[(
            "main.toml",
            "[headers]\nX-Api-Key = { env = 'A' }\n\"X.Dot\" = { env = 'B' }\n",
        )]);
        let keys = read_in(directory.path(), &[], |mut root| {
            let headers = root.keyed_sections("headers");
            Some(
                headers
                    .into_iter()
                    .map(|(key, mut section)| Some(format!("{key}={}", section.string("env")?)))
                    .collect::<Option<Vec<_>>>()?
                    .join(" "),
            )
        });
        assert_eq!(keys.unwrap(), "X-Api-Key=A X.Dot=B");
    }
}
