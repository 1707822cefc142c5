//! `agent rotate`: a new identity key for one connection, or for all.

use clap::Args;
use http::Method;
use serde::Serialize;

use crate::agent::admin::api::{ConnectionList, RotateAnswer};
use crate::agent::status::ConnectionState;
use crate::cli::daemon::{Daemon, url_encode};
use crate::cli::exit_code::Failure;
use crate::cli::output::{print, print_json, printable};

/// `agent rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The connection's name; without one, every connection that has not ended
    name: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// One connection's answer.
#[derive(Serialize)]
struct Rotated {
    name: String,
    #[serde(flatten)]
    answer: RotateAnswer,
}

impl Rotate {
    /// All that can be done is done; the first failure is the command's.
    pub(super) async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        let names = match self.name {
            Some(name) => vec![name],
            None => living(daemon).await?,
        };
        let mut rotated = Vec::new();
        let mut failure = None;
        for name in names {
            let target = format!("/v1/connections/{}/rotate", url_encode(&name));
            match daemon.ask(Method::POST, &target, None).await {
                Ok(answer) => rotated.push(Rotated { name, answer }),
                Err(failed) => {
                    failure.get_or_insert(failed);
                }
            }
        }
        if self.json {
            print_json(&rotated)?;
        } else {
            print(&rotated.iter().map(sentence).collect::<String>());
        }
        failure.map_or(Ok(()), Err)
    }
}

async fn living(daemon: &Daemon) -> Result<Vec<String>, Failure> {
    let list: ConnectionList = daemon.ask(Method::GET, "/v1/connections", None).await?;
    let living = list.connections.into_iter().filter(|one| match one.state {
        ConnectionState::Active | ConnectionState::Deactivated => true,
        ConnectionState::Removing | ConnectionState::Ended | ConnectionState::Damaged => false,
    });
    Ok(living.map(|one| one.name).collect())
}

fn sentence(rotated: &Rotated) -> String {
    let name = printable(&rotated.name);
    match &rotated.answer.fingerprint {
        Some(key) => format!("The connection {name} has the new identity key {key}.\n"),
        None => {
            format!("The connection {name} gets a new identity key as soon as its link is up.\n")
        }
    }
}
