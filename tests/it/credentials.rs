//! What the agent adds to calls, through the real relay and back: services get it, callers never do.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{AUTHORIZATION, COOKIE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Response};
use http_body_util::BodyExt as _;
use relay_agent::body;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::agent::AgentHome;
use crate::harness::script::{Script, Then};
use crate::harness::upstream::configuration;
use crate::harness::{
    CONNECTION, Caller, TestAgent, TestRelay, Upstream, Whole, answers, soon, wait_until,
};

const PASSWORD: &str = "marked-password-of-the-service";
const KEY: &str = "marked key/of+the service";
const CLIENT_SECRET: &str = "marked:secret of the client";

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
        let (relay, agent, token) = joined(home).await;
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

/// A relay and an agent of this home, joined by a link that is up, and a token that opens the connection.
async fn joined(home: AgentHome) -> (TestRelay, TestAgent, String) {
    let agent = TestAgent::at(home).await;
    let relay = TestRelay::start().await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    relay.until_online(CONNECTION).await;
    let token = relay.token(Some(CONNECTION)).await;
    (relay, agent, token)
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

/// What a service says that repeats its password, `Marked-Password.1`, wherever it can.
const REPEATING: &[(&str, Then)] = &[
    (
        "/head",
        Then::Say(
            "HTTP/1.1 103 Hints-Marked-Password.1\r\nLink: <Marked-Password.1>\r\nMarked-Password.1: a\r\n\r\n\
             HTTP/1.1 200 Fine-Marked-Password.1\r\nMarked-Password.1: a\r\nX-MARKED-PASSWORD.1-b: a\r\n\
             X-Pair: svc:Marked-Password.1\r\nX-Base64: c3ZjOk1hcmtlZC1QYXNzd29yZC4x\r\n\
             Vary: marked-password.1, accept\r\nContent-Length: 2\r\n\r\nhi",
        ),
    ),
    (
        "/redirect",
        Then::Say(
            "HTTP/1.1 302 Found\r\nLocation: /login?next=%2Fx%3Fp%3DMarked%252dPassword%252E1\r\n\
             Content-Length: 0\r\n\r\n",
        ),
    ),
    (
        "/trailers",
        Then::Say(
            "HTTP/1.1 200 OK\r\nTrailer: Marked-Password.1, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\nMarked-Password.1: a\r\nX-Sum: Marked-Password.1\r\n\r\n",
        ),
    ),
    (
        "/refuses",
        Then::SayAndCut("HTTP/1.1 Marked-Password.1\r\nMarked-Password.1: a\r\n\r\n"),
    ),
];

#[tokio::test]
async fn no_part_of_an_answers_head_or_trailers_gives_a_credential_away() {
    let service = Script::new(REPEATING).await;
    let home = AgentHome::new("");
    let password = home.directory().join("password");
    fs::write(&password, "Marked-Password.1").unwrap();
    let lines = format!(
        "auth = {{ basic = {{ username = 'svc', password = {{ file = '{}' }} }} }}",
        password.display()
    );
    home.configure("", &configuration(service.address(), "web", &lines));
    let (relay, _agent, token) = joined(home).await;
    // Byte for byte, for a library would not show all of it.
    for (path, expected) in [
        ("/head", "x-pair: ***\r\n"),
        (
            "/redirect",
            "location: /c/acme_to_widgets/web/login?next=%2Fx%3Fp%3D***\r\n",
        ),
        ("/trailers", "x-sum: ***\r\n"),
        ("/refuses", "outcome-unknown"),
    ] {
        let mut tcp = TcpStream::connect(relay.home().plain_authority())
            .await
            .unwrap();
        let head = format!(
            "GET /c/{CONNECTION}/web{path} HTTP/1.1\r\nhost: {}\r\nte: trailers\r\n\
             relay-authorization: Bearer {token}\r\nconnection: close\r\n\r\n",
            relay.home().plain_authority()
        );
        tcp.write_all(head.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        soon("the answer", tcp.read_to_end(&mut said))
            .await
            .unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains(expected), "{path}: {said}");
        let small = said.to_lowercase();
        for secret in ["password", "c3zjok1hcmtlzc1qyxnzd29yzc4x"] {
            assert!(!small.contains(secret), "{path}: {said}");
        }
    }
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
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(scene.upstream.call().header("cookie"), "session=2");
    assert_eq!(answer.headers[SET_COOKIE], "session=1");
}

/// A token endpoint whose answers the test gives, and an upstream behind an agent that asks it.
struct TokenScene {
    endpoint: Upstream,
    upstream: Upstream,
    relay: TestRelay,
    agent: TestAgent,
    token: String,
}

impl TokenScene {
    async fn new(endpoint: Upstream, upstream: Upstream) -> Self {
        Self::with("", endpoint, upstream).await
    }

    /// With more lines for the upstream.
    async fn with(more: &str, endpoint: Upstream, upstream: Upstream) -> Self {
        let home = AgentHome::new("");
        let secret = home.directory().join("secret");
        fs::write(&secret, CLIENT_SECRET).unwrap();
        let lines = format!(
            "{more}\nauth = {{ oauth2 = {{ token_url = 'http://{}/token', client_id = 'the agent', \
             client_secret = {{ file = '{}' }}, scope = 'read write' }} }}",
            endpoint.address(),
            secret.display()
        );
        home.configure("", &upstream.configuration("web", &lines));
        let (relay, agent, token) = joined(home).await;
        Self {
            endpoint,
            upstream,
            relay,
            agent,
            token,
        }
    }

    async fn get(&self) -> Whole {
        let mut caller = Caller::http1(self.relay.home(), &self.token).await;
        caller.get("/page").await
    }
}

/// An endpoint that gives `token-1`, then `token-2`, and so on.
async fn token_endpoint() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::new(move |request| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let text = format!(
            r#"{{"access_token":"token-{number}","token_type":"bearer","expires_in":3600}}"#
        );
        Box::pin(async move {
            request.into_body().collect().await?;
            Ok(Response::new(body::full(text)))
        })
    })
    .await
}

#[tokio::test]
async fn a_token_is_asked_for_once_whoever_calls() {
    let scene = TokenScene::new(token_endpoint().await, Upstream::new(answers::done).await).await;
    let calls = (0..10).map(|_| scene.get());
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.text(), "done");
    }
    for seen in scene.upstream.calls() {
        assert_eq!(seen.header("authorization"), "Bearer token-1");
    }
    let asked = scene.endpoint.call();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/token")
    );
    // base64 of "the%20agent:marked%3Asecret%20of%20the%20client"
    assert_eq!(
        asked.header("authorization"),
        "Basic dGhlJTIwYWdlbnQ6bWFya2VkJTNBc2VjcmV0JTIwb2YlMjB0aGUlMjBjbGllbnQ="
    );
    let body = String::from_utf8(asked.body()).unwrap();
    assert_eq!(body, "grant_type=client_credentials&scope=read%20write");
}

#[tokio::test]
async fn a_token_outlives_a_reload() {
    let scene = TokenScene::new(token_endpoint().await, Upstream::new(answers::done).await).await;
    assert_eq!(scene.get().await.text(), "done");
    let (status, _) = scene.agent.ask(Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200);
    assert_eq!(scene.get().await.text(), "done");
    assert_eq!(scene.endpoint.calls().len(), 1);
    for seen in scene.upstream.calls() {
        assert_eq!(seen.header("authorization"), "Bearer token-1");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_for_later_calls_and_no_call_is_repeated() {
    let upstream = Upstream::new(|request| {
        let is_old = request.headers()[AUTHORIZATION] == "Bearer token-1";
        let status = if is_old { 401 } else { 200 };
        let answer = Response::builder().status(status).body(body::full("done"));
        Box::pin(std::future::ready(Ok(answer.unwrap())))
    })
    .await;
    let scene = TokenScene::new(token_endpoint().await, upstream).await;
    assert_eq!(scene.get().await.status, 401);
    assert_eq!(scene.upstream.calls().len(), 1);
    assert_eq!(scene.get().await.status, 200);
    assert_eq!(scene.endpoint.calls().len(), 2);
}

#[tokio::test]
async fn what_a_token_endpoint_says_is_told_here_and_not_to_callers() {
    let endpoint = Upstream::new(|_| {
        let text =
            format!(r#"{{"error":"invalid_client","error_description":"not {CLIENT_SECRET}"}}"#);
        let answer = Response::builder().status(401).body(body::full(text));
        Box::pin(std::future::ready(Ok(answer.unwrap())))
    })
    .await;
    let scene = TokenScene::new(endpoint, Upstream::new(answers::done).await).await;
    let answer = scene.get().await;
    assert_eq!(answer.status, 502);
    let problem = answer.text();
    assert!(problem.contains("credential-unavailable"), "{problem}");
    assert!(
        problem.contains("not-sent") && !problem.contains("invalid_client"),
        "{problem}"
    );
    assert_eq!(scene.upstream.calls().len(), 0);

    let said = "it answered 401 Unauthorized: invalid_client (not ***)";
    let status = scene.agent.status().await;
    let troubles = status.upstreams[0].credential_troubles.join(" ");
    assert!(troubles.contains(said), "{troubles}");
    let (_, report) = scene.agent.ask(Method::GET, "/v1/doctor", None).await;
    let report = report.to_string();
    assert!(
        report.contains(said) && report.contains("Check client_id"),
        "{report}"
    );
    assert!(!report.contains(CLIENT_SECRET) && !troubles.contains(CLIENT_SECRET));
}

#[tokio::test]
async fn a_token_that_is_not_renewed_is_told_as_that_while_it_is_still_good() {
    let count = AtomicUsize::new(0);
    let endpoint = Upstream::new(move |_| {
        let answer = match count.fetch_add(1, Ordering::Relaxed) {
            0 => Response::new(body::full(
                r#"{"access_token":"token-1","token_type":"bearer","expires_in":3600}"#,
            )),
            _ => Response::builder()
                .status(503)
                .body(body::full("out of order"))
                .unwrap(),
        };
        Box::pin(std::future::ready(Ok(answer)))
    })
    .await;
    let count = AtomicUsize::new(0);
    let upstream = Upstream::new(move |_| {
        // The first refusal makes the agent ask for another one.
        let status = match count.fetch_add(1, Ordering::Relaxed) {
            0 => 401,
            _ => 200,
        };
        let answer = Response::builder().status(status).body(body::full("done"));
        Box::pin(std::future::ready(Ok(answer.unwrap())))
    })
    .await;
    let scene = TokenScene::new(endpoint, upstream).await;
    assert_eq!(scene.get().await.status, 401);
    assert_eq!(scene.agent.status().await.health, "ok");
    assert_eq!(scene.get().await.status, 200);
    let status = scene.agent.status().await;
    let [condition] = status.conditions.try_into().unwrap();
    assert_eq!(condition.code, "credential-not-renewed");
    assert!(condition.text.contains("it answered 503"), "{condition:?}");
    let [of_upstream] = status.upstreams.try_into().unwrap();
    assert_eq!(of_upstream.credential_troubles, [""; 0]);
    assert_eq!(of_upstream.credentials_not_renewed.len(), 1);
    let renewals = of_upstream.credential_renewals.unwrap();
    assert_eq!((renewals.ok, renewals.failed), (1, 1));
}

#[tokio::test]
async fn a_call_does_not_wait_longer_than_for_a_connection_and_the_token_comes_all_the_same() {
    let gate = Arc::new(Notify::new());
    let waiting = Arc::clone(&gate);
    let endpoint = Upstream::new(move |_| {
        let gate = Arc::clone(&waiting);
        Box::pin(async move {
            gate.notified().await;
            let text = r#"{"access_token":"late-token","token_type":"Bearer"}"#;
            Ok(Response::new(body::full(text)))
        })
    })
    .await;
    let upstream = Upstream::new(answers::done).await;
    let scene = TokenScene::with("connect_timeout = '1s'", endpoint, upstream).await;
    let answer = scene.get().await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    gate.notify_one();
    wait_until("a call gets the late token", async || {
        scene.get().await.status == 200
    })
    .await;
    assert_eq!(
        scene.upstream.call().header("authorization"),
        "Bearer late-token"
    );
    assert_eq!(scene.endpoint.calls().len(), 1);
}
