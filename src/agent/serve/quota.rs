//! Counts the calls of rules that limit how many there may be.
//!
//! What is counted outlives a new configuration: a rule that stands in it as before, limits apart, goes on
//! where it was. There is one count for each such rule, and so a bound.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::agent::config::UpstreamConfig;
use crate::agent::policy::{Bucket, Limits, Permitted};

/// The counts of all rules that allow, by upstream, each in its place.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    by_upstream: BTreeMap<Box<str>, Vec<Counted>>,
}

#[derive(Debug)]
struct Counted {
    /// The rule as it is written, limits apart.
    rule: String,
    usage: Arc<Usage>,
}

/// How much of its limits a rule uses.
#[derive(Debug, Default)]
struct Usage {
    in_flight: AtomicUsize,
    bucket: Mutex<Bucket>,
}

/// A call that is counted as under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Usage>);

/// Why a rule takes no further call now. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum QuotaError {
    #[error("as many such calls are under way as there may be")]
    InFlight,
    #[error("such calls come faster than they may")]
    Rate(Duration),
}

impl Quotas {
    /// Nothing is counted yet.
    pub(super) fn of(configs: &[UpstreamConfig]) -> Self {
        let counted = |config: &UpstreamConfig| {
            let allowing = config.rules.iter().filter(|rule| !rule.denies());
            let counted = allowing.map(|rule| Counted {
                rule: rule.to_string(),
                usage: Arc::default(),
            });
            (config.name.as_str().into(), counted.collect())
        };
        Self {
            by_upstream: configs.iter().map(counted).collect(),
        }
    }

    /// Goes on counting where rules stand as before.
    pub(super) fn take_over(&mut self, before: &Self) {
        for (upstream, rules) in &mut self.by_upstream {
            let before = before
                .by_upstream
                .get(upstream)
                .map_or(&[][..], Vec::as_slice);
            for counted in rules {
                // Of two that are alike only the first ever decides.
                if let Some(same) = before.iter().find(|it| it.rule == counted.rule) {
                    counted.usage = Arc::clone(&same.usage);
                }
            }
        }
    }

    /// Whether one of these rules of an upstream would take a call now; counts none.
    pub(super) fn has_place(
        &self,
        upstream: &str,
        rules: &[(usize, &Limits)],
        now: Instant,
    ) -> Result<(), QuotaError> {
        let counted = self.by_upstream.get(upstream);
        let mut full = None;
        for (rule, limits) in rules {
            let counted = counted.and_then(|all| all.get(*rule));
            match counted.map(|counted| counted.usage.look(limits, now)) {
                None | Some(Ok(())) => return Ok(()),
                Some(Err(error)) => full = Some(error),
            }
        }
        full.map_or(Ok(()), Err)
    }

    /// Counts a call, where its rule asks for that.
    pub(super) fn take(
        &self,
        permitted: &Permitted,
        now: Instant,
    ) -> Result<Option<Place>, QuotaError> {
        let limits = permitted.limits();
        let rules = self.by_upstream.get(permitted.upstream());
        let counted = rules.and_then(|rules| rules.get(permitted.rule()));
        let Some(counted) = counted.filter(|_| limits.count()) else {
            return Ok(None);
        };
        let usage = &counted.usage;
        let under_way = usage.in_flight.fetch_add(1, Ordering::AcqRel);
        // From here on it is given back in any case.
        let place = Place(Arc::clone(usage));
        if limits.max_in_flight.is_some_and(|most| under_way >= most) {
            return Err(QuotaError::InFlight);
        }
        if let Some(rate) = limits.rate {
            let mut bucket = usage.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(rate, now).map_err(QuotaError::Rate)?;
        }
        Ok(Some(place))
    }
}

impl Usage {
    /// Whether there is place for one more call.
    fn look(&self, limits: &Limits, now: Instant) -> Result<(), QuotaError> {
        let under_way = self.in_flight.load(Ordering::Acquire);
        if limits.max_in_flight.is_some_and(|most| under_way >= most) {
            return Err(QuotaError::InFlight);
        }
        let Some(rate) = limits.rate else {
            return Ok(());
        };
        let mut copy = *self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        copy.take(rate, now).map_err(QuotaError::Rate)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
