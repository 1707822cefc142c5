//! Control on the lanes, the relay's part: what it says to an agent, and what it hears from one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::Service;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::body::{self, Body, BodyError};
use crate::error_chain::chain;
use crate::link::http2::{LaneClient, SendError};
use crate::problem::Problem;
use crate::protocol::control::{
    ANSWER_DEADLINE, CONTINUE_PATH, CONTROL_AUTHORITY, CONTROL_VERSION, ContinueMessage,
    LEAVE_PATH, LeaveMessage, MAX_CONTROL, REMOVED_PATH, RemovedMessage, STATE_PATH,
    SUCCESSION_PATH, StateMessage, SuccessionMessage,
};
use crate::protocol::handshake::Transcript;
use crate::protocol::rotation::{ROTATE_PATH, RotateMessage};
use crate::relay::connections::{ChangeError, RotateError};
use crate::relay::registry::{Connection, Live};
use crate::relay::shared::Shared;

/// Answers an agent's control messages; the service of the outward lane.
#[derive(Clone)]
pub(super) struct Control {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    live: Arc<Live>,
    /// What the handshake of this link comes to; what the agent's keys sign is for it alone.
    transcript: Option<Transcript>,
}

/// Why a control message was not answered well.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    /// The message could not be made into a request.
    #[error("the message could not be built")]
    Build(#[source] BodyError),
    /// The link broke.
    #[error("the link broke")]
    Send(#[source] SendError),
    /// No answer in time.
    #[error("no answer within {} s", ANSWER_DEADLINE.as_secs())]
    TimedOut,
    /// The far side did not agree.
    #[error("the far side answered {0}")]
    Refused(StatusCode),
}

/// Sends a control message down the inward lane and waits for its acknowledgement.
pub(super) async fn send<T: Serialize>(
    client: &LaneClient,
    path: &str,
    message: &T,
) -> Result<(), ControlError> {
    let json = serde_json::to_vec(message).map_err(|error| ControlError::Build(Box::new(error)))?;
    let request = Request::post(format!("http://{CONTROL_AUTHORITY}{path}"))
        .body(body::full(json))
        .map_err(|error| ControlError::Build(Box::new(error)))?;
    let answer = tokio::time::timeout(ANSWER_DEADLINE, client.send(request))
        .await
        .map_err(|_| ControlError::TimedOut)?
        .map_err(ControlError::Send)?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(ControlError::Refused(answer.status()))
    }
}

impl Control {
    pub(super) fn new(
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
        live: &Arc<Live>,
        transcript: Option<Transcript>,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            connection: Arc::clone(connection),
            live: Arc::clone(live),
            transcript,
        }
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Body> {
        match self.handle(request).await {
            Ok(()) => no_content(),
            Err(problem) => problem.into_response(),
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<(), Problem> {
        let is_control = request
            .uri()
            .authority()
            .is_some_and(|to| to == CONTROL_AUTHORITY);
        if !is_control || request.method() != Method::POST {
            return Err(unknown());
        }
        let path = request.uri().path().to_owned();
        let connections = &self.shared.connections;
        match path.as_str() {
            STATE_PATH => {
                let message: StateMessage = read(request).await?;
                let stored = connections.far_side_state(&self.connection, message.deactivated);
                stored.await.map_err(|error| not_stored(&error))
            }
            REMOVED_PATH => {
                let _: RemovedMessage = read(request).await?;
                let stored = connections.far_side_removed(&self.connection).await;
                stored.map_err(|error| not_stored(&error))
            }
            CONTINUE_PATH => {
                let message: ContinueMessage = read(request).await?;
                self.live.go_aheads.give(&message.request);
                Ok(())
            }
            LEAVE_PATH => {
                let _: LeaveMessage = read(request).await?;
                tracing::info!(connection = %self.connection.name(), "the agent is about to stop; calls wait for it to come back");
                self.live.leave();
                self.connection.link_changed();
                Ok(())
            }
            SUCCESSION_PATH => {
                let message: SuccessionMessage = read(request).await?;
                tracing::info!(connection = %self.connection.name(), within = message.within, "the agent announces another process of its own");
                let within = Duration::from_secs(message.within);
                self.connection.announce(message.ticket, within);
                Ok(())
            }
            ROTATE_PATH => {
                let message: RotateMessage = read(request).await?;
                let transcript = self.transcript.ok_or_else(unknown)?;
                message
                    .verify(self.connection.id(), &transcript)
                    .map_err(|error| malformed(error.to_string()))?;
                let rotated = connections.rotate(&self.connection, &message).await;
                rotated.map_err(|error| not_rotated(&error))
            }
            _ => Err(unknown()),
        }
    }
}

impl Service<Request<Incoming>> for Control {
    type Response = Response<Body>;
    type Error = BodyError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BodyError>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // In a task of its own: a change that has begun is finished, also when the link ends meanwhile.
        let answer = tokio::spawn(self.clone().answer(request));
        Box::pin(async move { Ok(answer.await?) })
    }
}

/// What every message says, whatever else is in it.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

async fn read<T, B>(request: Request<B>) -> Result<T, Problem>
where
    T: DeserializeOwned,
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<BodyError>,
{
    let collected = Limited::new(request.into_body(), MAX_CONTROL).collect();
    let bytes = tokio::time::timeout(ANSWER_DEADLINE, collected)
        .await
        .map_err(|_| malformed("it came too slowly".to_owned()))?
        .map_err(|error| malformed(error.to_string()))?
        .to_bytes();
    let unreadable = |error: serde_json::Error| malformed(error.to_string());
    let Versioned { version } = serde_json::from_slice(&bytes).map_err(unreadable)?;
    if version != CONTROL_VERSION {
        return Err(malformed(format!("it has version {version}")));
    }
    serde_json::from_slice(&bytes).map_err(unreadable)
}

fn malformed(why: String) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "malformed-control",
        "Not a control message",
    )
    .detail(why)
}

fn unknown() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-control",
        "No such control message",
    )
}

fn not_stored(error: &ChangeError) -> Problem {
    tracing::error!(error = %chain(error), "what the far side said was not stored");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "not-stored",
        "It could not be stored",
    )
}

fn not_rotated(error: &RotateError) -> Problem {
    match error {
        RotateError::Refused(_) | RotateError::NoAgent => {
            tracing::warn!(error = %chain(error), "an agent's new key was refused");
            Problem::new(
                StatusCode::CONFLICT,
                "key-refused",
                "The key is not accepted",
            )
            .detail(chain(error).to_string())
        }
        RotateError::Failed(error) => not_stored(error),
    }
}

fn no_content() -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use http_body::Frame;

    use super::*;

    /// A body of which nothing ever comes.
    struct Silent;

    impl http_body::Body for Silent {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
    }

    async fn read_text(text: &str) -> Result<StateMessage, Problem> {
        read(Request::new(body::full(text.to_owned()))).await
    }

    #[tokio::test]
    async fn a_message_of_this_version_is_read_and_no_other() {
        let read = read_text(r#"{"version":1,"deactivated":true,"later":0}"#).await;
        assert!(read.unwrap().deactivated);
        let long = format!(r#"{{"version":1,"pad":"{}"}}"#, "x".repeat(MAX_CONTROL));
        for text in [
            r#"{"version":2,"deactivated":true}"#,
            r#"{"deactivated":true}"#,
            r#"{"version":1}"#,
            "{",
            &long,
        ] {
            let problem = read_text(text).await.unwrap_err();
            assert_eq!(problem.status(), StatusCode::BAD_REQUEST, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_never_ends_is_given_up() {
        let reading = read::<StateMessage, _>(Request::new(Silent));
        let given_up = tokio::time::timeout(ANSWER_DEADLINE * 2, reading).await;
        assert!(given_up.unwrap().is_err());
    }
}
