//! `/v1/tokens…`: listing, making and revoking callers' tokens.

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;

use super::Context;
use super::access::Admin;
use super::errors::ApiError;
use super::extract::Body;
use super::views::{CreateTokenRequest, CreatedTokenView, DoneView, TokenView, TokensView};
use crate::relay::connections::TokenFor;

pub(super) async fn list(_: Admin, State(context): State<Context>) -> Json<TokensView> {
    let registry = &context.shared.registry;
    let tokens = context.shared.tokens.list();
    Json(TokensView::new(
        tokens
            .iter()
            .map(|token| TokenView::new(token, registry))
            .collect(),
    ))
}

pub(super) async fn create(
    _: Admin,
    State(context): State<Context>,
    Body(request): Body<CreateTokenRequest>,
) -> Result<(StatusCode, Json<CreatedTokenView>), ApiError> {
    let owner = match (request.connection, request.admin) {
        (Some(_), true) => {
            let problem = "a token is for one connection or for management, not both".to_owned();
            return Err(ApiError::BadRequest(problem));
        }
        (Some(connection), false) => TokenFor::Connection(connection),
        (None, true) => TokenFor::Admin,
        (None, false) => TokenFor::AllConnections,
    };
    let created = context
        .shared
        .connections
        .create_token(owner, request.name)
        .await;
    let (record, text) = created.map_err(ApiError::Change)?;
    let token = TokenView::new(&record, &context.shared.registry);
    let view = CreatedTokenView::new(token, &text);
    Ok((StatusCode::CREATED, Json(view)))
}

pub(super) async fn revoke(
    _: Admin,
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<DoneView>, ApiError> {
    let revoked = context.shared.connections.revoke_token(&id).await;
    revoked.map_err(ApiError::Change)?;
    Ok(Json(DoneView::new()))
}
