//! Bodies of a call with something in hand: the caller's until the far end wants it, the answer's
//! until the call is over.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::Refusal;
use crate::body::watched::{Holding, Watched};
use crate::body::{self, Body};
use crate::forwarding::has_known_expectation;
use crate::link::http2::AnswerBody;
use crate::relay::registry::{CallPermit, Live};

/// How long a body is held back for an upstream that says neither "continue" nor anything else. Not
/// all know the expectation; callers themselves commonly wait for one second (RFC 9110, section 10.1.1).
const PATIENCE: Duration = Duration::from_secs(1);

/// Holds a body back until the far end wants it (`Expect: 100-continue`). The caller is told to go on
/// when its body is first asked for.
pub(super) struct Gate {
    opens: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Tells a [`Gate`] that the answer has come.
pub(super) struct Opener(oneshot::Sender<bool>);

/// Refuses an expectation that nobody on the way could meet (RFC 9110, section 10.1.1): passed on unread,
/// it would make the programs behind disagree about whether a body comes.
pub(super) fn check_expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    match has_known_expectation(headers) {
        true => Ok(()),
        false => Err(Refusal::UnknownExpectation),
    }
}

impl Gate {
    /// A gate, if this caller waits with its body. Over HTTP/2 hyper tells no caller to go on, so none
    /// is made to wait.
    pub(super) fn of(parts: &mut Parts, live: &Live, call: &HeaderValue) -> Option<(Self, Opener)> {
        parts.headers.get(EXPECT)?;
        if parts.version != Version::HTTP_11 {
            parts.headers.remove(EXPECT);
            return None;
        }
        let mut go_ahead = live.go_aheads.expect(call.to_str().unwrap_or_default());
        let (opener, answered) = oneshot::channel();
        let opens = Box::pin(async move {
            tokio::select! {
                // All only wait, and the first to come decides.
                () = go_ahead.given() => {}
                () = tokio::time::sleep(PATIENCE) => {}
                wants_body = answered => if wants_body == Ok(false) {
                    // The body is dropped with the call.
                    std::future::pending::<()>().await;
                },
            }
        });
        Some((Self { opens }, Opener(opener)))
    }

    /// The body behind this gate.
    pub(super) fn before(self, body: Incoming) -> Gated {
        Gated {
            gate: Some(self),
            body,
        }
    }
}

impl Opener {
    /// After a refusal nobody wants the body any more; after anything else it may still be read.
    pub(super) fn answered(self, status: StatusCode) {
        let wants_body = !status.is_client_error() && !status.is_server_error();
        // The gate may be open already.
        let _ = self.0.send(wants_body);
    }
}

/// A body behind a [`Gate`].
pub(super) struct Gated {
    gate: Option<Gate>,
    body: Incoming,
}

impl http_body::Body for Gated {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.opens.as_mut().poll(context));
            self.gate = None;
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body that keeps the call's place among those under way until it ends or is dropped.
pub(super) fn held(body: AnswerBody, permit: CallPermit) -> Body {
    if body.is_end_stream() {
        return body::empty();
    }
    body::streaming(Watched::new(body, Holding(permit)))
}
