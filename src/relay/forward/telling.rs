//! What a call is called, and what the public side's log says of it: at *debug* each, at *warn* those whose link failed.
//!
//! A link that is lost fails all its calls at once: of each connection and kind of failure one line is a warning, and
//! then one now and then, with the number since. Tells neither path nor query.

use std::time::Instant;

use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use tracing::{debug, warn};

use super::target::Target;
use crate::forwarding::request_id;
use crate::seldom::Seldoms;
use crate::spans::Told;

/// One call, as both sides' logs and the caller know it.
#[derive(Debug)]
pub(super) struct CallName {
    /// The relay's number of it.
    pub(super) number: HeaderValue,
    /// What the caller calls it.
    pub(super) given: Option<HeaderValue>,
    asked: Uri,
}

/// Tells of calls.
#[derive(Debug, Default)]
pub(super) struct Telling(Seldoms);

impl CallName {
    /// That of this request, which from now on has none of its own; it is the `number`th.
    pub(super) fn take<B>(request: &mut Request<B>, number: u64) -> Self {
        let mut number = HeaderValue::from(number);
        // No secret, but unlike every other: keeps header compression from making room for it.
        number.set_sensitive(true);
        Self {
            number,
            given: request_id::take(request.headers_mut()),
            asked: request.uri().clone(),
        }
    }

    /// Shows it to the caller.
    pub(super) fn show(self, headers: &mut HeaderMap) {
        let id = self.given.unwrap_or(self.number);
        headers.insert(request_id::X_REQUEST_ID, id);
    }

    fn as_str(&self) -> &str {
        let id = self.given.as_ref().unwrap_or(&self.number);
        id.to_str().unwrap_or_default()
    }

    /// What its span tells.
    pub(super) fn told<'a>(&'a self, status: StatusCode, relay_error: Option<&'a str>) -> Told<'a> {
        let (connection, upstream) = self.place();
        Told {
            connection,
            upstream,
            request_id: self.as_str(),
            status,
            relay_error,
        }
    }

    /// Connection and upstream, as far as they are named.
    fn place(&self) -> (&str, &str) {
        let target = Target::of(&self.asked);
        target.map_or_else(Default::default, |it| (it.connection, it.upstream))
    }
}

impl Telling {
    /// An answer goes back; `of_agent` says why the agent made it, if it did.
    pub(super) fn answered(&self, call: &CallName, status: StatusCode, of_agent: Option<&str>) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let (connection, upstream) = call.place();
            let (request_id, status) = (call.as_str(), status.as_u16());
            let relay_error = of_agent;
            debug!(
                connection,
                upstream, request_id, status, relay_error, "a call was answered"
            );
        }
    }

    /// The relay itself answers with this code, for this failure of the link if that is why.
    pub(super) fn refused(&self, call: &CallName, code: &'static str, failure: Option<String>) {
        let (connection, upstream) = call.place();
        let request_id = call.as_str();
        let Some(error) = failure else {
            debug!(
                connection,
                upstream,
                request_id,
                relay_error = code,
                "a call was refused"
            );
            return;
        };
        match self.0.happened(connection, code, Instant::now()) {
            Some(number) => {
                warn!(
                    connection,
                    upstream,
                    request_id,
                    relay_error = code,
                    error,
                    number,
                    "a call has no answer"
                );
            }
            None => debug!(
                connection,
                upstream,
                request_id,
                relay_error = code,
                error,
                "a call has no answer"
            ),
        }
    }
}
