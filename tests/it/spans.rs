//! Spans of calls at a collector: only in a build with the feature `otel`.

use serde_json::Value;

use crate::harness::{Upstream, answers, wait_until};
use crate::logs::{REQUEST_ID, Scene, TRACE_PARENT, TRACE_STATE, get};

/// A scene whose programs send their spans to a collector on loopback.
struct Traced {
    scene: Scene,
    collector: Upstream,
}

impl Traced {
    async fn start() -> Self {
        let collector = Upstream::new(answers::done).await;
        let endpoint = format!("http://{}", collector.address());
        let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
        let scene = Scene::start_in("", None, &environment).await;
        Self { scene, collector }
    }

    /// Waits for so many spans; each with the program that sent it.
    async fn until_told(&self, number: usize) -> Vec<(String, Value)> {
        wait_until("the spans are told", async || self.told().len() >= number).await;
        self.told()
    }

    fn told(&self) -> Vec<(String, Value)> {
        let mut told = Vec::new();
        for message in self.collector.calls() {
            assert_eq!(
                (message.method.as_str(), message.target.as_str()),
                ("POST", "/v1/traces")
            );
            assert_eq!(message.header("content-type"), "application/json");
            // What has not come whole yet is read the next time.
            let Ok(message) = serde_json::from_slice::<Value>(&message.body()) else {
                continue;
            };
            let of = &message["resourceSpans"][0];
            let service = &of["resource"]["attributes"][0];
            assert_eq!(service["key"], "service.name");
            let service = service["value"]["stringValue"].as_str().unwrap();
            for span in of["scopeSpans"][0]["spans"].as_array().unwrap() {
                told.push((service.to_owned(), span.clone()));
            }
        }
        told
    }
}

/// The span of one program in one trace.
fn of<'a>(told: &'a [(String, Value)], program: &str, trace: &str) -> &'a Value {
    let mut all = told.iter();
    let found = all.find(|(service, span)| service == program && span["traceId"] == trace);
    &found
        .unwrap_or_else(|| panic!("{program} told nothing of {trace}: {told:?}"))
        .1
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    found.map_or(&Value::Null, |attribute| &attribute["value"])
}

#[tokio::test]
async fn a_call_is_a_span_at_relay_and_agent_below_its_callers() {
    let traced = Traced::start().await;
    let mut caller = traced.scene.caller().await;
    let headers = [
        ("traceparent", TRACE_PARENT),
        ("tracestate", TRACE_STATE),
        (REQUEST_ID, "call-7"),
    ];
    get(&mut caller, "/web/marked-path?marked=query", &headers).await;
    let seen = traced.scene.upstream.call();
    let [_, trace, above, _] = TRACE_PARENT.split('-').collect::<Vec<_>>()[..] else {
        panic!();
    };
    let told = traced.until_told(2).await;
    let (relay, agent) = (of(&told, "relay", trace), of(&told, "relay-agent", trace));
    assert_eq!(relay["parentSpanId"], above);
    assert_eq!(agent["parentSpanId"], relay["spanId"]);
    let below = format!("00-{trace}-{}-01", agent["spanId"].as_str().unwrap());
    assert_eq!(seen.header("traceparent"), below);
    assert_eq!(seen.header("tracestate"), TRACE_STATE);
    for span in [relay, agent] {
        assert_eq!((&span["name"], &span["kind"]), (&"GET".into(), &2.into()));
        assert_eq!(attribute(span, "relay.upstream")["stringValue"], "web");
        assert_eq!(attribute(span, "relay.request_id")["stringValue"], "call-7");
        assert_eq!(
            attribute(span, "http.response.status_code")["intValue"],
            "200"
        );
        assert_eq!(span["status"], serde_json::json!({}));
        let time = |key: &str| span[key].as_str().unwrap().parse::<u128>().unwrap();
        assert!(
            time("startTimeUnixNano") <= time("endTimeUnixNano"),
            "{span}"
        );
        assert!(!span.to_string().contains("marked"), "{span}");
    }
    // What the caller does not want to be recorded passes as it came.
    let unrecorded = TRACE_PARENT.replace("-01", "-00");
    get(&mut caller, "/web/x", &[("traceparent", &unrecorded)]).await;
    assert_eq!(
        traced
            .scene
            .upstream
            .until_called(2)
            .await
            .header("traceparent"),
        unrecorded
    );
    // One that came with none begins here, and so does one whose context nobody can read.
    get(
        &mut caller,
        "/web/x",
        &[("traceparent", "00-1-2-3"), ("tracestate", TRACE_STATE)],
    )
    .await;
    let seen = traced.scene.upstream.until_called(3).await;
    assert_eq!(seen.header("tracestate"), "");
    let trace = seen
        .header("traceparent")
        .split('-')
        .nth(1)
        .unwrap()
        .to_owned();
    let told = traced.until_told(4).await;
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(of(&told, "relay", &trace).get("parentSpanId").is_none());
}

#[tokio::test]
async fn a_failure_is_told_and_a_collector_that_is_gone_fails_no_call() {
    let traced = Traced::start().await;
    let mut caller = traced.scene.caller().await;
    get(&mut caller, "/gone/x", &[]).await;
    get(&mut caller, "/no~body/x", &[]).await;
    let told = traced.until_told(3).await;
    let codes: Vec<_> = told
        .iter()
        .map(|(program, span)| {
            assert_eq!(span["status"]["code"], 2);
            let code = attribute(span, "error.type")["stringValue"]
                .as_str()
                .unwrap();
            format!("{program} {code}")
        })
        .collect();
    for expected in [
        "relay upstream-unreachable",
        "relay-agent upstream-unreachable",
        "relay unknown-upstream",
    ] {
        assert!(codes.iter().any(|code| code == expected), "{codes:?}");
    }
    let gone = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")];
    let scene = Scene::start_in("", None, &gone).await;
    let mut caller = scene.caller().await;
    assert_eq!(get(&mut caller, "/web/x", &[]).await.status, 200);
    for daemon in [&scene.relay, &scene.agent] {
        daemon
            .until_logged("spans were not taken by the collector")
            .await;
    }
    assert_eq!(get(&mut caller, "/web/x", &[]).await.status, 200);
}
