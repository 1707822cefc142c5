//! `agent connections`, `activate`, `deactivate`, `remove`.

use std::io::{self, IsTerminal as _};
use std::time::SystemTime;

use clap::Args;
use http::Method;

use super::status::connection_rows;
use crate::agent::admin::api::{ConnectionList, RemoveAnswer};
use crate::agent::status::{ConnectionState, ConnectionStatus};
use crate::cli::daemon::{Daemon, url_encode};
use crate::cli::exit_code::Failure;
use crate::cli::output::{confirm, print, print_json, printable};

/// `agent connections`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// `agent activate` and `agent deactivate`.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The connection's name
    name: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// `agent remove`.
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The connection's name
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        let list: ConnectionList = daemon.ask(Method::GET, "/v1/connections", None).await?;
        if self.json {
            return print_json(&list);
        }
        print(&connection_rows(&list.connections, SystemTime::now()));
        Ok(())
    }
}

impl Named {
    pub(super) async fn activate(self, daemon: &Daemon) -> Result<(), Failure> {
        self.carry_out(daemon, "activate").await
    }

    pub(super) async fn deactivate(self, daemon: &Daemon) -> Result<(), Failure> {
        self.carry_out(daemon, "deactivate").await
    }

    async fn carry_out(self, daemon: &Daemon, action: &str) -> Result<(), Failure> {
        let target = format!("/v1/connections/{}/{action}", url_encode(&self.name));
        let status: ConnectionStatus = daemon.ask(Method::POST, &target, None).await?;
        if self.json {
            return print_json(&status);
        }
        print(&sentence(&status));
        Ok(())
    }
}

impl Remove {
    pub(super) async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        if !self.yes && io::stdin().is_terminal() {
            let question = format!(
                "Remove the connection {}? It cannot be undone; a new one needs a new invitation.",
                printable(&self.name)
            );
            let refused = "nothing was removed, because you did not say yes";
            confirm(&question, refused, "")?;
        }
        let target = format!("/v1/connections/{}", url_encode(&self.name));
        let answer: RemoveAnswer = daemon.ask(Method::DELETE, &target, None).await?;
        if self.json {
            return print_json(&answer);
        }
        let name = printable(&self.name);
        print(&if answer.only_here {
            format!(
                "The connection {name} is removed from this machine only: another agent with the same identity holds its link.\n"
            )
        } else if answer.public_side_told {
            format!("The connection {name} is removed, and the public side knows.\n")
        } else {
            format!(
                "The connection {name} is removed; the public side is told as soon as it can be reached.\n"
            )
        });
        Ok(())
    }
}

/// What the state is now, and whose doing it is.
fn sentence(status: &ConnectionStatus) -> String {
    let name = printable(&status.name);
    match (
        status.state,
        status.deactivated_here,
        status.deactivated_there,
    ) {
        (ConnectionState::Active, ..) => format!("The connection {name} is active.\n"),
        (ConnectionState::Deactivated, true, false) => {
            format!("The connection {name} is deactivated by this side.\n")
        }
        (ConnectionState::Deactivated, false, _) => format!(
            "This side lets calls pass, but the public side has deactivated the connection {name}: ask its admin to activate it.\n"
        ),
        (ConnectionState::Deactivated, true, true) => {
            format!("The connection {name} is deactivated by both sides.\n")
        }
        (ConnectionState::Removing | ConnectionState::Ended | ConnectionState::Damaged, ..) => {
            format!("The connection {name} is {}.\n", status.state.word())
        }
    }
}
