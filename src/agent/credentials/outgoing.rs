//! The head of a permitted call as it leaves for its upstream, with the secrets in it.

use std::fmt;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use crate::agent::policy::Permitted;

/// A permitted call, ready to be sent. What upstreams take; prints nothing that may be secret.
pub struct Outgoing<'a> {
    permitted: &'a Permitted,
    headers: HeaderMap,
    /// What is asked for, where it is more than what was permitted.
    target: Option<PathAndQuery>,
}

impl<'a> Outgoing<'a> {
    /// A call with these headers, to which nothing is added.
    #[must_use]
    pub const fn bare(permitted: &'a Permitted, headers: HeaderMap) -> Self {
        Self::new(permitted, headers, None)
    }

    pub(super) const fn new(
        permitted: &'a Permitted,
        headers: HeaderMap,
        target: Option<PathAndQuery>,
    ) -> Self {
        Self {
            permitted,
            headers,
            target,
        }
    }

    /// What was permitted.
    #[must_use]
    pub const fn permitted(&self) -> &'a Permitted {
        self.permitted
    }

    /// The headers, for those of one hop.
    pub const fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Method, path and query, and headers, for the line that sends them.
    #[must_use]
    pub fn into_head(self) -> (Method, PathAndQuery, HeaderMap) {
        let permitted = self.permitted;
        let target = self
            .target
            .unwrap_or_else(|| permitted.path_and_query().clone());
        (permitted.method().clone(), target, self.headers)
    }
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A target with secrets is left out; header values that are secret are marked as sensitive.
        f.debug_struct("Outgoing")
            .field("permitted", &self.permitted)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
