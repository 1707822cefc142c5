//! The account of one call, kept by its own task: what is noted goes into the log, and nothing whole leaves
//! before it is there.
//!
//! Dropped before its end, the account is closed by itself: the caller, or the link, has gone away.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Response, StatusCode};
use http_body::Body as _;
use tokio::time::Sleep;

use super::body::{Held, Received, Tally};
use super::desk::{Desk, Note, Unavailable};
use super::entry::{Asked, End, Entry, Named, Which};
use super::line::{Candidate, Finish};
use crate::agent::policy::Permitted;
use crate::body::watched::Watched;
use crate::body::{self, Body};
use crate::tunnel::{Passed, Side, TunnelEnd};

/// The end of an answer waits so long for its line. Writing takes microseconds; where it takes longer than
/// this the disk does not answer, and the caller should not wait for it for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// One call's account.
#[derive(Debug)]
pub struct Account {
    entry: Arc<Entry>,
    /// Where lines are handed in, unless there is no log.
    desk: Option<(u64, Arc<Desk>)>,
    patience: Option<Pin<Box<Sleep>>>,
}

/// Marks the line of a call.
#[derive(Debug)]
pub struct Marker(Arc<Entry>);

impl Marker {
    /// Candidate rules would deny the call. Of no use once its line is written.
    pub fn candidate_denies(self, candidate: Candidate) {
        self.0.mark(candidate);
    }
}

impl Account {
    /// Opens an account with the desk; without one it notes nothing.
    pub(super) fn open(asked: Asked, desk: Option<&Arc<Desk>>) -> Result<Self, Unavailable> {
        let (entry, desk) = match desk {
            None => (Arc::new(Entry::new(asked)), None),
            Some(desk) => {
                let (number, entry) = desk.begin(asked)?;
                (entry, Some((number, Arc::clone(desk))))
            }
        };
        Ok(Self {
            entry,
            desk,
            patience: None,
        })
    }

    /// How the call is named in logs.
    pub fn named(&self) -> Named<'_> {
        self.entry.named()
    }

    /// Keeps the permit of the call, and lends it.
    pub fn permit(&self, permitted: Permitted) -> &Permitted {
        self.entry.permit(permitted)
    }

    /// The body of the request, counted as it is passed on.
    pub fn received<B>(&self, body: B) -> Received<B> {
        Watched::new(body, Tally(Arc::clone(&self.entry)))
    }

    /// The agent itself answers. Returns when that is written down.
    ///
    /// # Errors
    /// When it could not be.
    pub async fn refuse(mut self, end: End) -> Result<(), Unavailable> {
        self.close(end);
        self.written(Which::End).await
    }

    /// The upstream answers. The whole answer leaves only once that is written down: of one that is there
    /// whole already all of it, of all others the last piece.
    ///
    /// # Errors
    /// When an answer that was there whole could not be written down.
    pub async fn pass(mut self, response: Response<Body>) -> Result<Response<Body>, Unavailable> {
        self.entry.answer(response.status());
        if self.desk.is_none() {
            return Ok(response);
        }
        if response.body().is_end_stream() {
            self.answered(Finish::Whole);
            self.written(Which::End).await?;
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let held = Held::new(body, self).begin().await?;
        Ok(Response::from_parts(head, body::streaming(held)))
    }

    /// The upstream opened a WebSocket. Returns when that is written down; its end comes with
    /// [`carried`](Self::carried).
    ///
    /// # Errors
    /// When it could not be.
    pub async fn switch(&mut self) -> Result<(), Unavailable> {
        self.entry.answer(StatusCode::SWITCHING_PROTOCOLS);
        self.hand_in(Which::Open);
        self.written(Which::Open).await
    }

    /// Where the bytes of a WebSocket are counted as they pass, so that they are known whenever it ends: the caller's
    /// go forth.
    pub fn passed(&self) -> Passed<'_> {
        Passed {
            forth: &self.entry.request_bytes,
            back: &self.entry.response_bytes,
        }
    }

    /// The WebSocket between the caller, on the first side, and the service has ended.
    pub fn carried(self, end: &TunnelEnd) {
        let (finish, detail) = match end {
            TunnelEnd::Closed => (Finish::Whole, None),
            // Also where one side has gone and the other says nothing to that, or both have forgotten it.
            TunnelEnd::Idle | TunnelEnd::Broken(Side::First, _) => (Finish::GivenUp, None),
            TunnelEnd::Broken(Side::Second, _) => (Finish::BrokenOff, None),
            TunnelEnd::TooLong(too_long) => (Finish::BrokenOff, Some(too_long.to_string())),
        };
        self.close(End {
            detail,
            ..self.entry.answered(finish)
        });
    }

    /// What can note later, while the call is under way, that candidate rules would deny it.
    pub fn marker(&self) -> Marker {
        Marker(Arc::clone(&self.entry))
    }

    pub(super) fn count(&self, bytes: u64) {
        let count = &self.entry.response_bytes;
        count.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The answer has broken off, at the service or for this reason here.
    pub(super) fn broken_off(&self, detail: Option<String>) {
        self.close(End {
            detail,
            ..self.entry.answered(Finish::BrokenOff)
        });
    }

    /// The answer has ended.
    pub(super) fn answered(&self, finish: Finish) {
        self.close(self.entry.answered(finish));
    }

    /// Ready when the line is in the file, or has not come there in time.
    pub(super) fn poll_written(
        &mut self,
        which: Which,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Unavailable>> {
        if self.desk.is_none() || self.entry.poll_written(which, context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        ready!(patience.as_mut().poll(context));
        Poll::Ready(Err(Unavailable))
    }

    pub(super) async fn written(&mut self, which: Which) -> Result<(), Unavailable> {
        poll_fn(|context| self.poll_written(which, context)).await
    }

    fn close(&self, end: End) {
        if self.entry.end(end) {
            self.hand_in(Which::End);
        }
    }

    fn hand_in(&self, which: Which) {
        if let Some((number, desk)) = &self.desk {
            let entry = Arc::clone(&self.entry);
            desk.hand_in(*number, Note { entry, which });
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.desk.is_some() && !self.entry.has_ended() {
            self.close(self.entry.given_up());
        }
    }
}
