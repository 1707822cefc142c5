//! One call on its way into the audit log: what was asked, what was decided, what passed, how it ended.
//!
//! Shared by the call's own task, the bodies that stream, and the thread that writes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, StatusCode};
use std::task::{Context, Poll};

use super::line::{Call, Candidate, Decision, Fields, Finish, Outcome, redacted};
use crate::agent::policy::Permitted;
use crate::forwarding::{RELAY_CALLER, RELAY_REQUEST_ID, request_id};

/// What a call asks for, as its head says. Copies nothing but counted references.
#[derive(Debug)]
pub(super) struct Asked {
    connection: Arc<str>,
    caller: Option<HeaderValue>,
    request: Option<HeaderValue>,
    /// What the caller calls it.
    request_id: Option<HeaderValue>,
    upstream: Option<Authority>,
    method: Method,
    is_websocket: bool,
    target: Option<PathAndQuery>,
}

/// How a call is named in logs.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The connection's name.
    pub connection: &'a str,
    /// The upstream's name, as it was asked for.
    pub upstream: &'a str,
    /// What the caller calls it, or else the relay's number of it.
    pub request_id: &'a str,
}

/// How a call ended, or what it ends with.
#[derive(Debug)]
pub struct End {
    /// What was decided.
    pub decision: Decision,
    /// The code of the problem document with which the agent itself answers.
    pub reason: Option<&'static str>,
    /// The reason in words.
    pub detail: Option<String>,
    /// The rule that denies it.
    pub rule: Option<Box<str>>,
    /// The status of the answer, if there is one.
    pub status: Option<StatusCode>,
    /// Whether it is known what became of it.
    pub outcome: Outcome,
    /// How the answer ended.
    pub finish: Finish,
}

/// One call.
#[derive(Debug)]
pub(super) struct Entry {
    asked: Asked,
    begun: Instant,
    permitted: OnceLock<Permitted>,
    /// Why candidate rules would deny it, where they would.
    candidate: OnceLock<Candidate>,
    /// The status of an answer whose body still streams.
    answered: OnceLock<StatusCode>,
    pub(super) request_bytes: AtomicU64,
    pub(super) response_bytes: AtomicU64,
    end: OnceLock<(Duration, End)>,
    open_written: AtomicBool,
    end_written: AtomicBool,
    waker: AtomicWaker,
}

/// Which of an entry's lines is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Open,
    End,
}

impl Asked {
    /// What this request asks for.
    pub(super) fn of<B>(request: &Request<B>, connection: Arc<str>) -> Self {
        let headers = request.headers();
        let is_websocket = request.extensions().get::<hyper::ext::Protocol>().is_some();
        Self {
            connection,
            caller: headers.get(RELAY_CALLER).cloned(),
            request: headers.get(RELAY_REQUEST_ID).cloned(),
            request_id: request_id::of(headers).cloned(),
            upstream: request.uri().authority().cloned(),
            method: match is_websocket {
                true => Method::GET,
                false => request.method().clone(),
            },
            is_websocket,
            target: request.uri().path_and_query().cloned(),
        }
    }
}

impl Entry {
    pub(super) fn new(asked: Asked) -> Self {
        Self {
            asked,
            begun: Instant::now(),
            permitted: OnceLock::new(),
            candidate: OnceLock::new(),
            answered: OnceLock::new(),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            end: OnceLock::new(),
            open_written: AtomicBool::new(false),
            end_written: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// How it is named in logs.
    pub(super) fn named(&self) -> Named<'_> {
        let Asked {
            connection,
            request,
            request_id,
            upstream,
            ..
        } = &self.asked;
        Named {
            connection,
            upstream: upstream.as_ref().map_or("", Authority::as_str),
            request_id: text(request_id.as_ref().or(request.as_ref())).unwrap_or_default(),
        }
    }

    /// Keeps the permit, and lends it.
    pub(super) fn permit(&self, permitted: Permitted) -> &Permitted {
        self.permitted.get_or_init(|| permitted)
    }

    /// Notes that candidate rules would deny the call.
    pub(super) fn mark(&self, candidate: Candidate) {
        // They are asked once.
        let _ = self.candidate.set(candidate);
    }

    pub(super) fn answer(&self, status: StatusCode) {
        // An answer has one head.
        let _ = self.answered.set(status);
    }

    /// Notes the end; the first stands. Tells whether this was the first.
    pub(super) fn end(&self, end: End) -> bool {
        self.end.set((self.begun.elapsed(), end)).is_ok()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    /// The end of a call whose caller, or link, has gone away.
    pub(super) fn given_up(&self) -> End {
        let permitted = self.permitted.get().is_some();
        let status = self.answered.get().copied();
        End {
            decision: match permitted {
                true => Decision::Allowed,
                false => Decision::None,
            },
            reason: None,
            detail: None,
            rule: None,
            status,
            outcome: match status {
                None if permitted => Outcome::Unknown,
                _ => Outcome::Known,
            },
            finish: Finish::GivenUp,
        }
    }

    /// The end of a call whose answer has ended so.
    pub(super) fn answered(&self, finish: Finish) -> End {
        End {
            finish,
            ..self.given_up()
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begun)
    }

    /// What a line tells of the call.
    pub(super) fn fields(&self, which: Which) -> Fields<'_> {
        let target = self.asked.target.as_ref();
        let permitted = self.permitted.get();
        let listed = permitted.map_or(&[][..], Permitted::audit_query);
        let end = match which {
            Which::Open => None,
            Which::End => self.end.get(),
        };
        let duration = end.map_or_else(|| self.begun.elapsed(), |(duration, _)| *duration);
        let end = end.map(|(_, end)| end);
        let status = end.map_or_else(|| self.answered.get().copied(), |end| end.status);
        let call = Call {
            connection: &self.asked.connection,
            caller: text(self.asked.caller.as_ref()),
            request: text(self.asked.request.as_ref()),
            request_id: text(self.asked.request_id.as_ref()),
            upstream: self.asked.upstream.as_ref().map_or("", Authority::as_str),
            method: self.asked.method.as_str(),
            websocket: self.asked.is_websocket,
            path: target.map_or("", PathAndQuery::path),
            query: target.and_then(|target| redacted(target, listed)),
            rule: permitted
                .map(Permitted::rule_name)
                .or_else(|| end?.rule.as_deref()),
            candidate: self.candidate.get(),
            decision: end.map_or_else(|| self.given_up().decision, |end| end.decision),
            reason: end.and_then(|end| end.reason),
            detail: end.and_then(|end| end.detail.as_deref()),
            status: status.map(|status| status.as_u16()),
            request_bytes: self.request_bytes.load(Ordering::Relaxed),
            response_bytes: self.response_bytes.load(Ordering::Relaxed),
            duration_ms: milliseconds(duration),
            outcome: end.map_or_else(|| self.given_up().outcome, |end| end.outcome),
            end: end.map(|end| end.finish),
            cut: BTreeMap::new(),
        };
        let call = call.bounded(target.and_then(PathAndQuery::query));
        match which {
            Which::Open => Fields::Open(call),
            Which::End => Fields::Call(call),
        }
    }

    /// The line is in the file. Whoever waits for it is to be [woken](Self::wake).
    pub(super) fn written(&self, which: Which) {
        self.flag(which).store(true, Ordering::Release);
    }

    /// Wakes whoever waits for a line.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Ready once the line is in the file.
    pub(super) fn poll_written(&self, which: Which, context: &Context<'_>) -> Poll<()> {
        if self.flag(which).load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waker.register(context.waker());
        // Once more, for it may have been written in between.
        match self.flag(which).load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    const fn flag(&self, which: Which) -> &AtomicBool {
        match which {
            Which::Open => &self.open_written,
            Which::End => &self.end_written,
        }
    }
}

fn text(value: Option<&HeaderValue>) -> Option<&str> {
    value.and_then(|value| value.to_str().ok())
}

/// With the microseconds that the clock has, and no more digits than that.
fn milliseconds(duration: Duration) -> f64 {
    // A double holds the microseconds of 285 years exactly.
    #[expect(
        clippy::cast_precision_loss,
        reason = "calls are shorter than 285 years"
    )]
    let microseconds = duration.as_micros() as f64;
    microseconds / 1000.0
}
