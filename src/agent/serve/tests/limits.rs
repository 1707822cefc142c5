//! Limits of rules: size, time and number of the calls that they allow.

use http::header::{CONTENT_TYPE, RETRY_AFTER};

use super::*;
use crate::agent::policy::{Conditions, Expected, Limits, Literal, Predicate};

/// What the upstream of these tests answers with.
const ANSWER: &str = "hello";

#[tokio::test]
async fn a_body_that_is_known_to_be_too_long_is_not_sent_and_one_that_turns_out_so_breaks_off() {
    let limits = Limits {
        max_body: Some(4),
        ..Limits::NONE
    };
    let mut agent = limited(&reader().await, limits).await;
    assert_eq!(agent.status(post(body::full("four"))).await, 200);
    let refused = agent.lane.send_request(post(body::full("fives"))).await;
    is_refused(refused.unwrap(), 413, "body-too-long", "not-sent").await;
    let (sender, body) = frames();
    sender.send("four").unwrap();
    sender.send("more").unwrap();
    // The upstream has been told of the call by then, and may have begun.
    let refused = agent.lane.send_request(post(body)).await.unwrap();
    is_refused(refused, 413, "body-too-long", "unknown").await;
    assert_eq!(agent.status(post(body::full("four"))).await, 200);
}

#[tokio::test]
async fn an_answer_that_is_too_long_is_refused_by_its_length_or_broken_off() {
    let limits = |most| Limits {
        max_response: Some(most),
        ..Limits::NONE
    };
    let mut agent = limited(&reader().await, limits(5)).await;
    let answer = agent.lane.send_request(get("/limited")).await.unwrap();
    assert_eq!(text(answer).await, ANSWER);
    let mut agent = limited(&reader().await, limits(4)).await;
    let refused = agent.lane.send_request(get("/limited")).await.unwrap();
    is_refused(refused, 502, "answer-too-long", "unknown").await;
    // The length of an answer that has no body is none.
    let mut head = get("/limited");
    *head.method_mut() = Method::HEAD;
    assert_eq!(agent.status(head).await, 200);

    let (sender, url) = upstream_of_events().await;
    let mut agent = limited(&url, limits(5)).await;
    sender.send("hello").unwrap();
    let mut answer = agent.lane.send_request(get("/limited")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let first = within(answer.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "hello");
    sender.send("!").unwrap();
    assert!(within(answer.frame()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_rule_has_a_time_out_of_its_own() {
    let url = upstream(|_| std::future::pending::<Response<Body>>()).await;
    let limits = Limits {
        response_timeout: Some(Duration::from_millis(100)),
        ..Limits::NONE
    };
    let mut agent = limited(&url, limits).await;
    let answer = within(agent.lane.send_request(get("/limited"))).await;
    is_refused(answer.unwrap(), 504, "response-timeout", "unknown").await;
}

#[tokio::test]
async fn a_rule_has_so_many_calls_at_once_until_their_answers_have_passed() {
    let (sender, url) = upstream_of_events().await;
    let limits = Limits {
        max_in_flight: Some(1),
        ..Limits::NONE
    };
    let mut agent = limited(&url, limits).await;
    sender.send("one").unwrap();
    let mut answer = agent.lane.send_request(get("/limited")).await.unwrap();
    let first = within(answer.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "one");
    let refused = agent.lane.send_request(get("/limited")).await.unwrap();
    assert_eq!(refused.headers()[RETRY_AFTER], "1");
    is_refused(refused, 429, "rule-busy", "not-sent").await;
    drop(sender);
    assert_eq!(within(text(answer)).await, "");
    // The place is free when the agent has let go of the answer, a little after its last frame.
    let free = async {
        while agent.status(get("/limited")).await == 429 {
            tokio::task::yield_now().await;
        }
    };
    within(free).await;
}

#[tokio::test]
async fn a_rule_has_a_rate_that_a_new_configuration_does_not_refill() {
    let limits = |rate: &str| Limits {
        rate: Some(rate.parse().unwrap()),
        ..Limits::NONE
    };
    let url = reader().await;
    let mut agent = limited(&url, limits("2/h")).await;
    for _ in 0..2 {
        assert_eq!(agent.status(get("/limited")).await, 200);
    }
    let refused = agent.lane.send_request(get("/limited")).await.unwrap();
    assert_eq!(refused.headers()[RETRY_AFTER], "1800");
    is_refused(refused, 429, "rate-limited", "not-sent").await;
    // Another rule before it, and another limit of its own.
    let other = Rule::parse(&["GET"], "/other").unwrap();
    let replaced = vec![other, rule(limits("3/h"))];
    agent.calls.replace(gateway(&url, replaced));
    let refused = agent.lane.send_request(get("/limited")).await.unwrap();
    is_refused(refused, 429, "rate-limited", "not-sent").await;
    agent.calls.replace(gateway(&url, vec![rule(Limits::NONE)]));
    assert_eq!(agent.status(get("/limited")).await, 200);
}

#[tokio::test]
async fn a_call_beyond_the_rate_is_refused_before_its_body_is_gathered() {
    let looking = |limits| {
        let project = Expected::OneOf(vec![Literal::Text("OPS".to_owned())]);
        let body = vec![Predicate::new("/project", project).unwrap()];
        let conditions = Conditions::default().with_body(body).unwrap();
        rule(limits).requiring(conditions)
    };
    let once = Limits {
        rate: Some("1/h".parse().unwrap()),
        ..Limits::NONE
    };
    let json = |body| {
        let request = Request::post("http://web/limited");
        let request = request.header(CONTENT_TYPE, "application/json");
        request.body(body).unwrap()
    };
    let url = reader().await;
    let mut agent = agent_with(&url, vec![looking(once)]).await;
    let good = r#"{"project": "OPS"}"#;
    assert_eq!(agent.status(json(body::full(good))).await, 200);
    // Its body never comes.
    let (_sender, body) = frames();
    let refused = within(agent.lane.send_request(json(body))).await.unwrap();
    is_refused(refused, 429, "rate-limited", "not-sent").await;
    // Another rule could still take it.
    let rules = vec![looking(once), rule(Limits::NONE)];
    agent.calls.replace(gateway(&url, rules));
    assert_eq!(agent.status(json(body::full("{}"))).await, 200);
}

#[tokio::test]
async fn a_websocket_ends_where_more_is_sent_than_a_body_may_have() {
    // As a frame, 102 bytes from there, and 106 from here.
    let text = Message::text("x".repeat(100));
    let limits = |max_body, max_response| Limits {
        max_body,
        max_response,
        ..Limits::NONE
    };
    for (limits, echoes) in [
        (limits(None, Some(210)), 2),
        (limits(Some(320), None), 3),
        (limits(Some(320), Some(110)), 1),
    ] {
        let (url, echo) = websocket_echo().await;
        let mut agent = limited(&url, limits).await;
        let mut socket = open_websocket(&mut agent, "/limited").await;
        for _ in 0..echoes {
            socket.send(text.clone()).await.unwrap();
            let echoed = within(socket.next()).await.unwrap().unwrap();
            assert_eq!(echoed, text);
        }
        // It may end before this has left.
        let _ = socket.send(text.clone()).await;
        let next = within(socket.next()).await;
        assert!(!matches!(next, Some(Ok(_))), "{limits:?}: {next:?}");
        within(echo).await.unwrap();
    }
}

async fn is_refused(answer: Response<Incoming>, status: u16, code: &str, delivery: &str) {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["relay-error"], code);
    let text = text(answer).await;
    let delivery = format!("\"delivery\":\"{delivery}\"");
    assert!(text.contains(code) && text.contains(&delivery), "{text}");
}

fn rule(limits: Limits) -> Rule {
    let methods = ["GET", "HEAD", "POST"];
    Rule::parse(&methods, "/{*rest}").unwrap().limited(limits)
}

async fn limited(url: &str, limits: Limits) -> Agent {
    agent_with(url, vec![rule(limits)]).await
}

/// An upstream that reads all it is sent before it answers.
async fn reader() -> String {
    upstream(|request| async move {
        let _ = request.into_body().collect().await;
        Response::new(body::full(ANSWER))
    })
    .await
}
