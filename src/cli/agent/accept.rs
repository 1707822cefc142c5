//! `agent accept`: shows what the code says, asks, and hands it to the daemon, or redeems it without one.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use clap::Args;
use http::Method;

use super::Place;
use super::invitation::{decode, describe, failure_of, read_code};
use super::transfer::failure_of_state;
use crate::agent::accept::{self, AcceptError};
use crate::agent::admin::api::{AcceptAnswer, AcceptRequest};
use crate::agent::live;
use crate::agent::state::{StateDirectory, StateError};
use crate::cli::daemon::{AskError, Daemon};
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::{confirm, note, print, printable};
use crate::error_chain::chain;
use crate::invitation::Invitation;
use crate::protocol::redeem::is_showable;
use crate::secret::Secret;

/// `agent accept`.
#[derive(Debug, Args)]
pub(super) struct Accept {
    /// The invitation code; absent or "-": asked for without showing it, or read from standard input
    code: Option<String>,
    /// This side's project for the incoming synchronisation
    #[arg(long, value_name = "KEY")]
    project: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Accept {
    pub(super) async fn carry_out(self, place: &Place) -> Result<(), Failure> {
        if self.project.as_deref().is_some_and(|key| !is_showable(key)) {
            return Err(Failure::new(
                ExitCode::Usage,
                "the project key is empty, too long or has control characters",
                "",
            ));
        }
        let code = read_code(self.code)?;
        let invitation = decode(&code)?;
        note(&describe(&invitation));
        if !self.yes {
            ask()?;
        }
        match through_daemon(&place.daemon(), &code, self.project.as_deref()).await {
            Ok(answer) => {
                let follow = "The daemon is making the link; look at it with: agent status\n";
                print(&format!(
                    "{}{follow}",
                    accepted(&answer.name, &answer.relay_url, answer.again)
                ));
                Ok(())
            }
            Err(AskError::Failed(failure)) => Err(failure),
            Err(AskError::NotRunning(_)) => without_daemon(place, &invitation, self.project).await,
        }
    }
}

/// Asks on the terminal. Without one nobody could answer, and silence is not consent.
fn ask() -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            ExitCode::Usage,
            "there is no terminal on which to ask whether to accept",
            "Add --yes to accept without being asked.",
        ));
    }
    confirm(
        "Accept this invitation?",
        "the invitation was not accepted, because you did not say yes",
        "It can still be accepted.",
    )
}

async fn through_daemon(
    daemon: &Daemon,
    code: &Secret<String>,
    project: Option<&str>,
) -> Result<AcceptAnswer, AskError> {
    let request = AcceptRequest {
        code: code.expose().clone(),
        project: project.map(str::to_owned),
    };
    let body = serde_json::to_value(&request).map_err(|error| {
        AskError::Failed(Failure::new(ExitCode::Internal, error.to_string(), ""))
    })?;
    daemon
        .try_ask(Method::POST, "/v1/connections", Some(&body))
        .await
}

/// Redeems the invitation in this process, which needs the state directory for itself.
async fn without_daemon(
    place: &Place,
    invitation: &Invitation,
    project: Option<String>,
) -> Result<(), Failure> {
    let config = place.read_config()?;
    let state =
        StateDirectory::open(&config.state_dir).map_err(|error| state_failure(place, error))?;
    state
        .check_place(config.identity.machine())
        .map_err(|error| failure_of_state(&error))?;
    let dialer = live::dialer(&config)
        .map_err(|error| Failure::new(ExitCode::Configuration, chain(&error).to_string(), ""))?;
    let acceptance = accept::accept(&Arc::new(state), &dialer, invitation, project)
        .await
        .map_err(|error| failure_of(&error))?;
    let record = &acceptance.record;
    let follow =
        "No daemon runs now; it makes the link once it is started: systemctl start relay-agent\n";
    print(&format!(
        "{}{follow}",
        accepted(
            record.name.as_str(),
            &record.relay_url.to_string(),
            acceptance.again
        )
    ));
    Ok(())
}

fn state_failure(place: &Place, error: StateError) -> Failure {
    if let StateError::InUse { .. } = error {
        return Failure::new(
            ExitCode::TryAgain,
            format!(
                "no daemon answers on {}, and {error}",
                place.daemon().socket.display()
            ),
            "Name the daemon's socket with --socket, or wait until the other command is done.",
        );
    }
    failure_of(&AcceptError::State(error))
}

fn accepted(name: &str, relay_url: &str, again: bool) -> String {
    let (name, relay_url) = (printable(name), printable(relay_url));
    if again {
        format!(
            "The connection {name} with {relay_url} had been accepted here before; nothing was lost.\n"
        )
    } else {
        format!("Accepted: the connection {name} with {relay_url} is complete.\n")
    }
}
