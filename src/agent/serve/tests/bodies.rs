//! Rules that look at the body: it is gathered, decided about, and sent as it came.

use http::header::{CONTENT_TYPE, EXPECT};

use super::*;
use crate::agent::policy::{Conditions, Expected, Literal, Predicate};

/// More than is gathered.
const TOO_LONG: usize = 300 * 1024;

#[tokio::test]
async fn a_body_that_a_rule_looks_at_is_gathered_and_sent_byte_for_byte() {
    let mut agent = agent_with(&echo().await, rules()).await;
    let body = "{ \"project\" : \"OPS\",\n\"text\":\"\u{fc} \\u00fc\" }";
    let answer = agent.lane.send_request(issue(pieces(body))).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(text(answer).await, body);
    for (body, status) in [
        (r#"{"project":"HR"}"#, 403),
        (r#"{"project":"OPS","project":"HR"}"#, 403),
        (r#"{"project":"OPS","secret":true}"#, 403),
        ("", 403),
    ] {
        let refused = agent.status(issue(pieces(body))).await;
        assert_eq!(refused.as_u16(), status, "{body}");
    }
}

#[tokio::test]
async fn what_is_longer_than_what_is_gathered_goes_by_the_rules_that_do_not_look_at_it_and_loses_nothing()
 {
    let mut agent = agent_with(&echo().await, rules()).await;
    let long = "x".repeat(TOO_LONG);
    // The deny rule cannot see that it may pass.
    assert_eq!(agent.status(issue(pieces(&long))).await, 403);
    let open = vec![
        rules().remove(0),
        Rule::parse(&["POST"], "/{*rest}").unwrap(),
    ];
    let mut agent = agent_with(&echo().await, open).await;
    for body in [pieces(&long), body::full(long.clone())] {
        let answer = agent.lane.send_request(issue(body)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(text(answer).await, long);
    }
}

#[tokio::test]
async fn a_caller_who_waits_with_a_body_that_is_looked_at_is_told_to_go_ahead() {
    let mut agent = agent_with(&echo().await, rules()).await;
    let (sender, body) = frames();
    let mut request = issue(body);
    request
        .headers_mut()
        .insert(EXPECT, "100-continue".parse().unwrap());
    request
        .headers_mut()
        .insert(RELAY_REQUEST_ID, "7".parse().unwrap());
    let answer = agent.lane.send_request(request);
    let went_ahead = async {
        within(agent.owner.went_ahead.notified()).await;
        sender.send(r#"{"project":"OPS"}"#).unwrap();
        drop(sender);
    };
    let (answer, ()) = tokio::join!(answer, went_ahead);
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    assert_eq!(*agent.owner.go_aheads.lock().unwrap(), ["7"]);
}

#[tokio::test]
async fn a_body_that_no_rule_looks_at_streams() {
    let url =
        upstream(|request| async move { Response::new(body::streaming(request.into_body())) })
            .await;
    let mut rules = rules();
    rules.push(Rule::parse(&["POST"], "/stream").unwrap());
    let mut agent = agent_with(&url, rules).await;
    let (sender, body) = frames();
    let mut request = issue(body);
    *request.uri_mut() = "http://web/stream".parse().unwrap();
    let answer = agent.lane.send_request(request);
    sender.send("one").unwrap();
    // The answer comes although the body has not ended.
    let mut answer = within(answer).await.unwrap();
    let first = within(answer.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "one");
}

fn rules() -> Vec<Rule> {
    let looking = |rule: Rule, pointer: &str, literal| {
        let expected = Expected::OneOf(vec![literal]);
        let predicate = Predicate::new(pointer, expected).unwrap();
        rule.requiring(Conditions::default().with_body(vec![predicate]).unwrap())
    };
    let allow = Rule::parse(&["POST"], "/issue").unwrap();
    let deny = Rule::parse_deny::<&str>(&[], "/issue").unwrap();
    vec![
        looking(allow, "/project", Literal::Text("OPS".to_owned())),
        looking(deny, "/secret", Literal::Boolean(true)),
    ]
}

fn issue(body: Body) -> Request<Body> {
    let request = Request::post("http://web/issue").header(CONTENT_TYPE, "application/json");
    request.body(body).unwrap()
}

/// A body of unknown length, in pieces.
fn pieces(text: &str) -> Body {
    let pieces: Vec<_> = text
        .as_bytes()
        .chunks(text.len().div_ceil(3).max(1))
        .collect();
    let frames: Vec<_> = pieces
        .into_iter()
        .map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    body::streaming(StreamBody::new(stream::iter(frames)))
}

/// An upstream that answers with what it was sent.
async fn echo() -> String {
    upstream(|request| async move {
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(body::full(sent))
    })
    .await
}
