//! `relay initiate`, `connections`, `activate`, `deactivate`, `remove`, `invitation`.

use std::io::{self, IsTerminal as _};
use std::time::SystemTime;

use http::Method;
use serde_json::{Value, json};

use super::arguments::Initiate;
use crate::cli::age;
use crate::cli::daemon::{Daemon, url_encode};
use crate::cli::exit_code::Failure;
use crate::cli::output::{confirm, note, print, print_json, printable, table};
use crate::relay::api::views::{ConnectionView, ConnectionsView, IssuedView};

pub(super) async fn initiate(relay: &Daemon, initiate: Initiate) -> Result<(), Failure> {
    let Initiate {
        local,
        remote,
        name,
        description,
        project,
    } = initiate;
    let body = json!({
        "local": local,
        "remote": remote,
        "name": name,
        "description": description,
        "project": project,
    });
    let issued: IssuedView = relay
        .ask(Method::POST, "/v1/connections", Some(&body))
        .await?;
    show_code(&issued);
    Ok(())
}

pub(super) async fn list(relay: &Daemon, as_json: bool) -> Result<(), Failure> {
    let target = "/v1/connections";
    if as_json {
        let value: Value = relay.ask(Method::GET, target, None).await?;
        return print_json(&value);
    }
    let view: ConnectionsView = relay.ask(Method::GET, target, None).await?;
    if view.connections.is_empty() {
        note("There is no connection yet; `relay initiate --local A --remote B` creates one.\n");
        return Ok(());
    }
    print(&as_table(&view, SystemTime::now()));
    Ok(())
}

pub(super) async fn activate(relay: &Daemon, name: &str) -> Result<(), Failure> {
    let target = format!("/v1/connections/{}/activate", url_encode(name));
    let view: ConnectionView = relay.ask(Method::POST, &target, None).await?;
    note(&state_note(&view));
    Ok(())
}

pub(super) async fn deactivate(relay: &Daemon, name: &str) -> Result<(), Failure> {
    let target = format!("/v1/connections/{}/deactivate", url_encode(name));
    let view: ConnectionView = relay.ask(Method::POST, &target, None).await?;
    note(&state_note(&view));
    Ok(())
}

/// Asks on a terminal only: who is no person is not asked, as with `agent remove`.
pub(super) async fn remove(relay: &Daemon, name: &str, yes: bool) -> Result<(), Failure> {
    if !yes && io::stdin().is_terminal() {
        let name = printable(name);
        let question = format!(
            "Remove the connection {name} with its tokens? It cannot be undone; a new one needs a new invitation."
        );
        let refused = "nothing was removed, because you did not say yes";
        confirm(&question, refused, "")?;
    }
    let target = format!("/v1/connections/{}", url_encode(name));
    let view: ConnectionView = relay.ask(Method::DELETE, &target, None).await?;
    let told = match (&view.far_side, view.link.status.as_str()) {
        (None, _) => "Its invitation can no longer be accepted.",
        (Some(_), "online") => "The far side is being told.",
        (Some(_), _) => "The far side will be told when its agent connects.",
    };
    note(&format!("{name} is removed, with its tokens. {told}\n"));
    Ok(())
}

pub(super) async fn revoke(relay: &Daemon, name: &str) -> Result<(), Failure> {
    let target = format!("/v1/connections/{}/revoke", url_encode(name));
    let _: ConnectionView = relay.ask(Method::POST, &target, None).await?;
    note(&format!(
        "The agent of {name} is cut off, and its key is accepted no more. Names and tokens stay.\n\
         `relay invitation reissue {name}` makes a code for the agent that is to take its place.\n"
    ));
    Ok(())
}

pub(super) async fn reissue(relay: &Daemon, name: &str) -> Result<(), Failure> {
    let target = format!("/v1/connections/{}/invitation", url_encode(name));
    let issued: IssuedView = relay.ask(Method::POST, &target, None).await?;
    note("The former code is revoked.\n");
    show_code(&issued);
    Ok(())
}

pub(super) async fn revoke_invitation(relay: &Daemon, name: &str) -> Result<(), Failure> {
    let target = format!("/v1/connections/{}/invitation", url_encode(name));
    let _: Value = relay.ask(Method::DELETE, &target, None).await?;
    note(&format!(
        "The code of {name} is revoked. `relay invitation reissue {name}` makes a new one.\n"
    ));
    Ok(())
}

/// The code alone on standard output; what to do with it, for people, on standard error.
fn show_code(issued: &IssuedView) {
    let connection = &issued.connection;
    let until = connection
        .invitation
        .as_ref()
        .map_or("it expires", |invitation| &invitation.expires_at);
    note(&format!(
        "Connection {} is pending. Give this code to {}'s admin, who runs `agent accept`.\n\
         It works once, until {until}; whoever has it can accept. It is not shown again.\n",
        connection.name, connection.remote,
    ));
    print(&format!("{}\n", issued.invitation_code));
}

fn state_note(view: &ConnectionView) -> String {
    let more = match (view.state.as_str(), view.deactivated.here) {
        ("pending", true) => "; it will be deactivated when it is accepted",
        ("deactivated", false) => "; the far side must activate it as well",
        _ => "",
    };
    format!("{} is {}{more}.\n", view.name, view.state_text)
}

fn as_table(view: &ConnectionsView, now: SystemTime) -> String {
    let rows: Vec<_> = view
        .connections
        .iter()
        .map(|connection| {
            [
                connection.name.to_string(),
                state_cell(connection),
                connection.link.status.clone(),
                connection
                    .far_side
                    .as_ref()
                    .map_or_else(|| "unknown".to_owned(), |far| far.name.to_string()),
                last_seen(connection, now),
                connection.description.clone(),
            ]
        })
        .collect();
    let titles = [
        "NAME",
        "STATE",
        "LINK",
        "FAR SIDE",
        "LAST SEEN",
        "DESCRIPTION",
    ];
    let mut text = table(titles, &rows);
    for connection in &view.connections {
        if let Some(why) = &connection.link.why {
            let name = &connection.name;
            text.push_str(&format!(
                "{name}: the link has no WebSocket ({}); it is kept for the agent to come back\n",
                printable(why)
            ));
        }
        if let Some(duplicate) = &connection.link.duplicate {
            text.push_str(&format!(
                "{}: a second machine with this agent's identity came from {} at {} and was refused; \
                 ask {}'s admin whether the agent's machine was cloned\n",
                connection.name, duplicate.address, duplicate.at, connection.remote
            ));
        }
    }
    text
}

/// A pending connection's state with what became of its code, if that is not simply open.
fn state_cell(connection: &ConnectionView) -> String {
    match (&connection.invitation, connection.state.as_str()) {
        (Some(invitation), "pending") if invitation.state != "open" => {
            format!("pending, code {}", invitation.state)
        }
        _ => connection.state_text.clone(),
    }
}

fn last_seen(connection: &ConnectionView, now: SystemTime) -> String {
    if connection.link.status == "online" {
        return "now".to_owned();
    }
    age::seen(connection.last_seen_at.as_deref(), now)
}
