//! `/v1/status`, the health checks, and the log's level.

use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::{Extension, Json};
use http::header::ACCEPT;
use http::{HeaderMap, Response};

use super::access::{Admin, LocalAdmin};
use super::errors::ApiError;
use super::extract::Body;
use super::views::{HealthView, StatusView};
use super::{Context, Origin};
use crate::logging::LevelChange;
use crate::relay::health;

/// The process answers; on the admin socket with what is the matter, which is none of a stranger's business.
pub(super) async fn is_alive(
    Extension(origin): Extension<Origin>,
    State(context): State<Context>,
) -> Response<axum::body::Body> {
    match origin {
        Origin::Network(_) => "ok\n".into_response(),
        Origin::AdminSocket { .. } => {
            let conditions = health::look(&context.shared).await;
            Json(HealthView::new(conditions)).into_response()
        }
    }
}

/// New work is welcome: for load balancers to look at.
pub(super) async fn is_ready(State(context): State<Context>) -> Result<&'static str, ApiError> {
    if context.shared.shutdown.is_draining() {
        return Err(ApiError::NotReady("it is draining"));
    }
    if !context.shared.store.is_healthy().await {
        return Err(ApiError::NotReady("its database does not answer"));
    }
    Ok("ok\n")
}

pub(super) async fn show(_: Admin, State(context): State<Context>) -> Json<StatusView> {
    let conditions = health::look(&context.shared).await;
    Json(StatusView::new(&context.shared, conditions))
}

/// Only on the admin socket: the names of connections are nobody else's business.
pub(super) async fn metrics(
    _: LocalAdmin,
    State(context): State<Context>,
    headers: HeaderMap,
) -> Response<axum::body::Body> {
    let page = health::metrics(&context.shared, headers.get(ACCEPT)).await;
    page.map(axum::body::Body::new)
}

pub(super) async fn set_log_level(
    _: LocalAdmin,
    State(context): State<Context>,
    Body(change): Body<LevelChange>,
) -> Result<Json<LevelChange>, ApiError> {
    let changed = context.shared.log.change(change);
    changed.map_err(|error| ApiError::BadRequest(error.to_string()))?;
    Ok(Json(change))
}
