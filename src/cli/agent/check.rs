//! `agent config check`: every mistake of the configuration, and what is none and yet most likely not meant.

use std::path::Path;

use clap::Subcommand;

use super::Place;
use crate::agent::config::{AgentConfig, DEFAULT_FILE, UpstreamConfig};
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::{print, printable};
use crate::error_chain::chain;
use crate::link::tls::client::{ClientTls, Purpose};

/// Ports that mostly speak plain HTTP, and those that mostly speak HTTPS.
const PLAIN_PORTS: [u16; 2] = [80, 8080];
const TLS_PORTS: [u16; 2] = [443, 8443];

/// `agent config …`.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Every mistake of the configuration at once; contacts nothing
    Check,
}

impl Config {
    pub(super) fn carry_out(self, place: &Place) -> Result<(), Failure> {
        match self {
            Self::Check => {
                let config = place.read_config()?;
                let unusable = unusable_files(&config);
                if !unusable.is_empty() {
                    let lines = unusable.join("\n");
                    let problem =
                        format!("the configuration names files that cannot be used:\n{lines}");
                    return Err(Failure::new(ExitCode::Configuration, problem, ""));
                }
                let file = place
                    .config
                    .as_deref()
                    .unwrap_or_else(|| Path::new(DEFAULT_FILE));
                print(&report(file, &config));
                Ok(())
            }
        }
    }
}

fn report(file: &Path, config: &AgentConfig) -> String {
    let rules: usize = config.upstreams.iter().map(|it| it.rules.len()).sum();
    let mut text = format!(
        "No mistakes in {}. Upstreams: {}, rules: {rules}.\n",
        printable(&file.display().to_string()),
        config.upstreams.len()
    );
    for remark in remarks(config) {
        text.push_str(&format!("Is this meant? {}\n", printable(&remark)));
    }
    text
}

/// The files with authorities that cannot be used, each with key, reason and remedy.
fn unusable_files(config: &AgentConfig) -> Vec<String> {
    let network = config.network.ca_file.iter();
    let network = network.map(|file| ("network.ca_file".to_owned(), file));
    let upstreams = config.upstreams.iter().filter_map(|upstream| {
        let key = format!("upstream[{}].ca_file", upstream.name);
        Some((key, upstream.ca_file.as_ref()?))
    });
    let tried = network.chain(upstreams).filter_map(|(key, file)| {
        let error = ClientTls::new([file.as_path()], Purpose::Upstream).err()?;
        let remedy = "name a PEM file with certificates that the agent's user may read";
        Some(format!("{key}: {}; {remedy}", chain(&error)))
    });
    tried.collect()
}

/// What is no mistake, and yet most likely not what was meant.
fn remarks(config: &AgentConfig) -> Vec<String> {
    if config.upstreams.is_empty() {
        return vec![
            "There is no [[upstream]], so nothing in the private network can be reached."
                .to_owned(),
        ];
    }
    config.upstreams.iter().flat_map(remarks_on).collect()
}

fn remarks_on(upstream: &UpstreamConfig) -> Vec<String> {
    let name = &upstream.name;
    let mut remarks = Vec::new();
    let port = upstream.url.port_u16();
    let is = |scheme: &str, ports: [u16; 2]| {
        let port = port.filter(|port| ports.contains(port))?;
        (upstream.url.scheme_str() == Some(scheme)).then_some(port)
    };
    if let Some(port) = is("http", TLS_PORTS) {
        remarks.push(format!(
            "upstream[{name}].url: http on port {port}, which mostly speaks https; agent doctor tells whether it answers"
        ));
    }
    if let Some(port) = is("https", PLAIN_PORTS) {
        remarks.push(format!(
            "upstream[{name}].url: https on port {port}, which mostly speaks http; agent doctor tells whether it answers"
        ));
    }
    if upstream.rules.iter().all(|rule| rule.denies()) {
        remarks.push(format!(
            "upstream[{name}]: no [[upstream.allow]] allows anything, so nothing of it can be reached"
        ));
    }
    for rule in &upstream.rules {
        let shown = rule.to_string();
        if shown.contains("/*") {
            remarks.push(format!(
                "upstream[{name}]: {shown}: a * in a path stands for itself; {{*rest}} is all that follows, {{name}} one segment"
            ));
        }
    }
    remarks
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::golden;
    use crate::cli::terminal::Look;

    const UPSTREAM: &str = "[[upstream]]\nname = \"jira\"\nurl = \"https://jira.corp.local\"\n";
    const ALLOW: &str = "[[upstream.allow]]\nmethods = [\"GET\"]\npath = \"/rest/{*rest}\"\n";

    /// What the command says of a file with this in it.
    fn checked(text: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("agent.toml");
        fs::write(&file, text).unwrap();
        let said = match AgentConfig::read(Some(&file)) {
            Err(mistakes) => mistakes.to_string() + "\n",
            Ok(config) => match unusable_files(&config).join("\n") {
                unusable if unusable.is_empty() => report(&file, &config),
                unusable => unusable + "\n",
            },
        };
        said.replace(&file.display().to_string(), "agent.toml")
    }

    #[test]
    fn each_likely_mistake_is_told_with_its_line_what_is_wrong_and_what_to_do() {
        let with = |lines: &str| format!("{UPSTREAM}{lines}{ALLOW}");
        let rule = |lines: &str| format!("{UPSTREAM}[[upstream.allow]]\n{lines}");
        let url = |url: &str| with("").replace("https://jira.corp.local", url);
        let cases: &[(&str, String)] = &[
            (
                "a key with a letter wrong",
                "[network]\nproxi = \"none\"\n".into(),
            ),
            (
                "a section with a letter wrong",
                "[netwrok]\nproxy = \"none\"\n".into(),
            ),
            (
                "a key that there is not",
                "[network]\ncolour = \"red\"\n".into(),
            ),
            ("a text for a number", with("max_in_flight = \"64\"\n")),
            ("a number for a text", with("ca_file = 3\n")),
            ("a truth in quotes", "[audit]\nenabled = \"false\"\n".into()),
            ("a truth in capitals", "[audit]\nenabled = False\n".into()),
            (
                "the same section twice",
                "[log]\nlevel = \"info\"\n[network]\n[log]\nformat = \"json\"\n".into(),
            ),
            (
                "the same key twice",
                "[log]\nlevel = \"info\"\nlevel = \"debug\"\n".into(),
            ),
            ("a rule before its upstream", format!("{ALLOW}{UPSTREAM}")),
            ("two upstreams of one name", with("") + &with("")),
            (
                "a quote that is missing",
                "[log]\nlevel = \"info\nformat = \"json\"\n".into(),
            ),
            ("no quotes", "[log]\nlevel = info\n".into()),
            (
                "quotes of a word processor",
                "[log]\nlevel = “info”\n".into(),
            ),
            ("a colon", "[log]\nlevel: \"info\"\n".into()),
            ("no value", "[log]\nlevel =\n".into()),
            (
                "a bracket that is missing",
                "[log\nlevel = \"info\"\n".into(),
            ),
            (
                "a list that does not end",
                rule("methods = [\"GET\"\npath = \"/a\"\n"),
            ),
            (
                "a path of another system",
                "[network]\nca_file = \"C:\\users\\ca.pem\"\n".into(),
            ),
            (
                "an upstream in single brackets",
                UPSTREAM.replace("[[", "[").replace("]]", "]"),
            ),
            (
                "allow in single brackets",
                with("").replace("[[upstream.allow]]", "[upstream.allow]"),
            ),
            ("allow as a text", format!("{UPSTREAM}allow = \"/rest\"\n")),
            (
                "allow as a list of texts",
                format!("{UPSTREAM}allow = [\"/rest\"]\n"),
            ),
            (
                "methods as a text",
                rule("methods = \"GET\"\npath = \"/a\"\n"),
            ),
            ("no methods", rule("path = \"/a\"\n")),
            (
                "a method in small letters",
                rule("methods = [\"get\"]\npath = \"/a\"\n"),
            ),
            (
                "a path without its slash",
                rule("methods = [\"GET\"]\npath = \"rest\"\n"),
            ),
            (
                "a path with a star",
                rule("methods = [\"GET\"]\npath = \"/rest/*\"\n"),
            ),
            ("a duration without quotes", with("connect_timeout = 10\n")),
            (
                "a duration without a unit",
                with("connect_timeout = \"10\"\n"),
            ),
            (
                "a duration that is too long",
                with("connect_timeout = \"10d\"\n"),
            ),
            (
                "a secret in the file",
                with("auth = { bearer = \"hunter2\" }\n"),
            ),
            ("no scheme", url("jira.corp.local")),
            (
                "http on a port of https",
                url("http://jira.corp.local:8443"),
            ),
            ("https on a port of http", url("https://jira.corp.local:80")),
            ("an upstream without a rule", UPSTREAM.into()),
            ("nothing", String::new()),
            (
                "a file that is not there",
                with("ca_file = \"/there/is/none.pem\"\n"),
            ),
            (
                "a path that is not whole",
                with("ca_file = \"corp-ca.pem\"\n"),
            ),
            (
                "a tab, a byte order mark and line ends of Windows",
                "\u{feff}[log]\r\n\tlevel = \"info\"\r\n".into(),
            ),
            (
                "line ends of an old Mac",
                "[log]\rlevel = \"info\"\r".into(),
            ),
        ];
        let look = Look {
            width: Some(80),
            ..Look::default()
        };
        let mut screen = String::new();
        let mut add = |title: &str, said: &str| {
            screen.push_str(&format!("# {title}\n"));
            for line in said.lines() {
                screen.push_str(&look.wrap(line, "    "));
            }
            screen.push('\n');
        };
        for (title, text) in cases {
            add(title, &checked(text.as_bytes()));
        }
        add("not UTF-8", &checked(b"[log]\n# Pr\xfcfung\n"));
        assert!(!screen.contains("hunter2"));
        golden::check("agent-config-check", &screen);
    }
}
