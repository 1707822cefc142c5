//! What the two sides tell each other about a connection, as small HTTP requests to `~control` on the lanes.
//!
//! Reads the relay's messages from the inward lane and sends ours on the outward lane. Decides
//! nothing: [`crate::agent::link_task`] does. Holds no more of a message than its small limit.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::mpsc;

use crate::body::{self, Body, BodyError};
use crate::link::http2::{LaneClient, SendError};
use crate::problem::Problem;
use crate::protocol::control::{
    ANSWER_DEADLINE, CONTINUE_PATH, CONTROL_AUTHORITY, CONTROL_VERSION, ContinueMessage,
    DUPLICATE_PATH, DuplicateMessage, LEAVE_PATH, LeaveMessage, MAX_CONTROL, MOVE_PATH,
    MoveMessage, REMOVED_PATH, RemovedMessage, STATE_PATH, SUCCESSION_PATH, StateMessage,
    SuccessionMessage,
};
use crate::protocol::handshake::Ticket;
use crate::protocol::rotation::{ROTATE_PATH, RotateMessage};

/// Messages that may wait for the link task: it reads them at once, and each replaces the former.
const QUEUE_LENGTH: usize = 8;

/// What one side tells the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlMessage {
    /// Whether the sender's side has deactivated the connection.
    State {
        /// It has.
        deactivated: bool,
    },
    /// The sender removed the connection.
    Removed,
    /// The agent is to dial a new WebSocket. Only the relay says this.
    Move {
        /// At a moment drawn by lot, within this time.
        within: Duration,
    },
    /// Another machine came with this agent's identity. Only the relay says this.
    Duplicate {
        /// Where it came from.
        address: String,
    },
    /// The agent is about to stop, and may come back. Only the agent says this.
    Leave,
    /// Another process of this agent comes. Only the agent says this.
    Succession {
        /// What it will show.
        ticket: Ticket,
        /// For how long that holds.
        within: Duration,
    },
    /// An upstream wants the body of a call that waits with it. Only the agent says this.
    Continue {
        /// The call's number, as the relay gave it.
        request: String,
    },
}

/// Why a message was not delivered. The link is then made anew, and its handshake tells.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// The lane failed.
    #[error("the message could not be sent")]
    Send(#[source] SendError),
    /// The other side answered with an error.
    #[error("the public side answered with {0}")]
    Answer(StatusCode),
    /// No answer in time.
    #[error("the public side did not answer within {} s", ANSWER_DEADLINE.as_secs())]
    Silent,
    /// The message could not be built.
    #[error("the message could not be built")]
    Build,
}

/// A new queue for the relay's messages.
#[must_use]
pub fn queue() -> (mpsc::Sender<ControlMessage>, mpsc::Receiver<ControlMessage>) {
    mpsc::channel(QUEUE_LENGTH)
}

/// Whether a request on the inward lane is a control message.
#[must_use]
pub fn is_control<B>(request: &Request<B>) -> bool {
    request
        .uri()
        .authority()
        .is_some_and(|authority| authority.as_str() == CONTROL_AUTHORITY)
}

/// Answers a control message of the relay, and passes it on.
pub async fn receive<B>(
    request: Request<B>,
    messages: &mpsc::Sender<ControlMessage>,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<BodyError>,
{
    match read(request).await {
        Ok(message) => match messages.send(message).await {
            Ok(()) => status(StatusCode::NO_CONTENT),
            // The link task has gone, and this link with it.
            Err(_) => status(StatusCode::SERVICE_UNAVAILABLE),
        },
        Err(problem) => problem.into_response(),
    }
}

/// Tells the relay, and waits until it has confirmed.
///
/// # Errors
/// [`TellError`]; the relay may have got the message all the same.
pub async fn tell(outward: &LaneClient, message: &ControlMessage) -> Result<(), TellError> {
    send(outward, to_request(message)).await
}

/// Tells the relay which key is to follow, and waits until it has stored that.
///
/// # Errors
/// [`TellError`]; the relay may have stored it all the same.
pub async fn announce(outward: &LaneClient, message: &RotateMessage) -> Result<(), TellError> {
    let json = serde_json::to_vec(message).map_err(|_| TellError::Build)?;
    send(outward, post(ROTATE_PATH, json)).await
}

async fn send(outward: &LaneClient, request: Option<Request<Body>>) -> Result<(), TellError> {
    let request = request.ok_or(TellError::Build)?;
    let response = tokio::time::timeout(ANSWER_DEADLINE, outward.send(request))
        .await
        .map_err(|_| TellError::Silent)?
        .map_err(TellError::Send)?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(TellError::Answer(response.status()))
    }
}

async fn read<B>(request: Request<B>) -> Result<ControlMessage, Problem>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<BodyError>,
{
    let bad = |detail: String| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad-control",
            "the control message cannot be used",
        )
        .detail(detail)
    };
    let path = request.uri().path().to_owned();
    if request.method() != Method::POST {
        return Err(bad("it is not a POST".to_owned()));
    }
    let collected = Limited::new(request.into_body(), MAX_CONTROL).collect();
    let bytes = tokio::time::timeout(ANSWER_DEADLINE, collected)
        .await
        .map_err(|_| bad("it came too slowly".to_owned()))?
        .map_err(|error| bad(error.to_string()))?
        .to_bytes();
    let unreadable = |error: serde_json::Error| bad(error.to_string());
    let (version, message) = match path.as_str() {
        STATE_PATH => {
            let read: StateMessage = serde_json::from_slice(&bytes).map_err(unreadable)?;
            let deactivated = read.deactivated;
            (read.version, ControlMessage::State { deactivated })
        }
        REMOVED_PATH => {
            let read: RemovedMessage = serde_json::from_slice(&bytes).map_err(unreadable)?;
            (read.version, ControlMessage::Removed)
        }
        MOVE_PATH => {
            let read: MoveMessage = serde_json::from_slice(&bytes).map_err(unreadable)?;
            let within = Duration::from_secs(read.within);
            (read.version, ControlMessage::Move { within })
        }
        DUPLICATE_PATH => {
            let read: DuplicateMessage = serde_json::from_slice(&bytes).map_err(unreadable)?;
            let address = read.address;
            (read.version, ControlMessage::Duplicate { address })
        }
        _ => {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "unknown-control",
                "this agent does not know that control message",
            ));
        }
    };
    if version != CONTROL_VERSION {
        return Err(bad(format!("it has version {version}")));
    }
    Ok(message)
}

fn to_request(message: &ControlMessage) -> Option<Request<Body>> {
    let version = CONTROL_VERSION;
    let (path, json) = match message {
        ControlMessage::State { deactivated } => (
            STATE_PATH,
            serde_json::to_vec(&StateMessage {
                version,
                deactivated: *deactivated,
            }),
        ),
        ControlMessage::Removed => (
            REMOVED_PATH,
            serde_json::to_vec(&RemovedMessage { version }),
        ),
        ControlMessage::Move { within } => (
            MOVE_PATH,
            serde_json::to_vec(&MoveMessage {
                version,
                within: within.as_secs(),
            }),
        ),
        ControlMessage::Duplicate { address } => (
            DUPLICATE_PATH,
            serde_json::to_vec(&DuplicateMessage {
                version,
                address: address.clone(),
            }),
        ),
        ControlMessage::Leave => (LEAVE_PATH, serde_json::to_vec(&LeaveMessage { version })),
        ControlMessage::Succession { ticket, within } => (
            SUCCESSION_PATH,
            serde_json::to_vec(&SuccessionMessage {
                version,
                ticket: *ticket,
                within: within.as_secs(),
            }),
        ),
        ControlMessage::Continue { request } => (
            CONTINUE_PATH,
            serde_json::to_vec(&ContinueMessage {
                version,
                request: request.clone(),
            }),
        ),
    };
    post(path, json.ok()?)
}

fn post(path: &str, json: Vec<u8>) -> Option<Request<Body>> {
    Request::post(format!("http://{CONTROL_AUTHORITY}{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body::full(json))
        .ok()
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_one_side_writes_the_other_reads() {
        let (sender, mut receiver) = queue();
        for message in [
            ControlMessage::State { deactivated: true },
            ControlMessage::State { deactivated: false },
            ControlMessage::Removed,
            ControlMessage::Move {
                within: Duration::from_secs(30),
            },
            ControlMessage::Duplicate {
                address: "192.0.2.7:5000".to_owned(),
            },
        ] {
            let request = to_request(&message).unwrap();
            assert!(is_control(&request));
            let response = receive(request, &sender).await;
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            assert_eq!(receiver.recv().await, Some(message));
        }
    }

    #[tokio::test]
    async fn messages_that_make_no_sense_are_refused_and_not_passed_on() {
        let (sender, mut receiver) = queue();
        let long = format!("{{\"version\":1,\"pad\":\"{}\"}}", "x".repeat(MAX_CONTROL));
        for (path, text, expected) in [
            (STATE_PATH, "{", StatusCode::BAD_REQUEST),
            (
                STATE_PATH,
                "{\"version\":2,\"deactivated\":true}",
                StatusCode::BAD_REQUEST,
            ),
            (REMOVED_PATH, long.as_str(), StatusCode::BAD_REQUEST),
            ("/v1/dance", "{\"version\":1}", StatusCode::NOT_FOUND),
        ] {
            let request = Request::post(format!("http://{CONTROL_AUTHORITY}{path}"))
                .body(body::full(text.to_owned()))
                .unwrap();
            assert_eq!(receive(request, &sender).await.status(), expected);
        }
        drop(sender);
        assert_eq!(receiver.recv().await, None);
    }
}
