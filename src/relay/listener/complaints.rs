//! What an operator should know of strangers and callers that came to nothing, said now and then with a
//! number: a balancer that sends what no relay takes, callers that do not trust the certificate, someone
//! who takes every place. One after the other they are seen at the level `debug`.

use std::fmt;
use std::net::SocketAddr;
use std::time::Instant;

use http::HeaderValue;
use tracing::{debug, info, warn};

use super::socket::SocketError;
use crate::error_chain::chain;
use crate::relay::places::NoPlace;
use crate::seldom::Seldom;

/// The complaints of one listener.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    turned_away: Seldom,
    unopened: Seldom,
    refused: Seldom,
}

impl Complaints {
    /// A socket was closed, since its address has as many as it may have.
    pub(super) fn turned_away(&self, from: SocketAddr, why: NoPlace) {
        debug!(%from, %why, "a socket was turned away");
        if let Some(number) = self.turned_away.happened(Instant::now()) {
            warn!(%from, number, "sockets were turned away: too many {why}; limits.sockets_per_address says how many may be");
        }
    }

    /// A socket ended before its first request.
    pub(super) fn unopened(&self, from: SocketAddr, error: &SocketError) {
        debug!(%from, error = %chain(error), "a socket ended before its first request");
        // Who looks whether the port is open, and balancers do every few seconds, hangs up without a word.
        if error.is_silent() {
            return;
        }
        if let Some(number) = self.unopened.happened(Instant::now()) {
            info!(%from, number, error = %chain(error), "callers came to nothing before their first request; \
                  if they are yours, look at the certificate that they trust and at the TLS that they speak");
        }
    }

    /// A request was refused before anything of it was looked at.
    pub(super) fn refused(&self, from: SocketAddr, why: &dyn fmt::Display, id: &HeaderValue) {
        let request_id = id.to_str().unwrap_or_default();
        debug!(%from, request_id, %why, "a request was refused unread");
        if let Some(number) = self.refused.happened(Instant::now()) {
            info!(%from, request_id, number, %why, "requests were refused unread; if they are yours, correct the caller or the proxy before the relay");
        }
    }
}
