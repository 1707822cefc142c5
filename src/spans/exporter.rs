//! Sends spans to a collector: OTLP over HTTP/1.1, as JSON, in batches.
//!
//! Our own hyper and serde_json rather than OpenTelemetry's crates: those bring a second way to make HTTP requests,
//! protocol buffers and a pipeline of their own, for one message of twenty members.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::Told;
use super::context::{Context, digits};
use crate::identity;
use crate::seldom::Seldom;

/// Where all signals go; traces have a path of their own below it.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Where traces go, exactly.
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
/// What the collector calls this program, if it is not to call it by its name.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const TRACES_PATH: &str = "/v1/traces";
/// Spans that wait to be sent: a second of 2,000 calls. More are dropped.
const QUEUE_LENGTH: usize = 2048;
/// Spans in one message, as OpenTelemetry's own exporters send them.
const BATCH: usize = 512;
/// Spans wait so long for others.
const GATHER_FOR: Duration = Duration::from_secs(1);
/// A collector that takes longer takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// `SPAN_KIND_SERVER`: both programs answer someone.
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;

/// The way to a collector.
#[derive(Debug)]
pub(super) struct Exporter(mpsc::Sender<Value>);

/// A span that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    here: Context,
    above: Option<Context>,
    method: Method,
    at: SystemTime,
}

/// Where a collector is.
#[derive(Debug)]
struct Collector {
    /// Host and port.
    authority: String,
    path: String,
}

/// Why spans did not get there.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("it cannot be reached")]
    Reach(#[source] std::io::Error),
    #[error("it does not answer as HTTP servers do")]
    Http(#[from] hyper::Error),
    #[error("it answered {0}")]
    Refused(StatusCode),
    #[error("it did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("no request can be made for it")]
    Request(#[from] http::Error),
}

impl Exporter {
    /// To the collector that the environment names.
    pub(super) fn from_environment(program: &'static str) -> Option<Self> {
        let set = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        let (text, more) = match set(TRACES_ENDPOINT) {
            Some(exact) => (exact, ""),
            None => (set(ENDPOINT)?, TRACES_PATH),
        };
        let Some(collector) = Collector::at(&text, more) else {
            tracing::error!(
                "the collector for spans is not at an http:// address, and none are sent; a collector beside this program takes them on to others"
            );
            return None;
        };
        tracing::info!(
            collector = collector.authority,
            "spans of calls are sent to a collector"
        );
        let service = set(SERVICE_NAME).unwrap_or_else(|| program.to_owned());
        let (sender, spans) = mpsc::channel(QUEUE_LENGTH);
        // Ends with the exporter.
        tokio::spawn(send_all(collector, service, spans));
        Some(Self(sender))
    }

    pub(super) fn begin(&self, method: Method, headers: &mut HeaderMap) -> Option<Begun> {
        let above = Context::of(headers);
        if above.is_some_and(|above| !above.is_sampled) {
            return None;
        }
        let here = Context {
            trace: match above {
                Some(above) => above.trace,
                None => identity::random_bytes().ok()?,
            },
            span: identity::random_bytes().ok()?,
            is_sampled: true,
        };
        here.write(headers, above);
        Some(Begun {
            here,
            above,
            method,
            at: SystemTime::now(),
        })
    }

    /// Never waits: without room it is dropped.
    pub(super) fn end(&self, begun: Begun, told: &Told<'_>) {
        let _ = self.0.try_send(begun.told(told));
    }
}

impl Begun {
    fn told(self, told: &Told<'_>) -> Value {
        let texts = [
            ("http.request.method", Some(self.method.as_str())),
            ("relay.connection", Some(told.connection)),
            ("relay.upstream", Some(told.upstream)),
            ("relay.request_id", Some(told.request_id)),
            ("error.type", told.relay_error),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(key, value)| Some(attribute(key, value?)));
        // Numbers of 64 bits are texts in the JSON of protocol buffers.
        let status = told.status.as_u16().to_string();
        let status = json!({"key": "http.response.status_code", "value": {"intValue": status}});
        let is_error = told.relay_error.is_some() || told.status.is_server_error();
        let mut span = json!({
            "traceId": digits(&self.here.trace),
            "spanId": digits(&self.here.span),
            "name": self.method.as_str(),
            "kind": SERVER,
            "startTimeUnixNano": nanoseconds(self.at),
            "endTimeUnixNano": nanoseconds(SystemTime::now()),
            "attributes": texts.chain([status]).collect::<Vec<_>>(),
            "status": if is_error { json!({"code": ERROR}) } else { json!({}) },
        });
        if let (Some(above), Some(span)) = (self.above, span.as_object_mut()) {
            span.insert("parentSpanId".to_owned(), digits(&above.span).into());
        }
        span
    }
}

impl Collector {
    /// At this address, with more path to it; nothing if it cannot be reached by plain HTTP.
    fn at(text: &str, more: &str) -> Option<Self> {
        let url: Uri = text.parse().ok()?;
        let authority = url.authority().filter(|it| !it.as_str().contains('@'))?;
        if url.scheme_str() != Some("http") {
            return None;
        }
        let port = authority.port_u16().unwrap_or(80);
        Some(Self {
            authority: format!("{}:{port}", authority.host()),
            path: format!("{}{more}", url.path().trim_end_matches('/')),
        })
    }

    async fn send(&self, message: &Value) -> Result<(), ExportError> {
        let sending = async {
            let tcp = TcpStream::connect(&self.authority).await;
            let tcp = tcp.map_err(ExportError::Reach)?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
            let request = Request::post(&self.path)
                .header(HOST, &self.authority)
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(message.to_string())))?;
            // Ends with the sender.
            tokio::spawn(connection);
            match sender.send_request(request).await?.status() {
                status if status.is_success() => Ok(()),
                status => Err(ExportError::Refused(status)),
            }
        };
        let sent = tokio::time::timeout(PATIENCE, sending).await;
        sent.unwrap_or(Err(ExportError::Silent))
    }
}

/// Sends spans until there will be none.
async fn send_all(collector: Collector, service: String, mut spans: mpsc::Receiver<Value>) {
    let trouble = Seldom::default();
    let mut batch = Vec::new();
    while spans.recv_many(&mut batch, BATCH).await > 0 {
        let until = tokio::time::Instant::now() + GATHER_FOR;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            let more = tokio::time::timeout_at(until, spans.recv_many(&mut batch, room)).await;
            if !more.is_ok_and(|number| number > 0) {
                break;
            }
        }
        let message = message(&service, std::mem::take(&mut batch));
        if let Err(error) = collector.send(&message).await
            && let Some(number) = trouble.happened(std::time::Instant::now())
        {
            let error = crate::error_chain::chain(&error).to_string();
            tracing::warn!(
                collector = collector.authority,
                error,
                number,
                "spans were not taken by the collector"
            );
        }
    }
}

/// `ExportTraceServiceRequest`.
fn message(service: &str, spans: Vec<Value>) -> Value {
    let attributes = [
        attribute("service.name", service),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
    ];
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes},
        "scopeSpans": [{"scope": {"name": env!("CARGO_PKG_NAME")}, "spans": spans}],
    }]})
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn nanoseconds(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}
