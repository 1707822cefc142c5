//! `agent doctor`: which hop on the way to a relay or an upstream fails, and what to do.

use clap::Args;
use http::Method;

use crate::agent::doctor::{Outcome, Report};
use crate::cli::daemon::Daemon;
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::{print, print_json, printable};

/// `agent doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        let report: Report = daemon.ask(Method::GET, "/v1/doctor", None).await?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&describe(&report));
        }
        if report.healthy {
            return Ok(());
        }
        // What was found has been printed; the code lets scripts test for it.
        Err(Failure::new(
            ExitCode::Unavailable,
            "not every way is open",
            "",
        ))
    }
}

fn describe(report: &Report) -> String {
    if report.walks.is_empty() {
        return "Nothing to walk to: there are neither connections nor upstreams yet.\n".to_owned();
    }
    let mut text = String::new();
    for walk in &report.walks {
        text.push_str(&format!(
            "{} ({})\n",
            printable(&walk.subject),
            printable(&walk.url)
        ));
        for check in &walk.checks {
            let outcome = match check.outcome {
                Outcome::Ok => "ok",
                Outcome::Warning => "warning",
                Outcome::Failed => "FAILED",
            };
            let line = format!(
                "  {:<6} {outcome:<7} {}",
                printable(&check.hop),
                printable(&check.detail)
            );
            text.push_str(line.trim_end());
            text.push('\n');
            if !check.remedy.is_empty() {
                text.push_str(&format!("                 {}\n", printable(&check.remedy)));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::doctor::{Check, Walk};

    #[test]
    fn a_failed_hop_stands_with_its_remedy() {
        let check = |hop: &str, outcome, remedy: &str| Check {
            hop: hop.to_owned(),
            outcome,
            detail: String::new(),
            remedy: remedy.to_owned(),
        };
        let report = Report {
            version: 1,
            healthy: false,
            walks: vec![Walk {
                subject: "upstream jira".to_owned(),
                url: "https://jira".to_owned(),
                checks: vec![
                    check("name", Outcome::Ok, ""),
                    check("tcp", Outcome::Failed, "Do it."),
                ],
            }],
        };
        assert_eq!(
            describe(&report),
            "upstream jira (https://jira)\n  name   ok\n  tcp    FAILED\n                 Do it.\n"
        );
    }
}
