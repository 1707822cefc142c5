//! `log-level` of both programs: how much the running daemon logs.

use std::time::Duration;

use clap::Args;
use http::Method;

use super::daemon::Daemon;
use super::exit_code::{ExitCode, Failure};
use super::output::print;
use crate::logging::{LevelChange, LogLevel};

/// `log-level`.
#[derive(Debug, Args)]
pub struct Change {
    /// error, warn, info, debug or trace
    level: LogLevel,
    /// For so long, such as 10m, and then as before
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
}

impl Change {
    /// Asks the daemon.
    ///
    /// # Errors
    /// What it refused, or why it could not be asked.
    pub async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        let Self { level, time } = self;
        let body = serde_json::to_value(LevelChange { level, time })
            .map_err(|error| Failure::new(ExitCode::Internal, error.to_string(), ""))?;
        let answer: LevelChange = daemon
            .ask(Method::PUT, "/v1/log-level", Some(&body))
            .await?;
        print(&answer.sentence());
        Ok(())
    }
}
