//! `agent policy explain`: which rule would allow a call, or why none does; `agent policy test`: whether a whole
//! table of expectations is met.

mod table;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;

use super::Place;
use crate::agent::admin::api::{ExplainAnswer, ExplainedRule};
use crate::cli::daemon::{Daemon, url_encode};
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::{print, print_json, printable};

/// The [word](crate::agent::policy::Denied::word) of a decision that waits for the body.
const NEEDS_BODY: &str = "needs-body";

/// `agent policy …`.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Which rule would allow a call, or why none does
    Explain(Explain),
    /// Check a table of expectations against the configuration; needs no daemon
    Test(table::Test),
}

/// `agent policy explain`.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The method, such as GET
    method: String,
    /// The URL in the private network, or a path together with --upstream
    url: String,
    /// The upstream's name, where the URL does not tell it
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// The label of the caller's token
    #[arg(long, value_name = "LABEL")]
    caller: Option<String>,
    /// A header of the call, 'Name: value'; may be given several times
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    headers: Vec<String>,
    /// A file with the body of the call, or - for standard input; its type is told by -H
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Policy {
    pub(super) async fn carry_out(self, place: &Place) -> Result<(), Failure> {
        match self {
            Self::Explain(explain) => explain.carry_out(&place.daemon()).await,
            Self::Test(test) => test.carry_out(place),
        }
    }
}

impl Explain {
    async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        let mut target = format!(
            "/v1/policy/explain?method={}&url={}",
            url_encode(&self.method),
            url_encode(&self.url)
        );
        if let Some(upstream) = &self.upstream {
            target.push_str(&format!("&upstream={}", url_encode(upstream)));
        }
        if let Some(caller) = &self.caller {
            target.push_str(&format!("&caller={}", url_encode(caller)));
        }
        for header in &self.headers {
            target.push_str(&format!("&header={}", url_encode(header)));
        }
        let answer: ExplainAnswer = match &self.body {
            Some(file) => daemon.ask_about(&target, read(file)?).await?,
            None => daemon.ask(Method::GET, &target, None).await?,
        };
        if self.json {
            print_json(&answer)?;
        } else {
            print(&describe(&answer));
        }
        if answer.allowed {
            return Ok(());
        }
        // The answer has been given; the code lets scripts test for it.
        Err(Failure::new(
            ExitCode::NotPermitted,
            "such a call would be denied",
            match answer.word.as_str() {
                NEEDS_BODY => "Give the body too: --body FILE, and its type: -H 'Content-Type: …'.",
                _ => "To allow it, add a rule under [[upstream.allow]] and run: agent reload",
            },
        ))
    }
}

/// A file, or standard input.
fn read(file: &Path) -> Result<Bytes, Failure> {
    let read = match file.as_os_str() == "-" {
        true => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
        false => fs::read(file),
    };
    read.map(Bytes::from).map_err(|error| {
        let problem = format!("the body in {} cannot be read: {error}", file.display());
        Failure::new(ExitCode::Usage, problem, "")
    })
}

fn describe(answer: &ExplainAnswer) -> String {
    let verdict = if answer.allowed { "allowed" } else { "denied" };
    let mut text = format!(
        "{} {} of upstream {}: {verdict} ({})\n",
        printable(&answer.method),
        printable(&answer.path),
        printable(&answer.upstream),
        printable(&answer.reason)
    );
    text.push_str(&describe_rules(&answer.rules, "  "));
    if let Some(candidate) = &answer.candidate {
        let verdict = match candidate.allowed {
            true => "would allow it, too",
            false => "would deny it; it passes",
        };
        text.push_str(&format!(
            "  the candidate rules {verdict} ({})\n",
            printable(&candidate.reason)
        ));
        text.push_str(&describe_rules(&candidate.rules, "    "));
    }
    text
}

fn describe_rules(rules: &[ExplainedRule], indent: &str) -> String {
    let mut text = String::new();
    for rule in rules {
        let verdict = match (rule.why_not.as_str(), rule.denies) {
            ("", false) => "allows it",
            ("", true) => "denies it",
            (why_not, _) => why_not,
        };
        text.push_str(&format!(
            "{indent}{}: {}\n",
            printable(&rule.rule),
            printable(verdict)
        ));
    }
    text
}
