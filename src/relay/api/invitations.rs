//! `/v1/invitations/redeem` for agents, and a connection's invitation for admins.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;

use super::access::Admin;
use super::errors::ApiError;
use super::extract::Whole;
use super::views::{ConnectionView, IssuedView};
use super::{Context, Origin};
use crate::protocol::redeem::{self, RedeemRefusal, RedeemRequest};
use crate::relay::clock;
use crate::relay::connections::RedeemError;

/// Open to everyone: the proof is in the request.
pub(super) async fn redeem(
    State(context): State<Context>,
    Extension(origin): Extension<Origin>,
    Whole(body): Whole,
) -> Result<Response, ApiError> {
    let address = match origin {
        Origin::Network(address) => address,
        Origin::AdminSocket { .. } => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    context
        .redeem_limit
        .take(address, Instant::now())
        .map_err(|wait| {
            // Whole seconds, which is what Retry-After can say; none would be no advice.
            let retry_after = Duration::from_secs(wait.as_secs() + 1);
            refused(RedeemRefusal::TooMany { retry_after })
        })?;
    let request = RedeemRequest::from_json(&body).map_err(|error| match error {
        redeem::RedeemError::UnsupportedVersion(_) => refused(RedeemRefusal::UnsupportedVersion),
        redeem::RedeemError::Malformed(why) => ApiError::BadRequest(why),
    })?;
    let answer = context.shared.connections.redeem(request).await;
    let answer = answer.map_err(ApiError::Redeem)?;
    Ok(([(CONTENT_TYPE, "application/json")], answer.to_json()).into_response())
}

/// A new code; the former is revoked.
pub(super) async fn reissue(
    _: Admin,
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<IssuedView>, ApiError> {
    let issued = context.shared.connections.reissue(&name).await;
    let issued = issued.map_err(ApiError::Change)?;
    Ok(Json(IssuedView::new(&issued, clock::now())))
}

/// No code at all, until one is issued anew.
pub(super) async fn revoke(
    _: Admin,
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    let revoked = context.shared.connections.revoke_invitation(&name).await;
    let connection = revoked.map_err(ApiError::Change)?;
    Ok(Json(ConnectionView::new(&connection, clock::now())))
}

const fn refused(reason: RedeemRefusal) -> ApiError {
    ApiError::Redeem(RedeemError::Refused(reason))
}
