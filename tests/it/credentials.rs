//! What the agent adds to calls, through the real relay and back: services get it, callers never do.

use std::fs;

use http::header::{AUTHORIZATION, COOKIE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderValue, Response};
use relay_agent::body;

use crate::harness::agent::AgentHome;
use crate::harness::{CONNECTION, Caller, TestAgent, TestRelay, Upstream};

const PASSWORD: &str = "marked-password-of-the-service";
const KEY: &str = "marked key/of+the service";

/// An agent whose upstream `web` has a password and a key, and a caller who may call it.
struct Scene {
    upstream: Upstream,
    relay: TestRelay,
    _agent: TestAgent,
    token: String,
}

impl Scene {
    async fn new(more: &str) -> Self {
        let upstream = Upstream::new(echo).await;
        let home = AgentHome::new("");
        let write = |name: &str, value: &str| {
            let path = home.directory().join(name);
            fs::write(&path, value).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (password, key) = (write("password", PASSWORD), write("key", KEY));
        let lines = format!(
            "auth = {{ basic = {{ username = 'svc', password = {{ file = '{password}' }} }} }}\n\
             set_query = {{ api_key = {{ file = '{key}' }} }}\n{more}"
        );
        home.configure("", &upstream.configuration("web", &lines));
        let agent = TestAgent::at(home).await;
        let relay = TestRelay::start().await;
        agent.accept(&relay.initiate("acme", "widgets").await).await;
        relay.until_online(CONNECTION).await;
        let token = relay.token(Some(CONNECTION)).await;
        Self {
            upstream,
            relay,
            _agent: agent,
            token,
        }
    }

    async fn caller(&self) -> Caller {
        Caller::http1(self.relay.home(), &self.token).await
    }
}

/// Answers with what it was shown, as a service that is too helpful does.
fn echo(
    request: http::Request<crate::harness::upstream::Recorded>,
) -> crate::harness::upstream::Answer {
    let mut answer = Response::new(body::full("done"));
    let headers = answer.headers_mut();
    headers.insert("x-you-sent", request.headers()[AUTHORIZATION].clone());
    let location = format!("http://elsewhere.example{}", request.uri());
    headers.insert(LOCATION, HeaderValue::try_from(location).unwrap());
    headers.insert("x-key", HeaderValue::from_static(KEY));
    headers.insert(SET_COOKIE, HeaderValue::from_static("session=1"));
    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
    Box::pin(std::future::ready(Ok(answer)))
}

#[tokio::test]
async fn services_get_the_agents_credentials_and_callers_get_none_back() {
    let scene = Scene::new("").await;
    let mut caller = scene.caller().await;
    let mut request = caller.request("GET", "/page?x=%2F", body::empty());
    let headers = request.headers_mut();
    headers.insert(
        AUTHORIZATION,
        HeaderValue::from_static("Basic b3duOnBhc3M="),
    );
    headers.insert(COOKIE, HeaderValue::from_static("session=2"));
    let answer = caller.whole(request).await;
    assert_eq!(answer.status, 200);

    let seen = scene.upstream.call();
    let pair = "Basic c3ZjOm1hcmtlZC1wYXNzd29yZC1vZi10aGUtc2VydmljZQ==";
    assert_eq!(seen.header("authorization"), pair);
    assert_eq!(seen.header("cookie"), "");
    assert_eq!(
        seen.target,
        "/page?x=%2F&api_key=marked%20key%2Fof%2Bthe%20service"
    );

    assert_eq!(answer.headers["x-you-sent"], "Basic ***");
    assert_eq!(answer.headers["x-key"], "***");
    assert!(
        answer.headers[LOCATION]
            .to_str()
            .unwrap()
            .ends_with("/page?x=%2F&api_key=***")
    );
    assert_eq!(answer.headers[WWW_AUTHENTICATE], "Basic");
    assert!(!answer.headers.contains_key(SET_COOKIE));
}

#[tokio::test]
async fn a_caller_who_sets_the_agents_parameter_is_refused_and_nothing_is_sent() {
    let scene = Scene::new("").await;
    let mut caller = scene.caller().await;
    for query in ["?api_key=mine", "?a=b&API%5FKEY=mine", "?api_key[]=mine"] {
        let request = caller.request("GET", &format!("/page{query}"), body::empty());
        let answer = caller.whole(request).await;
        assert_eq!(answer.status, 403, "{query}");
        let text = answer.text();
        assert!(
            text.contains("denied-by-policy") && text.contains("not-sent"),
            "{text}"
        );
    }
    assert_eq!(scene.upstream.calls().len(), 0);
}

#[tokio::test]
async fn cookies_pass_both_ways_where_the_private_side_lets_them() {
    let scene = Scene::new("pass_cookies = true").await;
    let mut caller = scene.caller().await;
    let mut request = caller.request("GET", "/", body::empty());
    let cookie = HeaderValue::from_static("session=2");
    request.headers_mut().insert(COOKIE, cookie);
    let answer = caller.whole(request).await;
    assert_eq!(scene.upstream.call().header("cookie"), "session=2");
    assert_eq!(answer.headers[SET_COOKIE], "session=1");
}
