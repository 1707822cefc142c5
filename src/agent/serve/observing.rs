//! Asks candidate rules about the calls that those in force permit, and tells what they would deny.
//!
//! Decides nothing: whatever they say, the call passes as it would without them. A body that they look at is
//! [overheard] as it passes; nothing waits for it.

mod overheard;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Request;
use tracing::info;

pub(super) use overheard::Overheard;

use self::overheard::Ears;
use super::gateway::Gateway;
use super::gathering::CallBody;
use crate::agent::audit::{Account, Candidate, Marker};
use crate::agent::config::UpstreamConfig;
use crate::agent::policy::{Denial, Denied, GivenBody, Permitted, observe};

/// One kind of would-be denial is told so often: whoever tries rules wants to see each kind, and not each call.
const TOLD_EVERY: Duration = Duration::from_secs(600);
/// Kinds that are told apart, of one upstream. More would have to be read by nobody; they are counted all the same.
const MAX_KINDS: usize = 256;

/// What is observed of all upstreams that try rules.
#[derive(Debug, Default)]
pub(super) struct Observations {
    by_upstream: BTreeMap<Box<str>, Arc<Observed>>,
    ears: Ears,
}

/// What candidate rules have said since they, or the rules in force, were changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that they allow, too.
    pub allowed: u64,
    /// Calls that they would deny, and which passed.
    pub denied: u64,
    /// Calls of which they did not see the body that they look at.
    pub undecided: u64,
}

/// What is observed of one upstream.
#[derive(Debug, Default)]
struct Observed {
    /// All rules as they are written, limits apart: others would count something else.
    rules: String,
    allowed: AtomicU64,
    denied: AtomicU64,
    undecided: AtomicU64,
    told: Mutex<BTreeMap<Kind, Told>>,
}

/// Would-be denials that are told as one. All of it comes from the configuration, but for the method, of which a
/// rule has a list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    allowed_by: Box<str>,
    method: Box<str>,
    denied_by: Option<Box<str>>,
    reason: &'static str,
}

/// When a kind was told last, and how often it came since.
#[derive(Debug, Clone, Copy)]
struct Told {
    at: Instant,
    since: u64,
}

/// One call, of which the candidate rules' verdict is to be noted.
struct Observer {
    observed: Arc<Observed>,
    upstream: Box<str>,
    allowed_by: Box<str>,
    method: Box<str>,
    marker: Marker,
}

impl Observations {
    /// Nothing has been observed yet.
    pub(super) fn of(configs: &[UpstreamConfig]) -> Self {
        let observed = |config: &UpstreamConfig| {
            let candidate = config.candidate.as_ref()?;
            let rules: Vec<_> = config
                .rules
                .iter()
                .map(|rule| format!("{rule}\n"))
                .chain(candidate.iter().map(|rule| format!("candidate {rule}\n")))
                .collect();
            let observed = Observed {
                rules: rules.concat(),
                ..Observed::default()
            };
            Some((config.name.as_str().into(), Arc::new(observed)))
        };
        Self {
            by_upstream: configs.iter().filter_map(observed).collect(),
            ears: Ears::default(),
        }
    }

    /// Goes on counting where the rules are as before.
    pub(super) fn take_over(&mut self, before: &Self) {
        for (upstream, observed) in &mut self.by_upstream {
            let same = before.by_upstream.get(upstream);
            if let Some(same) = same.filter(|same| same.rules == observed.rules) {
                *observed = Arc::clone(same);
            }
        }
    }

    /// What has been observed of an upstream; nothing where no rules are tried.
    pub(super) fn counts(&self, upstream: &str) -> Option<Counts> {
        let observed = self.by_upstream.get(upstream)?;
        Some(Counts {
            allowed: observed.allowed.load(Ordering::Relaxed),
            denied: observed.denied.load(Ordering::Relaxed),
            undecided: observed.undecided.load(Ordering::Relaxed),
        })
    }
}

/// Asks the candidate rules of the upstream, if there are some, about a call that those in force permit. The request
/// goes on as it came, perhaps overheard.
pub(super) fn watch(
    gateway: &Arc<Gateway>,
    permitted: &Permitted,
    account: &Account,
    request: Request<CallBody>,
) -> Request<CallBody> {
    let observations = &gateway.observations;
    let Some(observed) = observations.by_upstream.get(permitted.upstream()) else {
        return request;
    };
    let observer = Observer {
        observed: Arc::clone(observed),
        upstream: permitted.upstream().into(),
        allowed_by: permitted.rule_name().into(),
        method: permitted.method().as_str().into(),
        marker: account.marker(),
    };
    let given = request.body().given(request.method());
    match verdict(gateway, &request, given) {
        None => request,
        Some(Err(Denial {
            reason: Denied::NeedsBody(limit),
            ..
        })) => overhear(gateway, observer, request, limit),
        Some(verdict) => {
            observer.note(verdict, Instant::now());
            request
        }
    }
}

/// Lets the body pass, and asks again at its end.
fn overhear(
    gateway: &Arc<Gateway>,
    observer: Observer,
    request: Request<CallBody>,
    limit: usize,
) -> Request<CallBody> {
    let (parts, body) = request.into_parts();
    let CallBody::Streaming(body) = body else {
        // What was gathered is known to the rules already.
        return Request::from_parts(parts, body);
    };
    let mut head = Request::new(());
    parts.method.clone_into(head.method_mut());
    parts.uri.clone_into(head.uri_mut());
    parts.headers.clone_into(head.headers_mut());
    let asks = Arc::clone(gateway);
    let judge = move |given: Option<GivenBody<'_>>| match given
        .and_then(|given| verdict(&asks, &head, given))
    {
        Some(verdict) => observer.note(verdict, Instant::now()),
        None => observer.miss(),
    };
    let body = gateway.observations.ears.hear(body, limit, Box::new(judge));
    Request::from_parts(parts, body)
}

fn verdict<B>(
    gateway: &Gateway,
    request: &Request<B>,
    given: GivenBody<'_>,
) -> Option<Result<(), Denial>> {
    observe(&gateway.policy, &super::asked(request, given).ok()?)
}

impl Observer {
    /// Notes what the candidate rules say.
    fn note(self, verdict: Result<(), Denial>, now: Instant) {
        let Err(denial) = verdict else {
            self.observed.allowed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.observed.denied.fetch_add(1, Ordering::Relaxed);
        let reason = denial.reason.word();
        let rule = denial.rule_name();
        let kind = Kind {
            allowed_by: self.allowed_by,
            method: self.method,
            denied_by: rule.map(Box::from),
            reason,
        };
        if let Some(times) = self.observed.tell(&kind, now) {
            info!(
                upstream = self.upstream,
                allowed_by = kind.allowed_by,
                method = kind.method,
                reason,
                rule,
                times,
                "the candidate rules would deny such a call; it passed"
            );
        }
        self.marker.candidate_denies(Candidate {
            reason,
            rule: kind.denied_by,
        });
    }

    /// Notes that the body which they look at did not come by.
    fn miss(self) {
        self.observed.undecided.fetch_add(1, Ordering::Relaxed);
    }
}

impl Observed {
    /// How often this kind came since it was told last, if it is to be told now.
    fn tell(&self, kind: &Kind, now: Instant) -> Option<u64> {
        let mut all = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = all.get_mut(kind) {
            told.since += 1;
            if now.saturating_duration_since(told.at) < TOLD_EVERY {
                return None;
            }
            let times = std::mem::take(&mut told.since);
            told.at = now;
            return Some(times);
        }
        if all.len() >= MAX_KINDS {
            return None;
        }
        all.insert(kind.clone(), Told { at: now, since: 0 });
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_in_a_while_with_how_often_it_came() {
        let observed = Observed::default();
        let start = Instant::now();
        let kind = |rule: &str| Kind {
            allowed_by: rule.into(),
            method: "GET".into(),
            denied_by: None,
            reason: "no-rule",
        };
        assert_eq!(observed.tell(&kind("allow 1"), start), Some(1));
        assert_eq!(observed.tell(&kind("allow 1"), start), None);
        assert_eq!(observed.tell(&kind("allow 2"), start), Some(1));
        assert_eq!(
            observed.tell(&kind("allow 1"), start + TOLD_EVERY / 2),
            None
        );
        let told = observed.tell(&kind("allow 1"), start + TOLD_EVERY);
        assert_eq!(told, Some(3), "those that were not told, and this one");
        for number in 0..2 * MAX_KINDS {
            observed.tell(&kind(&format!("allow {number}")), start);
        }
        assert_eq!(observed.told.lock().unwrap().len(), MAX_KINDS);
    }
}
