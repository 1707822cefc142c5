//! Spans of calls, for OpenTelemetry: what the collector draws of a call's way through relay and agent.
//!
//! Only in a build with the feature `otel`, and only where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector; otherwise all
//! of this is nothing, and the context of a trace passes untouched. Never holds a call up and never fails one: what the
//! collector does not take is dropped. Tells neither path nor query, and no header.

#[cfg(feature = "otel")]
mod context;
#[cfg(feature = "otel")]
mod exporter;

use http::{Request, StatusCode};

/// Begins spans, if there is a collector for them.
#[derive(Debug)]
pub struct Tracer {
    #[cfg(feature = "otel")]
    exporter: Option<exporter::Exporter>,
}

/// The span of a call that is under way. Dropped without an end, it is not told.
#[derive(Debug)]
pub struct Span {
    #[cfg(feature = "otel")]
    begun: exporter::Begun,
}

/// What a span tells of its call.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The connection's name.
    pub connection: &'a str,
    /// The upstream's name.
    pub upstream: &'a str,
    /// What all sides call the call.
    pub request_id: &'a str,
    /// Of the answer.
    pub status: StatusCode,
    /// The code of the problem document, where relay or agent answered by themselves.
    pub relay_error: Option<&'a str>,
}

impl Tracer {
    /// For what the variables of the environment name (OpenTelemetry's own): spans of this program. With a collector,
    /// must be called within a runtime.
    #[must_use]
    pub fn from_environment(program: &'static str) -> Self {
        #[cfg(not(feature = "otel"))]
        let _ = program;
        Self {
            #[cfg(feature = "otel")]
            exporter: exporter::Exporter::from_environment(program),
        }
    }

    /// Begins the span of a call, below the one that its headers name, and names itself there for what
    /// follows. Nothing where nobody collects, or the caller says that the call is not recorded.
    pub fn begin<B>(&self, call: &mut Request<B>) -> Option<Span> {
        #[cfg(feature = "otel")]
        {
            let exporter = self.exporter.as_ref()?;
            let method = call.method().clone();
            let begun = exporter.begin(method, call.headers_mut())?;
            Some(Span { begun })
        }
        #[cfg(not(feature = "otel"))]
        {
            let _ = call;
            None
        }
    }

    /// Ends a span with the head of the answer, and has it told.
    pub fn end<'a>(&self, span: Option<Span>, told: impl FnOnce() -> Told<'a>) {
        #[cfg(feature = "otel")]
        if let (Some(exporter), Some(span)) = (&self.exporter, span) {
            exporter.end(span.begun, &told());
        }
        #[cfg(not(feature = "otel"))]
        let _ = (span, told);
    }
}
