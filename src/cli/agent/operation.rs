//! `agent reload`, `agent config check`.

use clap::Subcommand;
use http::Method;

use super::Place;
use crate::agent::admin::api::ReloadAnswer;
use crate::agent::config::DEFAULT_FILE;
use crate::cli::daemon::Daemon;
use crate::cli::exit_code::Failure;
use crate::cli::output::{print, printable};

/// `agent config …`.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Every mistake of the configuration at once; contacts nothing
    Check,
}

pub(super) async fn reload(daemon: &Daemon) -> Result<(), Failure> {
    let answer: ReloadAnswer = daemon.ask(Method::POST, "/v1/reload", None).await?;
    print(&format!(
        "The configuration is in force; upstreams: {}.\n",
        answer.upstreams
    ));
    if let Some(withdrawn) = &answer.withdrawn {
        print(&format!(
            "It has less in it than before: {}.\n",
            printable(withdrawn)
        ));
    }
    if !answer.needs_restart.is_empty() {
        print(&format!(
            "These keys changed and take effect after a restart: {}.\n",
            printable(&answer.needs_restart.join(", "))
        ));
    }
    Ok(())
}

impl Config {
    pub(super) fn carry_out(self, place: &Place) -> Result<(), Failure> {
        match self {
            Self::Check => {
                let config = place.read_config()?;
                let file = place.config.as_ref().map_or_else(
                    || DEFAULT_FILE.to_owned(),
                    |file| file.display().to_string(),
                );
                let rules: usize = config
                    .upstreams
                    .iter()
                    .map(|upstream| upstream.rules.len())
                    .sum();
                print(&format!(
                    "No mistakes in {}. Upstreams: {}, rules: {rules}.\n",
                    printable(&file),
                    config.upstreams.len()
                ));
                Ok(())
            }
        }
    }
}
