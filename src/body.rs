//! The one body type that flows through relay and agent, and how to make small ones.
//!
//! Bodies are streams of frames. Nothing here gathers one; the only place that does, up to a bound and where a rule looks
//! into it, is `agent::serve`'s `gathering`.

pub mod capped;
pub mod progress;
pub mod watched;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// Any failure while a body streams, for hyper to abort the stream with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A streaming body: data frames, then perhaps trailers.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body with nothing in it.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body that is at hand whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// How many bytes of a body a frame carries: trailers carry none.
#[must_use]
pub fn length(frame: &http_body::Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

/// A body that arrives from elsewhere.
pub fn streaming<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BodyError>,
{
    body.map_err(Into::into).boxed_unsync()
}
