//! Counts of what the agent did, for `/metrics` and `status`.
//!
//! Recorded by [`upstream::Meter`]s while calls pass; written by [`page`]. Labels are names of the configuration and
//! words of fixed tables, never anything a caller chooses, so that nobody can make the counters grow without bound.

pub mod page;
pub mod upstream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Request;

pub use self::upstream::{Meter, OfUpstream};
use crate::metric::calls::MethodLabel;

/// The label of calls to upstreams that are not configured.
pub const UNKNOWN_UPSTREAM: &str = "(unknown)";
/// Upstreams that are counted apart, over all configurations since the start; those beyond count as unknown. More
/// than anybody configures, and so few that the page stays short.
const MOST_UPSTREAMS: usize = 256;

/// Counts that outlive a reload.
#[derive(Debug)]
pub struct Metrics {
    upstreams: ArcSwap<Vec<Arc<OfUpstream>>>,
    unknown: Arc<OfUpstream>,
}

impl Metrics {
    /// Nothing counted yet, for these upstreams.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let metrics = Self {
            upstreams: ArcSwap::from_pointee(Vec::new()),
            unknown: Arc::new(OfUpstream::new(UNKNOWN_UPSTREAM)),
        };
        metrics.know(names);
        metrics
    }

    /// Counts these upstreams from now on, too. What was counted of others stays.
    pub fn know<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut upstreams = Vec::clone(&self.upstreams.load());
        for name in names {
            if upstreams.len() < MOST_UPSTREAMS && !upstreams.iter().any(|it| it.name() == name) {
                upstreams.push(Arc::new(OfUpstream::new(name)));
            }
        }
        self.upstreams.store(Arc::new(upstreams));
    }

    /// A call begins. Costs a look at the names, and an atomic addition.
    #[must_use]
    pub fn begin<B>(&self, request: &Request<B>) -> Meter {
        let name = request.uri().authority().map_or("", |it| it.as_str());
        let upstreams = self.upstreams.load();
        let known = upstreams.iter().find(|it| it.name() == name);
        let upstream = Arc::clone(known.unwrap_or(&self.unknown));
        Meter::begin(upstream, MethodLabel::of(request.method()))
    }

    /// What was counted of an upstream; nothing where it is not configured.
    #[must_use]
    pub fn of(&self, upstream: &str) -> Option<Arc<OfUpstream>> {
        let upstreams = self.upstreams.load();
        let known = upstreams.iter().find(|it| it.name() == upstream);
        known.map(Arc::clone)
    }

    /// Everything that was counted, by upstream.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<OfUpstream>> {
        let mut all = Vec::clone(&self.upstreams.load());
        all.push(Arc::clone(&self.unknown));
        all
    }
}

#[cfg(test)]
mod tests {
    use http::{Response, StatusCode};

    use super::*;

    fn call(metrics: &Metrics, url: &str, status: StatusCode) {
        let request = Request::get(url).body(()).unwrap();
        let mut response = Response::new(());
        *response.status_mut() = status;
        metrics.begin(&request).end(&response);
    }

    #[test]
    fn calls_are_counted_by_upstream_and_those_of_a_former_configuration_stay() {
        let metrics = Metrics::new(["jira"]);
        call(&metrics, "http://jira/x", StatusCode::OK);
        call(&metrics, "http://jira/y", StatusCode::BAD_GATEWAY);
        call(&metrics, "http://nobody/", StatusCode::NOT_FOUND);
        metrics.know(["wiki"]);
        call(&metrics, "http://jira/x", StatusCode::NO_CONTENT);
        let jira = metrics.of("jira").unwrap().classes();
        assert_eq!((jira.get("2xx"), jira.get("5xx")), (Some(&2), Some(&1)));
        assert!(metrics.of("wiki").unwrap().classes().is_empty());
        assert!(metrics.of("nobody").is_none());
        let all = metrics.all();
        assert_eq!(all.last().unwrap().classes().get("4xx"), Some(&1));
    }

    #[test]
    fn there_are_never_more_upstreams_than_the_bound_however_often_they_are_renamed() {
        let metrics = Metrics::new([]);
        for number in 0..2 * MOST_UPSTREAMS {
            metrics.know([number.to_string().as_str()]);
        }
        assert_eq!(metrics.all().len(), MOST_UPSTREAMS + 1);
    }
}
