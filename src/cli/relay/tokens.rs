//! `relay token create`, `list`, `revoke`.

use http::Method;
use serde_json::{Value, json};

use super::arguments::CreateToken;
use crate::cli::daemon::{Daemon, url_encode};
use crate::cli::exit_code::Failure;
use crate::cli::output::{note, print, print_json, table};
use crate::relay::api::views::{CreatedTokenView, TokenView, TokensView};

pub(super) async fn create(relay: &Daemon, create: CreateToken) -> Result<(), Failure> {
    let CreateToken {
        connection,
        admin,
        name,
    } = create;
    let body = json!({"connection": connection, "admin": admin, "name": name});
    let created: CreatedTokenView = relay.ask(Method::POST, "/v1/tokens", Some(&body)).await?;
    note(&format!(
        "Token {} ({}) opens {}. It is not shown again.\n",
        created.record.id,
        created.record.name,
        opens(&created.record),
    ));
    print(&format!("{}\n", created.token));
    Ok(())
}

pub(super) async fn list(relay: &Daemon, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let value: Value = relay.ask(Method::GET, "/v1/tokens", None).await?;
        return print_json(&value);
    }
    let view: TokensView = relay.ask(Method::GET, "/v1/tokens", None).await?;
    if view.tokens.is_empty() {
        note("There is no token yet; `relay token create --connection NAME` makes one.\n");
        return Ok(());
    }
    let rows: Vec<_> = view
        .tokens
        .iter()
        .map(|token| {
            [
                token.id.clone(),
                token.name.to_string(),
                opens(token),
                token.created_at.clone(),
            ]
        })
        .collect();
    print(&table(["ID", "NAME", "OPENS", "CREATED"], &rows));
    Ok(())
}

pub(super) async fn revoke(relay: &Daemon, id: &str) -> Result<(), Failure> {
    let target = format!("/v1/tokens/{}", url_encode(id));
    let _: Value = relay.ask(Method::DELETE, &target, None).await?;
    note(&format!("Token {id} is revoked.\n"));
    Ok(())
}

fn opens(token: &TokenView) -> String {
    match (&token.connection, token.scope.as_str()) {
        (Some(connection), _) => format!("calls to {connection}"),
        (None, "admin") => "management and all calls".to_owned(),
        (None, _) => "calls to all connections".to_owned(),
    }
}
