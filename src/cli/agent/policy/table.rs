//! `agent policy test`: holds a table of expectations against the configuration, as it stands in the files.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::super::Place;
use crate::agent::config::{DEFAULT_FILE, policy_of};
use crate::agent::expectations::{Checked, Expectations, Verdict};
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::{print, print_json, printable};

/// What the table is called, beside the configuration.
const DEFAULT_TABLE: &str = "policy.test.toml";

/// `agent policy test`.
#[derive(Debug, Args)]
pub(in crate::cli::agent) struct Test {
    /// The table [default: policy.test.toml beside the configuration]
    file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Test {
    pub(super) fn carry_out(self, place: &Place) -> Result<(), Failure> {
        let beside = || {
            let config = place.config.as_deref();
            let config = config.unwrap_or_else(|| Path::new(DEFAULT_FILE));
            config.with_file_name(DEFAULT_TABLE)
        };
        let file = self.file.unwrap_or_else(beside);
        let policy = policy_of(&place.read_config()?.upstreams);
        let table = Expectations::read(&file).map_err(|mistakes| {
            let problem = format!("the table has mistakes:\n{mistakes}");
            Failure::new(ExitCode::BadData, problem, "")
        })?;
        let cases: Vec<_> = table.check(&policy).collect();
        let unmet = cases.iter().filter(|case| !case.is_met()).count();
        if self.json {
            print_json(&json!({
                "cases": cases.iter().map(as_json).collect::<Vec<_>>(),
                "unmet": unmet,
            }))?;
        } else {
            print(&describe(&cases, &file));
        }
        if unmet == 0 {
            return Ok(());
        }
        Err(Failure::new(
            ExitCode::BadData,
            format!("{unmet} of {} expectations are not met", cases.len()),
            "Correct the rules, or the table where it is out of date.",
        ))
    }
}

/// A line for each case that is not as expected, or that candidate rules would deny, and a count.
fn describe(cases: &[Checked<'_>], file: &Path) -> String {
    let mut text = String::new();
    for case in cases.iter().filter(|case| !case.is_met()) {
        let line = format!(
            "case {}, {case}: expected {}; happened: {}",
            case.number,
            case.expected(),
            case.happened()
        );
        text.push_str(&printable(&line));
        text.push('\n');
    }
    let would_deny = |case: &&Checked<'_>| case.candidate() == Some(Verdict::Deny);
    let told = cases.iter().filter(|case| case.is_met());
    for case in told.filter(would_deny) {
        let line = format!(
            "case {}, {case}: as expected, but: {}",
            case.number,
            case.happened()
        );
        text.push_str(&printable(&line));
        text.push('\n');
    }
    let met = cases.iter().filter(|case| case.is_met()).count();
    let file = file.display().to_string();
    text.push_str(&format!(
        "{met} of {} cases of {} are as expected.\n",
        cases.len(),
        printable(&file)
    ));
    match cases.iter().filter(would_deny).count() {
        0 => {}
        denied => text.push_str(&format!(
            "The candidate rules would deny {denied} of those that pass.\n"
        )),
    }
    text
}

fn as_json(case: &Checked<'_>) -> serde_json::Value {
    json!({
        "number": case.number,
        "call": case.to_string(),
        "expected": case.expected(),
        "happened": case.happened(),
        "met": case.is_met(),
        "candidate": case.candidate().map(|verdict| verdict.to_string()),
    })
}
