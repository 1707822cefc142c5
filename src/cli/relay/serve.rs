//! `relay serve`: configuration, log, relay, signals, end.

use std::path::Path;

use crate::cli::exit_code::{ExitCode, Failure};
use crate::error_chain::chain;
use crate::logging;
use crate::passed_sockets::PassedSockets;
use crate::relay::config::RelayConfig;
use crate::relay::store::StoreError;
use crate::relay::{BuildError, Relay};
use crate::shutdown::{self, Ended, Shutdown};

/// Runs the relay until it is told to stop.
pub(super) async fn serve(config: Option<&Path>) -> Result<(), Failure> {
    let config = read(config)?;
    let log = logging::init(config.log.level, config.log.format).map_err(|error| {
        let problem = format!("could not begin to log: {}", chain(&error));
        let remedy = "Set [log] format = \"text\" where there is no journal.";
        Failure::new(ExitCode::Configuration, problem, remedy)
    })?;
    let shutdown = Shutdown::new();
    shutdown::watch_signals(&shutdown).map_err(|error| {
        let problem = format!("could not watch for signals: {error}");
        Failure::new(ExitCode::Internal, problem, "")
    })?;
    let passed = PassedSockets::from_environment().map_err(BuildError::PassedSocket);
    let passed = passed.map_err(|error| not_built(&error))?;
    let relay = Relay::build(config, passed, log, shutdown).await;
    let relay = relay.map_err(|error| not_built(&error))?;
    match relay.run().await {
        Ended::Drained | Ended::Stopped => {}
        Ended::Abandoned(tasks) => tracing::warn!(tasks, "ended with tasks that did not let go"),
    }
    Ok(())
}

/// The configuration, or all its mistakes.
pub(super) fn read(config: Option<&Path>) -> Result<RelayConfig, Failure> {
    RelayConfig::load(config, std::env::vars_os()).map_err(|mistakes| {
        Failure::new(
            ExitCode::Configuration,
            format!("the configuration has mistakes:\n{mistakes}"),
            "",
        )
    })
}

fn not_built(error: &BuildError) -> Failure {
    let (code, remedy) = match error {
        BuildError::Store(StoreError::InUse { .. }) => (ExitCode::TryAgain, String::new()),
        BuildError::StateDirectory(_) | BuildError::Identity(_) | BuildError::Store(_) => {
            (ExitCode::CannotWrite, String::new())
        }
        BuildError::Listen { address, .. } => (
            ExitCode::TryAgain,
            format!("Find out with `ss -ltnp` who listens on {address}, or choose another port."),
        ),
        BuildError::Random(_) => (ExitCode::Internal, String::new()),
        BuildError::Tls(_) => (
            ExitCode::Configuration,
            "See certificate and key under [tls]; both are PEM files that the relay's user can read."
                .to_owned(),
        ),
        BuildError::PassedSocket(error) => (ExitCode::Configuration, sentence(error.remedy())),
        BuildError::AdminSocket(error) => (ExitCode::CannotWrite, sentence(&error.remedy())),
    };
    let problem = format!("could not start: {}", chain(error));
    Failure::new(code, problem, remedy)
}

/// A fragment as a sentence.
fn sentence(fragment: &str) -> String {
    let mut letters = fragment.chars();
    let first = letters.next().map(|letter| letter.to_uppercase());
    let first: String = first.into_iter().flatten().collect();
    format!("{first}{}.", letters.as_str())
}
