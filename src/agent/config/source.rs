//! Where a secret comes from: a file, a variable, a command. Never the secret itself.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config_file::Section;
use crate::name::Name;

/// What to write for a source.
pub(super) const SOURCES: &str = "write one of { credential = \"name\" }, { file = \"/path\" }, { env = \"NAME\" }, \
     { command = [\"/path/of/program\", \"argument\"] }";

/// How long what a command printed is used: short enough that a password that was changed in a vault
/// arrives soon, long enough that the vault is not asked by each call.
const DEFAULT_CACHE: Duration = Duration::from_secs(5 * 60);
/// Shorter would run the command all the time; longer is what a file is for.
const CACHE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(24 * 3600);
/// Until a command has printed its secret: a vault answers within a second or two.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Nobody waits longer for a password.
const TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(120);

/// Where a secret comes from. The secret is not part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file of this name in systemd's `CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A file, by absolute path.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// What a command prints.
    Command(CommandConfig),
}

/// A command that prints a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandConfig {
    /// The program, by absolute path, and its arguments. No shell reads them.
    pub arguments: Vec<String>,
    /// How long what it printed is used.
    pub cache: Duration,
    /// Until it has ended; then it is killed.
    pub timeout: Duration,
}

impl CredentialSource {
    /// Reads a source from `value`, which stands under `key` of `parent`.
    pub(super) fn check(
        value: &mut Section<'_>,
        parent: &Section<'_>,
        key: &'static str,
    ) -> Option<Self> {
        // A credential's name is a file name in one directory, so it follows the rule of names.
        let credential = value
            .optional_parsed::<Name>("credential")
            .map(|name| Self::Credential(name.to_string()));
        let file = value.optional_path("file").map(Self::File);
        let environment = value.optional_string("env").map(Self::Environment);
        let command = CommandConfig::check(value).map(Self::Command);
        let given = ["credential", "file", "env", "command"]
            .into_iter()
            .filter(|source| value.has(source))
            .count();
        if given != 1 {
            parent.mistake(key, "has a value without exactly one source", SOURCES);
            return None;
        }
        credential.or(file).or(environment).or(command)
    }
}

impl CommandConfig {
    fn check(value: &mut Section<'_>) -> Option<Self> {
        let arguments = value.strings("command");
        let cache = value.duration("cache", DEFAULT_CACHE, CACHE_RANGE);
        let timeout = value.duration("timeout", DEFAULT_TIMEOUT, TIMEOUT_RANGE);
        if !value.has("command") {
            for key in ["cache", "timeout"] {
                if value.has(key) {
                    value.mistake(key, "means something for a command only", "leave it out");
                }
            }
            return None;
        }
        let is_absolute = |program: &String| Path::new(program).is_absolute();
        if !arguments.first().is_some_and(is_absolute) {
            value.mistake(
                "command",
                "does not begin with the absolute path of a program",
                "write for instance [\"/usr/bin/vault\", \"read\", \"-field=token\", \"secret/jira\"]",
            );
            return None;
        }
        Some(Self {
            arguments,
            cache,
            timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::AuthConfig;
    use crate::agent::config::tests::read;

    fn source(text: &str) -> Result<CredentialSource, String> {
        let text = format!(
            "[[upstream]]\nname = 'jira'\nurl = 'http://localhost'\nauth = {{ bearer = {text} }}\n"
        );
        let mut config = read(&text)?;
        match config.upstreams.remove(0).credentials.auth {
            Some(AuthConfig::Bearer(source)) => Ok(source),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_command_has_defaults_and_bounds() {
        let command = source("{ command = ['/bin/echo', 'a b'] }").unwrap();
        let expected = CommandConfig {
            arguments: vec!["/bin/echo".to_owned(), "a b".to_owned()],
            cache: DEFAULT_CACHE,
            timeout: DEFAULT_TIMEOUT,
        };
        assert_eq!(command, CredentialSource::Command(expected));
        for (text, mistake) in [
            ("{ command = [] }", "does not begin with the absolute path"),
            (
                "{ command = ['echo'] }",
                "does not begin with the absolute path",
            ),
            ("{ command = '/bin/echo' }", "a list of texts"),
            ("{ command = ['/bin/a'], cache = '1s' }", "is out of range"),
            (
                "{ command = ['/bin/a'], timeout = '1h' }",
                "is out of range",
            ),
            ("{ command = ['/bin/a'], env = 'A' }", "exactly one source"),
            ("{ env = 'A', cache = '1m' }", "for a command only"),
        ] {
            let found = source(text).unwrap_err();
            assert!(found.contains(mistake), "{text}: {found}");
        }
    }
}
