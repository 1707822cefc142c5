//! Keeps the secrets of one call out of its answer's headers and trailers.
//!
//! Bodies stream and are never looked at: a service that repeats secrets in a body shows them.

use std::sync::Arc;

use http::header::{SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use memchr::memmem;

use super::placement::Made;
use crate::body::Body;
use crate::forwarding;
use crate::secret::Secret;

/// Cookies of old (RFC 2965), which some clients may still take.
const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");
/// What stands in the place of a secret.
const MASK: &[u8] = b"***";

/// What must not come back of one call. By default: cookies.
#[derive(Debug, Default)]
pub struct Shield {
    made: Vec<Arc<Made>>,
    pass_cookies: bool,
}

impl Shield {
    pub(super) const fn new(made: Vec<Arc<Made>>, pass_cookies: bool) -> Self {
        Self { made, pass_cookies }
    }

    /// The answer without what must not come back. It must still have the headers of its hop. A 401 makes
    /// what was fetched be fetched anew, for later calls: this one may have been processed.
    #[must_use]
    pub fn cover(self, mut answer: Response<Body>) -> Response<Body> {
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.made.iter().for_each(|made| made.was_refused());
        }
        self.cover_fields(answer.headers_mut());
        // Over HTTP/1.1 only a chunked body has trailers.
        if !answer.headers().contains_key(TRANSFER_ENCODING) {
            return answer;
        }
        answer.map(|body| {
            body.map_frame(move |mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    self.cover_fields(trailers);
                    // In HTTP/2 the whole answer would break off with what is for one hop alone.
                    forwarding::strip(trailers);
                }
                frame
            })
            .boxed_unsync()
        })
    }

    fn cover_fields(&self, fields: &mut HeaderMap) {
        if !self.pass_cookies {
            fields.remove(SET_COOKIE);
            fields.remove(SET_COOKIE2);
        }
        if self.made.is_empty() {
            return;
        }
        for value in fields.values_mut() {
            if let Some(masked) = self.masked(value) {
                *value = masked;
            }
        }
    }

    /// The value without the secrets, if it has any.
    fn masked(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let mut masked: Option<Vec<u8>> = None;
        for made in &self.made {
            let bytes = masked.as_deref().unwrap_or(value.as_bytes());
            if let Some(less) = without(bytes, &made.telling) {
                masked = Some(less);
            }
        }
        // Nothing but masks and what was there before; should that be no value, there is none.
        masked.map(|bytes| HeaderValue::try_from(bytes).unwrap_or(HeaderValue::from_static("***")))
    }
}

/// `bytes` with a mask for each of the secrets, longest first; nothing when there is none in them.
pub(super) fn without(bytes: &[u8], secrets: &[Secret<Vec<u8>>]) -> Option<Vec<u8>> {
    let mut masked: Option<Vec<u8>> = None;
    for secret in secrets {
        let bytes = masked.as_deref().unwrap_or(bytes);
        if let Some(less) = replaced(bytes, secret.expose()) {
            masked = Some(less);
        }
    }
    masked
}

/// `bytes` with a mask for each `secret`, if there is one in them.
fn replaced(bytes: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < secret.len() {
        return None;
    }
    let mut without = Vec::new();
    let mut rest = bytes;
    while let Some(at) = memmem::find(rest, secret) {
        let (before, after) = rest.split_at(at);
        without.extend_from_slice(before);
        without.extend_from_slice(MASK);
        rest = after.get(secret.len()..).unwrap_or_default();
    }
    if without.is_empty() {
        return None;
    }
    without.extend_from_slice(rest);
    Some(without)
}
