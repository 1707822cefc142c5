//! `agent run`: the daemon, in the foreground, as systemd wants it.

use super::Place;
use super::transfer::failure_of_state;
use crate::agent::state::StateError;
use crate::agent::succession::heir::Heritage;
use crate::agent::{Agent, BuildError};
use crate::cli::exit_code::{ExitCode, Failure};
use crate::error_chain::chain;
use crate::logging;
use crate::passed_sockets::PassedSockets;
use crate::shutdown::{self, Ended, Shutdown};

pub(super) async fn run(place: Place) -> Result<(), Failure> {
    let mut config = place.read_config()?;
    if let Some(socket) = place.socket {
        config.admin.socket = socket;
    }
    let log = logging::init(config.log.level, config.log.format).map_err(|error| {
        Failure::new(
            ExitCode::Configuration,
            chain(&error).to_string(),
            "Set log.format to text or json.",
        )
    })?;
    let shutdown = Shutdown::new();
    shutdown::watch_signals(&shutdown).map_err(|error| {
        Failure::new(
            ExitCode::Internal,
            format!("signals cannot be watched: {error}"),
            "",
        )
    })?;
    let passed = PassedSockets::from_environment().map_err(BuildError::PassedSocket);
    let passed = passed.map_err(|error| failure_of(&error))?;
    let heritage = Heritage::from_environment().await;
    let heritage = heritage.map_err(|error| failure_of(&BuildError::Heritage(error)))?;
    let agent = Agent::build(&config, place.config, passed, log, shutdown, heritage);
    let agent = agent.map_err(|error| failure_of(&error))?;
    match agent.run().await {
        Ended::Drained | Ended::Stopped => Ok(()),
        Ended::Abandoned(tasks) => Err(Failure::new(
            ExitCode::TryAgain,
            format!("{tasks} tasks were still at work when the agent stopped"),
            "",
        )),
    }
}

fn failure_of(error: &BuildError) -> Failure {
    let text = chain(error).to_string();
    match error {
        BuildError::State(StateError::InUse { .. }) => Failure::new(
            ExitCode::TryAgain,
            text,
            "Only one agent can use a state directory: stop the other one, or give this one another state_dir.",
        ),
        BuildError::State(error) => failure_of_state(error),
        BuildError::Heritage(_) => Failure::new(ExitCode::TryAgain, text, ""),
        BuildError::Live(_) => Failure::new(ExitCode::Configuration, text, ""),
        BuildError::PassedSocket(error) => {
            Failure::new(ExitCode::Configuration, text, capitalised(error.remedy()))
        }
        BuildError::Metrics { address, .. } => Failure::new(
            ExitCode::TryAgain,
            text,
            format!("Find out with `ss -ltnp` who listens on {address}, or choose another port."),
        ),
        BuildError::Socket(error) => {
            let remedy = error.remedy();
            Failure::new(ExitCode::CannotWrite, text, capitalised(&remedy))
        }
    }
}

/// A fragment as a sentence.
fn capitalised(fragment: &str) -> String {
    let mut characters = fragment.chars();
    characters.next().map_or_else(String::new, |first| {
        format!("{}{}.", first.to_uppercase(), characters.as_str())
    })
}
