//! `/v1/connections…`: listing, initiating, activating, deactivating, removing.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;

use super::Context;
use super::access::Admin;
use super::errors::ApiError;
use super::extract::Body;
use super::views::{ConnectionView, ConnectionsView, InitiateRequest, IssuedView};
use crate::relay::clock;
use crate::relay::connections::{ChangeError, Initiation};

/// Longest description, in characters: a few sentences.
const MAX_DESCRIPTION: usize = 1_000;
/// Longest project key, in characters; Jira's have ten.
const MAX_PROJECT: usize = 64;

pub(super) async fn list(_: Admin, State(context): State<Context>) -> Json<ConnectionsView> {
    let now = clock::now();
    let all = context.shared.registry.list();
    Json(ConnectionsView::new(
        all.iter()
            .map(|connection| ConnectionView::new(connection, now))
            .collect(),
    ))
}

pub(super) async fn show(
    _: Admin,
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    let found = context.shared.registry.find(&name);
    let connection = found.ok_or(ApiError::Change(ChangeError::UnknownConnection(name)))?;
    Ok(Json(ConnectionView::new(&connection, clock::now())))
}

pub(super) async fn initiate(
    _: Admin,
    State(context): State<Context>,
    Body(request): Body<InitiateRequest>,
) -> Result<(StatusCode, Json<IssuedView>), ApiError> {
    let description = request.description.unwrap_or_default();
    check_text("the description", &description, MAX_DESCRIPTION)?;
    if let Some(project) = &request.project {
        check_text("the project", project, MAX_PROJECT)?;
    }
    let initiation = Initiation {
        local: request.local,
        remote: request.remote,
        name: request.name,
        description,
        project: request.project,
    };
    let issued = context.shared.connections.initiate(initiation).await;
    let issued = issued.map_err(ApiError::Change)?;
    let view = IssuedView::new(&issued, clock::now());
    Ok((StatusCode::CREATED, Json(view)))
}

pub(super) async fn activate(
    admin: Admin,
    context: State<Context>,
    name: Path<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    set_deactivated(admin, context, name, false).await
}

pub(super) async fn deactivate(
    admin: Admin,
    context: State<Context>,
    name: Path<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    set_deactivated(admin, context, name, true).await
}

async fn set_deactivated(
    _: Admin,
    State(context): State<Context>,
    Path(name): Path<String>,
    deactivated: bool,
) -> Result<Json<ConnectionView>, ApiError> {
    let changed = context
        .shared
        .connections
        .set_deactivated(&name, deactivated)
        .await;
    let connection = changed.map_err(ApiError::Change)?;
    Ok(Json(ConnectionView::new(&connection, clock::now())))
}

pub(super) async fn revoke(
    _: Admin,
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    let revoked = context.shared.connections.revoke_agent(&name).await;
    let connection = revoked.map_err(ApiError::Change)?;
    Ok(Json(ConnectionView::new(&connection, clock::now())))
}

pub(super) async fn remove(
    _: Admin,
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    let removed = context.shared.connections.remove(&name).await;
    let connection = removed.map_err(ApiError::Change)?;
    Ok(Json(ConnectionView::new(&connection, clock::now())))
}

/// Texts are shown in terminals and pages of both sides: no control characters, not without end.
fn check_text(what: &str, text: &str, longest: usize) -> Result<(), ApiError> {
    if text.chars().count() > longest {
        let problem = format!("{what} has more than {longest} characters");
        return Err(ApiError::BadRequest(problem));
    }
    if text.chars().any(char::is_control) {
        let problem = format!("{what} has a control character in it, such as a line break");
        return Err(ApiError::BadRequest(problem));
    }
    Ok(())
}
