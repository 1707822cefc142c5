//! `Location` of an answer, written so that the caller can follow it.
//!
//! The agent tells where below the upstream it leads; only the relay knows under which path the caller
//! reaches the upstream. The path is from the root and names no host, so it holds under whatever name
//! the caller knows the relay.

use http::header::{CONTENT_LOCATION, LOCATION};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::PREFIX;
use crate::forwarding::{RELAY_CONTENT_LOCATION, RELAY_LOCATION};
use crate::name::Name;

/// What the agent told of an answer, kept beside it while headers of the lane are taken out.
#[derive(Debug, Clone)]
struct Told(Vec<(HeaderName, HeaderValue)>);

/// Takes what the agent told out of the headers.
pub(super) fn keep<B>(answer: &mut Response<B>) {
    let pairs = [
        (RELAY_LOCATION, LOCATION),
        (RELAY_CONTENT_LOCATION, CONTENT_LOCATION),
    ];
    let headers = answer.headers_mut();
    let take = |(told, said)| Some((said, headers.remove(told)?));
    let told: Vec<_> = pairs.into_iter().filter_map(take).collect();
    if !told.is_empty() {
        answer.extensions_mut().insert(Told(told));
    }
}

/// Writes what was kept for a caller of this upstream of this connection.
pub(super) fn write<B>(answer: &mut Response<B>, connection: &Name, upstream: Option<&Authority>) {
    let (Some(Told(told)), Some(upstream)) = (answer.extensions_mut().remove(), upstream) else {
        return;
    };
    for (name, below) in told {
        write_one(answer.headers_mut(), name, &below, connection, upstream);
    }
}

fn write_one(
    headers: &mut HeaderMap,
    name: HeaderName,
    below: &HeaderValue,
    connection: &Name,
    upstream: &Authority,
) {
    let Ok(below) = below.to_str() else { return };
    let path = format!("{PREFIX}{connection}/{upstream}{below}");
    if let Ok(path) = HeaderValue::from_str(&path) {
        headers.insert(name, path);
    }
}
