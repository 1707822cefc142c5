//! Who may manage: users of the admin socket, and whoever presents an admin token.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::errors::ApiError;
use super::{Context, Origin};
use crate::relay::record::Scope;
use crate::relay::tokens;

/// The header that carries a token where `Authorization` is taken for the upstream.
const RELAY_AUTHORIZATION: &str = "relay-authorization";

/// Somebody who may manage. Handlers that take one are called for nobody else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admin;

/// Somebody on the admin socket, for what concerns the process itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalAdmin;

impl FromRequestParts<Context> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, context: &Context) -> Result<Self, ApiError> {
        if let Some(Origin::AdminSocket { .. }) = parts.extensions.get() {
            return Ok(Self);
        }
        let token = presented_token(&parts.headers).ok_or(ApiError::NoToken)?;
        let caller = context
            .shared
            .tokens
            .authenticate(token)
            .ok_or(ApiError::BadToken)?;
        match caller.scope {
            Scope::Admin => Ok(Self),
            Scope::Connection(_) | Scope::AllConnections => Err(ApiError::NotAnAdmin),
        }
    }
}

impl FromRequestParts<Context> for LocalAdmin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Context) -> Result<Self, ApiError> {
        match parts.extensions.get() {
            Some(Origin::AdminSocket { .. }) => Ok(Self),
            Some(Origin::Network(_)) | None => Err(ApiError::LocalOnly),
        }
    }
}

/// The token in `Relay-Authorization`, or in `Authorization` when that is one of ours.
fn presented_token(headers: &HeaderMap) -> Option<&str> {
    [RELAY_AUTHORIZATION, AUTHORIZATION.as_str()]
        .into_iter()
        .filter_map(|name| headers.get(name)?.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .find(|token| token.starts_with(tokens::PREFIX))
}
