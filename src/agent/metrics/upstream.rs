//! What is counted of one upstream, and the meter that one call carries.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use http::Response;

use crate::metric::calls::{Calls, MethodLabel};
use crate::metric::words::Words;
use crate::problem::ProblemCode;

/// Why the agent itself answers calls, by the code of its problem documents (`docs/errors.md`).
pub const REASONS: [&str; 23] = [
    "denied-by-policy",
    "unknown-upstream",
    "connection-deactivated",
    "connect-not-supported",
    "loop-detected",
    "credential-unavailable",
    "rule-busy",
    "rate-limited",
    "body-too-long",
    "answer-too-long",
    "audit-unavailable",
    "too-many-bodies",
    "body-timeout",
    "body-broken-off",
    "upstream-busy",
    "upstream-address-prohibited",
    "upstream-unreachable",
    "connect-timeout",
    "response-timeout",
    "outcome-unknown",
    "unusable-answer",
    "not-a-websocket",
    "other",
];
/// Why calls are denied: the words of the policy, and a query that has a parameter which the agent adds.
pub const DENIALS: [&str; 20] = [
    "no-rule",
    "by-rule",
    "unmet",
    "needs-body",
    "override",
    "unclear-length",
    "unknown-upstream",
    "not-from-root",
    "dot-segment",
    "empty-segment",
    "encoded-slash",
    "encoded-delimiter",
    "backslash",
    "semicolon",
    "control-character",
    "invalid-escape",
    "encoded-twice",
    "not-utf8",
    "own-parameter",
    "other",
];
/// Those of the reasons that mean that the upstream was not reached.
const NOT_REACHED: [&str; 3] = [
    "upstream-address-prohibited",
    "upstream-unreachable",
    "connect-timeout",
];
/// Those that mean that it was.
const REACHED: [&str; 5] = [
    "answer-too-long",
    "response-timeout",
    "outcome-unknown",
    "unusable-answer",
    "not-a-websocket",
];

/// The figures of one upstream.
#[derive(Debug)]
pub struct OfUpstream {
    name: Box<str>,
    /// Its calls.
    pub calls: Calls,
    /// Those that the agent answered itself, by reason.
    pub refusals: Words<{ REASONS.len() }>,
    /// Those that were denied, by kind.
    pub denials: Words<{ DENIALS.len() }>,
    waiting: AtomicU64,
    is_unreachable: AtomicBool,
    unreachable: Mutex<Option<Unreachable>>,
}

/// That the last calls did not reach an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// When the first of them failed.
    pub since: SystemTime,
    /// When the last one did.
    pub last_at: SystemTime,
    /// How many did.
    pub calls: u64,
    /// How the last one was answered.
    pub code: &'static str,
}

/// Goes with an answer that denies a call: the kind of denial, one of [`DENIALS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DenialKind(pub &'static str);

/// Measures one call, from its beginning to the head of its answer.
#[derive(Debug)]
pub struct Meter {
    upstream: Arc<OfUpstream>,
    method: MethodLabel,
    began: Instant,
}

impl OfUpstream {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            calls: Calls::default(),
            refusals: Words::new(&REASONS),
            denials: Words::new(&DENIALS),
            waiting: AtomicU64::new(0),
            is_unreachable: AtomicBool::new(false),
            unreachable: Mutex::default(),
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its calls that have no head of an answer yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Its answers by class of status, such as `2xx`.
    #[must_use]
    pub fn classes(&self) -> BTreeMap<String, u64> {
        let mut classes = BTreeMap::new();
        for (_, class, count) in self.calls.counted() {
            *classes.entry(class.to_owned()).or_default() += count;
        }
        classes
    }

    /// Whether the last calls did not reach it.
    #[must_use]
    pub fn unreachable(&self) -> Option<Unreachable> {
        let unreachable = self.unreachable.lock();
        unreachable.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_reason(&self, code: &str) {
        self.refusals.record(code);
        if let Some(code) = NOT_REACHED.into_iter().find(|known| *known == code) {
            self.was_not_reached(code);
        } else if REACHED.contains(&code) {
            self.was_reached();
        }
    }

    fn was_not_reached(&self, code: &'static str) {
        let now = SystemTime::now();
        let mut unreachable = self
            .unreachable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let former = unreachable.take();
        *unreachable = Some(Unreachable {
            since: former.as_ref().map_or(now, |former| former.since),
            last_at: now,
            calls: former.map_or(0, |former| former.calls).saturating_add(1),
            code,
        });
        self.is_unreachable.store(true, Ordering::Relaxed);
    }

    /// Takes the lock only after a failure.
    fn was_reached(&self) {
        if self.is_unreachable.swap(false, Ordering::Relaxed) {
            *self
                .unreachable
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}

impl Meter {
    pub(super) fn begin(upstream: Arc<OfUpstream>, method: MethodLabel) -> Self {
        upstream.waiting.fetch_add(1, Ordering::Relaxed);
        Self {
            upstream,
            method,
            began: Instant::now(),
        }
    }

    /// The head of the answer is there. A call that is given up before is not counted.
    pub fn end<B>(self, response: &Response<B>) {
        let status = response.status();
        let calls = &self.upstream.calls;
        calls.record(self.method, status, self.began.elapsed());
        match response.extensions().get::<ProblemCode>() {
            Some(ProblemCode(code)) => self.upstream.note_reason(code),
            None => self.upstream.was_reached(),
        }
        if let Some(DenialKind(kind)) = response.extensions().get::<DenialKind>() {
            self.upstream.denials.record(kind);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.upstream.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};

    use super::*;
    use crate::problem::Problem;

    #[test]
    fn every_reason_that_is_documented_has_a_count_of_its_own() {
        let table = include_str!("../../../docs/errors.md");
        let rows = table.lines().filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(2);
            let (code, made_by) = (cells.next()?, cells.next()?);
            let code = code.strip_prefix('`')?.strip_suffix('`')?;
            made_by
                .split([' ', ','])
                .any(|it| it == "agent")
                .then_some(code)
        });
        let mut documented: Vec<&str> = rows.chain(["other"]).collect();
        documented.sort_unstable();
        let mut counted = REASONS;
        counted.sort_unstable();
        assert_eq!(documented, counted);
    }

    fn end(upstream: &Arc<OfUpstream>, code: Option<&'static str>) {
        let meter = Meter::begin(Arc::clone(upstream), MethodLabel::of(&Method::GET));
        assert_eq!(upstream.waiting(), 1);
        match code {
            Some(code) => {
                let problem = Problem::new(StatusCode::BAD_GATEWAY, code, "it failed");
                meter.end(&problem.into_response());
            }
            None => meter.end(&Response::new(())),
        }
        assert_eq!(upstream.waiting(), 0);
    }

    #[test]
    fn an_upstream_is_unreachable_from_the_first_failure_to_the_next_answer_of_its_own() {
        let upstream = Arc::new(OfUpstream::new("jira"));
        end(&upstream, Some("upstream-unreachable"));
        let since = upstream.unreachable().unwrap().since;
        end(&upstream, Some("denied-by-policy"));
        end(&upstream, Some("connect-timeout"));
        let unreachable = upstream.unreachable().unwrap();
        assert_eq!((unreachable.calls, unreachable.since), (2, since));
        assert_eq!(unreachable.code, "connect-timeout");
        end(&upstream, None);
        assert_eq!(upstream.unreachable(), None);
        let refusals: Vec<_> = upstream.refusals.counted().collect();
        assert_eq!(
            refusals,
            [
                ("denied-by-policy", 1),
                ("upstream-unreachable", 1),
                ("connect-timeout", 1)
            ]
        );
    }

    #[test]
    fn a_call_that_is_given_up_waits_no_longer_and_is_not_counted() {
        let upstream = Arc::new(OfUpstream::new("jira"));
        let method = MethodLabel::of(&Method::GET);
        drop(Meter::begin(Arc::clone(&upstream), method));
        assert_eq!(upstream.waiting(), 0);
        assert!(upstream.classes().is_empty());
    }
}
