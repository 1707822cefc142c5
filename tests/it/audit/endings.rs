//! However a call ends, its line in the audit log says what its caller got.

mod service;

use std::fmt::Write as _;

use http::header::{CONNECTION as CONNECTION_HEADER, UPGRADE};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use relay_agent::admin_socket::client;
use relay_agent::body::{self, Body};
use relay_agent::problem;
use serde_json::Value;

use self::service::LINES;
use super::{audit_file, calls, last_call};
use crate::harness::answers::{Pieces, in_pieces};
use crate::harness::script::{Script, long};
use crate::harness::upstream::nobody;
use crate::harness::{CONNECTION, Caller, Home as _, TestAgent, TestRelay, soon, wait_until};

/// Once for each line of the table: what is asked, what the caller gets (`cut` where its end, or even its head, is missing), and of the line
/// in the log: decision, reason, status, outcome, end.
const TABLE: &[(&str, &str, &str)] = &[
    ("GET /web/whole", "200 hi", "allowed null 200 known whole"),
    ("HEAD /web/whole", "200 ", "allowed null 200 known whole"),
    ("GET /web/hints", "200 hi", "allowed null 200 known whole"),
    (
        "GET /web/unasked",
        "502 unusable-answer unknown",
        "allowed unusable-answer 502 unknown whole: the upstream answered 101, as if it had been asked for another protocol",
    ),
    (
        "GET /web/unasked-plain",
        "502 unusable-answer unknown",
        "allowed unusable-answer 502 unknown whole: the upstream answered 101, as if it had been asked for another protocol",
    ),
    (
        "GET /web/cut",
        "502 outcome-unknown unknown",
        "allowed outcome-unknown 502 unknown whole",
    ),
    (
        "GET /web/cut-in-head",
        "502 outcome-unknown unknown",
        "allowed outcome-unknown 502 unknown whole",
    ),
    (
        "GET /web/other-protocol",
        "502 outcome-unknown unknown",
        "allowed outcome-unknown 502 unknown whole",
    ),
    (
        "GET /web/silent",
        "504 response-timeout unknown",
        "allowed response-timeout 504 unknown whole",
    ),
    ("GET /web/short", "cut", "allowed null 200 known broken-off"),
    (
        "GET /web/chunks-cut",
        "cut",
        "allowed null 200 known broken-off",
    ),
    (
        "GET /web/chunks-odd",
        "cut",
        "allowed null 200 known broken-off",
    ),
    (
        "GET /web/long",
        "502 answer-too-long unknown",
        "allowed answer-too-long 502 unknown whole",
    ),
    (
        "GET /web/long-chunks",
        "cut",
        "allowed null 200 known broken-off: the body is longer than the 1024 bytes that it may have",
    ),
    (
        "GET /web/two-lengths",
        "200 hi",
        "allowed null 200 known whole",
    ),
    (
        "GET /web/two-other-lengths",
        "502 outcome-unknown unknown",
        "allowed outcome-unknown 502 unknown whole",
    ),
    (
        "GET /web/list-of-lengths",
        "200 hi",
        "allowed null 200 known whole",
    ),
    (
        "GET /web/lengths-of-nothing",
        "304 ",
        "allowed null 304 known whole",
    ),
    (
        "HEAD /web/two-other-lengths",
        "200 ",
        "allowed null 200 known whole",
    ),
    (
        "GET /web/zero-before",
        "200 hi",
        "allowed null 200 known whole",
    ),
    (
        "GET /web/signed-length",
        "502 outcome-unknown unknown",
        "allowed outcome-unknown 502 unknown whole",
    ),
    (
        "GET /web/none-with-length",
        "204 ",
        "allowed null 204 known whole",
    ),
    (
        "GET /web/unchanged-with-length",
        "304 ",
        "allowed null 304 known whole",
    ),
    (
        "GET /web/none-in-chunks",
        "204 ",
        "allowed null 204 known whole",
    ),
    (
        "GET /web/status-999",
        "999 hi",
        "allowed null 999 known whole",
    ),
    (
        "GET /web/status-199",
        "502 outcome-unknown unknown",
        "allowed outcome-unknown 502 unknown whole",
    ),
    (
        "GET /web/unasked-upgrade",
        "426 hi",
        "allowed null 426 known whole",
    ),
    (
        "GET /web/trailers",
        "200 hi",
        "allowed null 200 known whole",
    ),
    (
        "GET /web/no-length",
        "200 hi",
        "allowed null 200 known whole",
    ),
    (
        "GET /web/more-than-said",
        "200 hi",
        "allowed null 200 known whole",
    ),
    ("GET /web/whole", "200 hi", "allowed null 200 known whole"),
    (
        "GET /web/denied",
        "403 denied-by-policy not-sent",
        "denied denied-by-policy 403 known whole",
    ),
    (
        "GET /web/a//b",
        "403 denied-by-policy not-sent",
        "denied denied-by-policy 403 known whole",
    ),
    (
        "GET /else/x",
        "404 unknown-upstream not-sent",
        "denied unknown-upstream 404 known whole",
    ),
    (
        "GET /gone/x",
        "502 upstream-unreachable not-sent",
        "allowed upstream-unreachable 502 known whole",
    ),
    (
        "GET /mute/x",
        "504 connect-timeout not-sent",
        "allowed connect-timeout 504 known whole",
    ),
    ("GET /busy/whole", "200 hi", "allowed null 200 known whole"),
    (
        "GET /busy/whole",
        "429 rate-limited not-sent",
        "refused rate-limited 429 known whole",
    ),
    (
        "GET /keyed/x?key=mine",
        "403 denied-by-policy not-sent",
        "denied denied-by-policy 403 known whole",
    ),
    (
        "GET /keyed/x",
        "502 credential-unavailable not-sent",
        "refused credential-unavailable 502 known whole",
    ),
    (
        "POST /web/whole {long}",
        "413 body-too-long not-sent",
        "refused body-too-long 413 known whole",
    ),
    (
        "POST /web/silent some…{long}",
        "413 body-too-long unknown",
        "allowed body-too-long 413 unknown whole",
    ),
    (
        "POST /web/looked-at body",
        "403 denied-by-policy not-sent",
        "denied denied-by-policy 403 known whole",
    ),
    (
        "WEBSOCKET /web/whole",
        "502 not-a-websocket unknown",
        "allowed not-a-websocket 502 unknown whole",
    ),
    (
        "WEBSOCKET /web/unasked",
        "502 not-a-websocket unknown",
        "allowed not-a-websocket 502 unknown whole",
    ),
    (
        "WEBSOCKET /web/unasked-upgrade",
        "426 hi",
        "allowed null 426 known whole",
    ),
    (
        "WEBSOCKET /web/denied",
        "403 denied-by-policy not-sent",
        "denied denied-by-policy 403 known whole",
    ),
    (
        "WEBSOCKET /gone/x",
        "502 upstream-unreachable not-sent",
        "allowed upstream-unreachable 502 known whole",
    ),
];

#[tokio::test]
async fn however_a_call_ends_its_line_says_what_its_caller_got() {
    let service = Script::new(LINES).await;
    let mute = Script::new(&[]).await;
    let (agent, relay, token) = scene(&service, &mute).await;
    let log = audit_file(agent.home());
    let mut wrong = String::new();
    for (number, (asked, expected_answer, expected_line)) in TABLE.iter().enumerate() {
        // Each on a connection of its own, for some end theirs.
        let mut caller = Caller::http1(relay.home(), &token).await;
        let (request, _pieces) = request(&caller, asked);
        let answer = got(&mut caller, request).await;
        // Of what was cut it may come later.
        wait_until("the line of the call", async || calls(&log).len() > number).await;
        let line = summary(&last_call(&log));
        if answer != *expected_answer || line != *expected_line {
            writeln!(wrong, "{asked}: the caller got {answer:?}, not {expected_answer:?}; the line says {line:?}, not {expected_line:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    // Each kind of end has a count of its own.
    let (status, bytes) = client::request(&agent.home().socket(), Method::GET, "/metrics", None)
        .await
        .unwrap();
    let metrics = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(
        status == 200 && metrics.contains("reason=\"unusable-answer\""),
        "{metrics}"
    );
    for other in ["reason=\"other\"", "kind=\"other\""] {
        assert!(!metrics.contains(other), "{metrics}");
    }
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_is_given_up_in_its_line() {
    let service = Script::new(LINES).await;
    let mute = Script::new(&[]).await;
    let (agent, relay, token) = scene(&service, &mute).await;
    let log = audit_file(agent.home());
    for (number, (path, has_head, expected)) in [
        (
            "/patient/silent",
            false,
            "allowed null null unknown given-up",
        ),
        ("/patient/begun", true, "allowed null 200 known given-up"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut caller = Caller::http1(relay.home(), &token).await;
        let (request, _) = request(&caller, &format!("GET {path}"));
        let answer = caller.begin(request);
        service.until_heard(number + 1).await;
        let answer = match has_head {
            true => Some(soon("the head", answer).await.unwrap()),
            false => None,
        };
        // With its connection, and what there is of the answer.
        drop((caller, answer));
        wait_until("the line of the call", async || calls(&log).len() > number).await;
        assert_eq!(summary(&last_call(&log)), expected, "{path}");
    }
}

/// A relay and an agent before the service, and before others that do not answer.
async fn scene(service: &Script, mute: &Script) -> (TestAgent, TestRelay, String) {
    let gone = nobody();
    let (service, mute) = (service.address(), mute.address());
    let upstreams = format!(
        "[[upstream]]\nname = 'web'\nurl = 'http://{service}'\n\
         [[upstream.deny]]\npath = '/denied'\n\
         [[upstream.deny]]\npath = '/looked-at'\n[[upstream.deny.body]]\npointer = '/a'\nequals = 1\n\
         [[upstream.allow]]\nmethods = ['GET', 'HEAD', 'POST']\npath = '/{{*rest}}'\n\
         max_body = '1 KiB'\nmax_response = '1 KiB'\nresponse_timeout = '5s'\n\
         [[upstream]]\nname = 'busy'\nurl = 'http://{service}'\n\
         [[upstream.allow]]\nmethods = ['GET']\npath = '/{{*rest}}'\nrate = '1/h'\n\
         [[upstream]]\nname = 'patient'\nurl = 'http://{service}'\n\
         [[upstream.allow]]\nmethods = ['GET']\npath = '/{{*rest}}'\n\
         [[upstream]]\nname = 'gone'\nurl = 'http://{gone}'\n\
         [[upstream.allow]]\nmethods = ['GET']\npath = '/x'\n\
         [[upstream]]\nname = 'mute'\nurl = 'https://{mute}'\nconnect_timeout = '1s'\n\
         [[upstream.allow]]\nmethods = ['GET']\npath = '/x'\n\
         [[upstream]]\nname = 'keyed'\nurl = 'http://{service}'\n\
         set_query = {{ key = {{ command = ['/bin/false'] }} }}\n\
         [[upstream.allow]]\nmethods = ['GET']\npath = '/x'\n"
    );
    let agent = TestAgent::start_with(&upstreams).await;
    let relay = TestRelay::start().await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    relay.until_online(CONNECTION).await;
    let token = relay.token(None).await;
    (agent, relay, token)
}

/// `METHOD PATH BODY`; a body with `…` in it comes in two pieces, and its length is not said.
fn request(caller: &Caller, asked: &str) -> (Request<Body>, Option<Pieces>) {
    let mut parts = asked.splitn(3, ' ');
    let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
    let body = parts.next().unwrap_or_default().replace("{long}", &long());
    let method = match method {
        "WEBSOCKET" => "GET",
        method => method,
    };
    let (body, pieces) = match body.split_once('…') {
        None => (body::full(body.clone()), None),
        Some((one, other)) => {
            let (pieces, body) = in_pieces();
            pieces.send(one);
            pieces.send(other);
            (body, Some(pieces))
        }
    };
    let mut request = caller.request_to(CONNECTION, method, path, body);
    if asked.starts_with("WEBSOCKET") {
        let headers = request.headers_mut();
        headers.insert(CONNECTION_HEADER, "upgrade".parse().unwrap());
        headers.insert(UPGRADE, "websocket".parse().unwrap());
        let key = "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap();
        headers.insert("sec-websocket-key", key);
        headers.insert("sec-websocket-version", "13".parse().unwrap());
    }
    (request, pieces)
}

/// The status, and the body: of a problem document its code and what became of the call.
async fn got(caller: &mut Caller, request: Request<Body>) -> String {
    let answer = soon("the head of an answer", caller.begin(request)).await;
    let Ok(answer) = answer else {
        return "cut".to_owned();
    };
    let status = answer.status().as_u16();
    let body = soon("the end of an answer", answer.into_body().collect()).await;
    let Ok(body) = body else {
        return "cut".to_owned();
    };
    let body = body.to_bytes();
    match problem::parse(&body) {
        Some(problem) => {
            let whole: Value = serde_json::from_slice(&body).unwrap();
            let delivery = whole["delivery"].as_str().unwrap();
            format!("{status} {} {delivery}", problem.code)
        }
        None => format!("{status} {}", String::from_utf8_lossy(&body)),
    }
}

fn summary(line: &Value) -> String {
    let word = |name: &str| line[name].to_string().replace('"', "");
    let words = ["decision", "reason", "status", "outcome", "end"];
    let words = words.map(word).join(" ");
    // Of those that are not allowed it says what the policy's own tests look at.
    match line["detail"]
        .as_str()
        .filter(|_| line["decision"] == "allowed")
    {
        Some(detail) => format!("{words}: {detail}"),
        None => words,
    }
}
