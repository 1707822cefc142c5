//! Keeps the secrets of one call out of its answer's headers and trailers.
//!
//! Bodies stream and are never looked at: a service that repeats secrets in a body shows them.

use std::sync::Arc;

use http::header::{SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;

use super::mask::{tells, without};
use super::placement::Made;
use crate::body::Body;
use crate::forwarding;

/// Cookies of old (RFC 2965), which some clients may still take.
const SET_COOKIE2: HeaderName = HeaderName::from_static("set-cookie2");

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
        // Names are in small letters by now, and cannot hold a mask in a way that every program takes.
        let telling = fields.keys().filter(|name| self.is_telling(name));
        let telling: Vec<HeaderName> = telling.cloned().collect();
        for name in telling {
            fields.remove(name);
        }
        for value in fields.values_mut() {
            if let Some(masked) = self.masked(value) {
                *value = masked;
            }
        }
    }

    fn is_telling(&self, name: &HeaderName) -> bool {
        let name = name.as_str().as_bytes();
        self.made.iter().any(|made| tells(name, &made.telling))
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
