//! What the audit log tells of a WebSocket however it ends: its status, what passed, for how long, and who left it.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::{audit_file, calls, lines};
use crate::harness::agent::AgentHome;
use crate::harness::caller::RELAY_AUTHORIZATION;
use crate::harness::upstream::configuration;
use crate::harness::{CONNECTION, TestAgent, TestRelay, soon, wait_until};

/// What is said there and back.
const WORD: &str = "hello";
/// A frame with it as a service sends it, with a head of two bytes.
const FRAME: usize = 2 + WORD.len();
/// A frame with it as a caller has to send it: with a mask of four bytes.
const MASKED_FRAME: usize = FRAME + 4;

/// A WebSocket through relay and agent, by which a word has gone there and come back.
struct Talk {
    relay: TestRelay,
    agent: TestAgent,
    caller: WebSocketStream<TcpStream>,
    service: WebSocketStream<TcpStream>,
}

#[tokio::test]
async fn a_websocket_that_both_sides_close_is_whole() {
    let Talk {
        relay: _relay,
        agent,
        mut caller,
        mut service,
    } = Talk::begin().await;
    caller.close(None).await.unwrap();
    while let Some(Ok(_)) = soon("the caller's farewell", service.next()).await {}
    drop(service);
    while let Some(Ok(_)) = soon("the service's farewell", caller.next()).await {}
    drop(caller);
    // Each with a farewell, which says nothing more.
    until_told(&agent, "whole", MASKED_FRAME + 6, FRAME + 2).await;
}

#[tokio::test]
async fn a_websocket_whose_caller_goes_away_without_a_word_is_given_up() {
    let Talk {
        relay: _relay,
        agent,
        caller,
        service,
    } = Talk::begin().await;
    caller.get_ref().set_zero_linger().unwrap();
    drop(caller);
    until_told(&agent, "given-up", MASKED_FRAME, FRAME).await;
    drop(service);
}

#[tokio::test]
async fn a_websocket_that_its_service_breaks_off_is_broken_off() {
    let Talk {
        relay: _relay,
        agent,
        mut caller,
        service,
    } = Talk::begin().await;
    service.get_ref().set_zero_linger().unwrap();
    drop(service);
    until_told(&agent, "broken-off", MASKED_FRAME, FRAME).await;
    while let Some(Ok(_)) = soon("the end of the WebSocket", caller.next()).await {}
}

#[tokio::test]
async fn a_websocket_that_is_lost_with_its_link_is_given_up() {
    let Talk {
        mut relay,
        agent,
        caller: _caller,
        service: _service,
    } = Talk::begin().await;
    relay.stop().await;
    relay.go_on().await;
    relay.until_online(CONNECTION).await;
    until_told(&agent, "given-up", MASKED_FRAME, FRAME).await;
}

#[tokio::test]
async fn a_websocket_that_the_end_of_the_agent_cuts_off_has_its_line_before_the_last() {
    let Talk {
        relay: _relay,
        mut agent,
        caller: _caller,
        service: _service,
    } = Talk::begin().await;
    agent.stop().await;
    until_told(&agent, "given-up", MASKED_FRAME, FRAME).await;
    let lines = lines(&audit_file(agent.home()));
    let kinds: Vec<_> = lines.iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["start", "open", "call", "stop"]);
}

impl Talk {
    async fn begin() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = configuration(listener.local_addr().unwrap(), "web", "");
        let relay = TestRelay::start_with("drain_timeout = '1s'").await;
        let home = AgentHome::new("");
        home.configure("drain_timeout = '1s'", &upstream);
        let agent = TestAgent::at(home).await;
        agent.accept(&relay.initiate("acme", "widgets").await).await;
        relay.until_online(CONNECTION).await;

        let authority = relay.home().plain_authority();
        let address = format!("ws://{authority}/c/{CONNECTION}/web/talk?with=whom");
        let mut request = address.into_client_request().unwrap();
        let token = format!("Bearer {}", relay.token(None).await);
        let headers = request.headers_mut();
        headers.insert(RELAY_AUTHORIZATION, token.parse().unwrap());
        let served = async {
            let (tcp, _) = listener.accept().await.unwrap();
            tokio_tungstenite::accept_async(tcp).await.unwrap()
        };
        let called = async {
            let tcp = TcpStream::connect(&authority).await.unwrap();
            tokio_tungstenite::client_async(request, tcp).await.unwrap()
        };
        let opening = async { tokio::join!(served, called) };
        let (mut service, (mut caller, _)) = soon("a WebSocket", opening).await;
        caller.send(Message::text(WORD)).await.unwrap();
        let heard = soon("a word", service.next()).await.unwrap().unwrap();
        service.send(heard).await.unwrap();
        soon("the word again", caller.next())
            .await
            .unwrap()
            .unwrap();
        Self {
            relay,
            agent,
            caller,
            service,
        }
    }
}

/// Waits until the WebSocket has its line, which is as it should be.
async fn until_told(agent: &TestAgent, end: &str, request_bytes: usize, response_bytes: usize) {
    let log = audit_file(agent.home());
    wait_until("the WebSocket has its line", async || {
        !calls(&log).is_empty()
    })
    .await;
    let calls = calls(&log);
    let [line] = &calls[..] else {
        panic!("{calls:?}");
    };
    let expected = json!({
        "method": "GET",
        "websocket": true,
        "path": "/talk",
        "query": "with=<redacted>",
        "decision": "allowed",
        "reason": null,
        "status": 101,
        "request_bytes": request_bytes,
        "response_bytes": response_bytes,
        "outcome": "known",
        "end": end,
    });
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&line[member], value, "{member} of {line}");
    }
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0, "{line}");
    let opened = lines(&log).into_iter().find(|line| line["kind"] == "open");
    let opened = opened.unwrap();
    assert_eq!(
        (&opened["status"], &opened["end"]),
        (&json!(101), &Value::Null)
    );
}
