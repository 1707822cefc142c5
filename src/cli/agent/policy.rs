//! `agent policy explain`: which rule would allow a call, or why none does.

use clap::{Args, Subcommand};
use http::Method;

use crate::agent::admin::api::ExplainAnswer;
use crate::cli::daemon::{Daemon, url_encode};
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::{print, print_json, printable};

/// `agent policy …`.
#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// Which rule would allow a call, or why none does
    Explain(Explain),
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
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Policy {
    pub(super) async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        match self {
            Self::Explain(explain) => explain.carry_out(daemon).await,
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
        let answer: ExplainAnswer = daemon.ask(Method::GET, &target, None).await?;
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
            "To allow it, add a rule under [[upstream.allow]] and run: agent reload",
        ))
    }
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
    for rule in &answer.rules {
        let verdict = match (rule.why_not.as_str(), rule.denies) {
            ("", false) => "allows it",
            ("", true) => "denies it",
            (why_not, _) => why_not,
        };
        text.push_str(&format!(
            "  {}: {}\n",
            printable(&rule.rule),
            printable(verdict)
        ));
    }
    text
}
