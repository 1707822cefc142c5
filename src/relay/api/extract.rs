//! A request's body, in time and in bounds, or the error that says what is wrong with it.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::Context;
use super::errors::ApiError;

/// How long a body of at most a few KiB may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The body as it came.
pub(super) struct Whole(pub(super) Bytes);

/// The body as JSON, whatever its `Content-Type` says.
pub(super) struct Body<T>(pub(super) T);

impl FromRequest<Context> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Context) -> Result<Self, ApiError> {
        let reading = Bytes::from_request(request, context);
        match tokio::time::timeout(BODY_TIMEOUT, reading).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(rejection)) => Err(ApiError::BadRequest(rejection.body_text())),
            Err(_) => Err(ApiError::TooSlow),
        }
    }
}

impl<T: DeserializeOwned> FromRequest<Context> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Context) -> Result<Self, ApiError> {
        let Whole(bytes) = Whole::from_request(request, context).await?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| ApiError::BadRequest(error.to_string()))
    }
}
