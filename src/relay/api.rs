//! The relay's management API: the table of routes, and the one way in.
//!
//! The same routes answer on the admin socket, where the kernel says who asks, and on the TLS
//! listener, where an admin token must. Handlers get an [`access::Admin`] or are not called; only
//! redeeming and the health checks are for everyone. Every error is a problem document (`errors`).

mod access;
mod connections;
mod errors;
mod extract;
mod invitations;
mod rate_limit;
mod status;
mod tokens;
pub mod views;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post, put};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tower::ServiceExt as _;

use self::errors::ApiError;
use self::rate_limit::RedeemLimit;
use super::shared::Shared;
use crate::body::{self, Body, BodyError};
use crate::problem::Problem;
use crate::protocol::REDEEM_PATH;

/// The longest request body, in bytes. The longest that is ours, a description, is well below.
const MAX_BODY: usize = 16 * 1024;

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// By the admin socket, which has checked that this user may use it.
    AdminSocket {
        /// The user.
        uid: u32,
    },
    /// By the network, from this address.
    Network(IpAddr),
}

/// The API, ready to answer. Clones are the same.
#[derive(Clone)]
pub struct Api {
    router: Router,
}

#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    redeem_limit: Arc<RedeemLimit>,
}

impl Api {
    /// Over these parts.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        let context = Context {
            shared,
            redeem_limit: Arc::new(RedeemLimit::new()),
        };
        Self {
            router: routes(context),
        }
    }

    /// Answers one request. A change that has begun is finished, even if the asker goes away: it runs
    /// in a task of its own, so that disk and memory stay in step.
    pub async fn respond<B>(&self, request: Request<B>, origin: Origin) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(origin);
        let answer = self.router.clone().oneshot(request);
        match tokio::spawn(answer).await {
            Ok(Ok(response)) => response.map(body::streaming),
            Ok(Err(never)) => match never {},
            Err(error) => {
                tracing::error!(%error, "a request of the management API brought its handler down");
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "the relay failed",
                )
                .detail("The relay's log says more.")
                .into_response()
            }
        }
    }
}

fn routes(context: Context) -> Router {
    Router::new()
        .route("/healthz", get(status::is_alive))
        .route("/readyz", get(status::is_ready))
        .route("/v1/status", get(status::show))
        .route("/metrics", get(status::metrics))
        .route("/v1/log-level", put(status::set_log_level))
        .route(
            "/v1/connections",
            get(connections::list).post(connections::initiate),
        )
        .route(
            "/v1/connections/{name}",
            get(connections::show).delete(connections::remove),
        )
        .route(
            "/v1/connections/{name}/activate",
            post(connections::activate),
        )
        .route(
            "/v1/connections/{name}/deactivate",
            post(connections::deactivate),
        )
        .route("/v1/connections/{name}/revoke", post(connections::revoke))
        .route(
            "/v1/connections/{name}/invitation",
            post(invitations::reissue).delete(invitations::revoke),
        )
        .route(REDEEM_PATH, post(invitations::redeem))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .fallback(async || ApiError::NoSuchRoute)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(context)
}

#[cfg(test)]
mod tests;
