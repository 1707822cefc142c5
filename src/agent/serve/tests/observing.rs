//! Rules that are tried beside those in force: they change nothing, and what they would deny is noted.

use http::header::CONTENT_TYPE;

use super::*;
use crate::agent::policy::{Conditions, Expected, Literal, Predicate};
use crate::agent::serve::Counts;

/// More than rules look at.
const TOO_LONG: usize = 300 * 1024;

#[tokio::test]
async fn what_candidate_rules_would_deny_passes_as_it_came_and_is_counted() {
    let url = upstream(|request| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(body::full(body))
    })
    .await;
    let mut agent = trying(&url).await;
    for (body, counts) in [
        (r#"{"project": "OPS"}"#.to_owned(), counts(1, 0, 0)),
        (r#"{"project": "WEB"}"#.to_owned(), counts(1, 1, 0)),
        ("not JSON".to_owned(), counts(1, 2, 0)),
        (String::new(), counts(1, 3, 0)),
        ("x".repeat(TOO_LONG), counts(1, 4, 0)),
    ] {
        let answer = agent.lane.send_request(post_json(body::full(body.clone())));
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(text(answer).await, body);
        assert_eq!(agent.observed(), counts, "{body:.20}");
    }
    assert_eq!(agent.status(get("/allowed/x")).await, 200);
    assert_eq!(agent.observed(), counts(1, 5, 0));
    // They allow it, and those in force do not.
    assert_eq!(agent.status(get("/more")).await, 403);
    assert_eq!(agent.observed(), counts(1, 5, 0));
}

#[tokio::test]
async fn a_body_does_not_wait_for_the_rules_that_are_tried() {
    let url =
        upstream(|request| async move { Response::new(body::streaming(request.into_body())) })
            .await;
    let mut agent = trying(&url).await;
    let (sender, body) = frames();
    let answer = agent.lane.send_request(post_json(body));
    sender.send(r#"{"project":"#).unwrap();
    // The answer comes although the body has not ended, and nothing can be said of it.
    let mut answer = within(answer).await.unwrap();
    let first = within(answer.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), r#"{"project":"#);
    assert_eq!(agent.observed(), counts(0, 0, 0));
    sender.send(r#""OPS"}"#).unwrap();
    drop(sender);
    assert_eq!(within(text(answer)).await, r#""OPS"}"#);
    assert_eq!(agent.observed(), counts(1, 0, 0));
}

#[tokio::test]
async fn of_a_body_that_nobody_reads_to_its_end_nothing_is_said() {
    let url = upstream(|_| async { Response::new(body::full("no need to read it")) }).await;
    let mut agent = trying(&url).await;
    let (sender, body) = frames();
    sender.send("begun").unwrap();
    let answer = within(agent.lane.send_request(post_json(body)))
        .await
        .unwrap();
    assert_eq!(text(answer).await, "no need to read it");
    drop(agent.lane);
    let calls = Arc::clone(&agent.calls);
    let counted = async move {
        while calls.gateway().observed("web") != Some(counts(0, 0, 1)) {
            tokio::task::yield_now().await;
        }
    };
    within(counted).await;
}

#[tokio::test]
async fn counts_go_on_as_long_as_the_rules_are_the_same() {
    let url = upstream(|_| async { Response::new(body::empty()) }).await;
    let mut agent = trying(&url).await;
    assert_eq!(agent.status(get("/allowed/x")).await, 200);
    let same = gateway_trying(&url, in_force(), Some(candidate()));
    agent.calls.replace(same);
    assert_eq!(agent.observed(), counts(0, 1, 0));
    let others = gateway_trying(&url, in_force(), Some(in_force()));
    agent.calls.replace(others);
    assert_eq!(agent.observed(), counts(0, 0, 0));
    agent.calls.replace(gateway(&url, in_force()));
    assert_eq!(agent.calls.gateway().observed("web"), None);
}

fn in_force() -> Vec<Rule> {
    vec![Rule::parse(&["GET", "POST"], "/allowed/{*rest}").unwrap()]
}

/// Fewer calls, by what is in their bodies, and one more path.
fn candidate() -> Vec<Rule> {
    let project = Expected::OneOf(vec![Literal::Text("OPS".to_owned())]);
    let body = vec![Predicate::new("/project", project).unwrap()];
    let post = Rule::parse(&["POST"], "/allowed/post").unwrap();
    vec![
        post.requiring(Conditions::default().with_body(body).unwrap()),
        Rule::parse(&["GET"], "/more").unwrap(),
    ]
}

async fn trying(url: &str) -> Agent {
    let agent = agent_with(url, Vec::new()).await;
    let gateway = gateway_trying(url, in_force(), Some(candidate()));
    agent.calls.replace(gateway);
    agent
}

impl Agent {
    fn observed(&self) -> Counts {
        self.calls.gateway().observed("web").unwrap()
    }
}

const fn counts(allowed: u64, denied: u64, undecided: u64) -> Counts {
    Counts {
        allowed,
        denied,
        undecided,
    }
}

fn post_json(body: Body) -> Request<Body> {
    let request = Request::post("http://web/allowed/post");
    let request = request.header(CONTENT_TYPE, "application/json");
    request.body(body).unwrap()
}
