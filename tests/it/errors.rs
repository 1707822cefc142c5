//! What a caller is told when a call fails: who failed, whether anything was sent, when to come back.

use http::StatusCode;
use relay_agent::body;
use relay_agent::body::Body;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::caller::tls;
use crate::harness::relay::RelayHome;
use crate::harness::upstream::{self, nobody};
use crate::harness::{
    CONNECTION, Caller, Scene, TestAgent, TestRelay, Upstream, Whole, Wire, answers, soon,
};

/// What is expected of an error.
struct Expected {
    status: u16,
    code: &'static str,
    /// Who failed, and the error type of RFC 9209.
    proxy_status: &'static str,
    delivery: &'static str,
    retry: bool,
}

fn is(answer: &Whole, expected: &Expected) {
    let problem = answer.problem();
    assert_eq!(problem.code, expected.code, "{answer:?}");
    assert_eq!(answer.status.as_u16(), expected.status, "{problem:?}");
    let status = answer.header("proxy-status");
    assert!(status.starts_with(expected.proxy_status), "{status}");
    assert_eq!(
        problem.members["delivery"], expected.delivery,
        "{problem:?}"
    );
    let retry = !answer.header("retry-after").is_empty();
    assert_eq!(retry, expected.retry, "{answer:?}");
    assert_eq!(answer.header("relay-error"), "");
    assert!(!problem.title.is_empty() && problem.detail.is_some());
}

#[tokio::test]
async fn without_a_token_that_opens_the_connection_nothing_is_told_and_nothing_is_sent() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    scene.relay.initiate("acme", "gadgets").await;
    let own = scene.relay.token(Some("acme_to_gadgets")).await;
    for mut caller in [scene.caller().await, scene.caller2().await] {
        for (token, status, code) in [
            ("", 401, "token-missing"),
            ("rt_nobody", 401, "token-unknown"),
            (own.as_str(), 403, "token-for-another-connection"),
        ] {
            caller.show(token);
            let expected = Expected {
                status,
                code,
                proxy_status: "relay; error=http_request_denied",
                delivery: "not-sent",
                retry: false,
            };
            // Whether it exists makes no difference.
            for connection in [CONNECTION, "acme_to_nobody"] {
                let answer = caller.get_from(connection, "/web/x").await;
                is(&answer, &expected);
                let challenge = answer.header("www-authenticate");
                assert_eq!(challenge.starts_with("Bearer"), status == 401);
            }
        }
    }
    assert!(scene.upstream.calls().is_empty());
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_any_more() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let mut caller = scene.caller().await;
    assert_eq!(caller.get("/").await.status, StatusCode::OK);
    let (_, listed) = scene.relay.ask(http::Method::GET, "/v1/tokens", None).await;
    let id = listed["tokens"][0]["id"].as_str().unwrap();
    let target = format!("/v1/tokens/{id}");
    scene.relay.ask(http::Method::DELETE, &target, None).await;
    assert_eq!(caller.get("/").await.problem().code, "token-unknown");
}

#[tokio::test]
async fn what_is_not_there_is_told_to_those_who_may_know() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let mut caller = scene.caller().await;
    for (connection, path, code, who) in [
        ("acme_to_nobody", "/web/x", "unknown-connection", "relay"),
        (CONNECTION, "/nothing/x", "unknown-upstream", "agent"),
    ] {
        let expected = Expected {
            status: 404,
            code,
            proxy_status: who,
            delivery: "not-sent",
            retry: false,
        };
        is(&caller.get_from(connection, path).await, &expected);
    }
}

#[tokio::test]
async fn what_no_rule_allows_is_denied_by_the_agent_with_the_reason() {
    let upstream = Upstream::new(answers::echo).await;
    let scene = Scene::around(upstream).await;
    let mut caller = scene.caller().await;
    let request = caller.request("TRACE", "/", body::empty());
    let answer = caller.whole(request).await;
    let expected = Expected {
        status: 403,
        code: "denied-by-policy",
        proxy_status: "agent; error=http_request_denied",
        delivery: "not-sent",
        retry: false,
    };
    is(&answer, &expected);
    assert!(scene.upstream.calls().is_empty());
}

#[tokio::test]
async fn a_pending_connection_takes_no_calls() {
    let relay = TestRelay::start().await;
    relay.initiate("acme", "widgets").await;
    let token = relay.token(Some(CONNECTION)).await;
    let answer = Caller::http1(relay.home(), &token).await.get("/").await;
    let expected = Expected {
        status: 409,
        code: "connection-pending",
        proxy_status: "relay; error=http_request_denied",
        delivery: "not-sent",
        retry: false,
    };
    is(&answer, &expected);
}

#[tokio::test]
async fn a_full_connection_and_a_full_upstream_say_when_to_come_back() {
    for (relay, of_upstream, code, proxy_status) in [
        (
            "[limits]\ncalls_per_connection = 1\n",
            "",
            "too-many-calls",
            "relay; error=connection_limit_reached",
        ),
        (
            "",
            "max_in_flight = 1",
            "upstream-busy",
            "agent; error=connection_limit_reached",
        ),
    ] {
        let upstream = Upstream::new(answers::hang).await;
        let scene = Scene::with(relay, of_upstream, upstream).await;
        let mut caller = scene.caller2().await;
        let request = caller.request("GET", "/", body::empty());
        let under_way = tokio::spawn(caller.begin(request));
        scene.upstream.until_called(1).await;
        let expected = Expected {
            status: 429,
            code,
            proxy_status,
            delivery: "not-sent",
            retry: true,
        };
        is(&scene.caller().await.get("/").await, &expected);
        assert_eq!(scene.upstream.calls().len(), 1);
        under_way.abort();
    }
}

#[tokio::test]
async fn an_upstream_whose_name_leads_where_it_may_not_is_not_called() {
    let upstream = Upstream::new(answers::echo).await;
    let elsewhere = format!(
        "[[upstream]]\nname = 'nobody'\nurl = 'http://localhost:{}'\naddresses = ['10.0.0.0/8']\n\
         [[upstream.allow]]\nmethods = ['GET']\npath = '/{{*rest}}'\n",
        upstream.address().port()
    );
    let scene = Scene::with("", &nobody_first(&elsewhere), upstream).await;
    let mut caller = scene.caller().await;
    let answer = caller.get_from(CONNECTION, "/nobody/x").await;
    let expected = Expected {
        status: 502,
        code: "upstream-address-prohibited",
        proxy_status: "agent; error=destination_ip_prohibited",
        delivery: "not-sent",
        retry: false,
    };
    is(&answer, &expected);
    assert!(!answer.text().contains("127."), "{answer:?}");
    assert_eq!(scene.upstream.connections(), 0);
}

#[tokio::test]
async fn an_upstream_that_is_not_reached_was_sent_nothing() {
    let nobody = upstream::configuration(nobody(), "nobody", "");
    let upstream = Upstream::new(answers::echo).await;
    let scene = Scene::with("", &nobody_first(&nobody), upstream).await;
    let mut caller = scene.caller().await;
    let answer = caller.get_from(CONNECTION, "/nobody/x").await;
    let expected = Expected {
        status: 502,
        code: "upstream-unreachable",
        proxy_status: "agent; error=connection_refused",
        delivery: "not-sent",
        retry: false,
    };
    is(&answer, &expected);
    assert!(!answer.text().contains("127."), "{answer:?}");
}

/// Another upstream after the lines of the first.
fn nobody_first(other: &str) -> String {
    format!("[[upstream.allow]]\nmethods = ['GET']\npath = '/'\n{other}")
}

#[tokio::test]
async fn an_upstream_that_breaks_off_leaves_the_outcome_unknown() {
    let scene = Scene::around(Upstream::new(answers::cut).await).await;
    let answer = scene.caller().await.post("/", "once").await;
    let expected = Expected {
        status: 502,
        code: "outcome-unknown",
        proxy_status: "agent; error=connection_terminated",
        delivery: "unknown",
        retry: false,
    };
    is(&answer, &expected);
    assert_eq!(scene.upstream.calls().len(), 1, "sent once and not again");
}

#[tokio::test]
async fn a_link_that_is_lost_after_sending_leaves_the_outcome_unknown() {
    let wire = Wire::new().await;
    let relay = TestRelay::at(RelayHome::behind(&wire, "[link]\nresume_window = '0s'\n")).await;
    let upstream = Upstream::new(answers::hang).await;
    let agent = TestAgent::start_with(&upstream.configuration("web", "")).await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    relay.until_online(CONNECTION).await;
    let mut caller = Caller::plain(relay.home(), &relay.token(None).await).await;
    let request = caller.request("POST", "/", body::full("once"));
    let answer = tokio::spawn(caller.begin(request));
    upstream.until_called(1).await;
    wire.cut();
    let answer = soon("the relay's answer", answer).await.unwrap().unwrap();
    let expected = Expected {
        status: 502,
        code: "outcome-unknown",
        proxy_status: "relay; error=connection_terminated",
        delivery: "unknown",
        retry: false,
    };
    is(&Whole::of(answer).await, &expected);
    assert_eq!(upstream.calls().len(), 1);
}

#[tokio::test]
async fn a_call_to_an_agent_that_is_away_was_not_sent_and_says_when_to_come_back() {
    let mut scene = Scene::with(
        "[limits]\nredial_grace = '0s'\n",
        "",
        Upstream::new(answers::echo).await,
    )
    .await;
    scene.agent.stop().await;
    scene.relay.until_link(CONNECTION, "offline").await;
    let answer = scene.caller().await.get("/").await;
    let expected = Expected {
        status: 503,
        code: "agent-offline",
        proxy_status: "relay; error=destination_unavailable",
        delivery: "not-sent",
        retry: true,
    };
    is(&answer, &expected);
    scene.agent.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    assert!(scene.upstream.calls().is_empty(), "never sent later either");
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_in_time_is_named_with_its_time_out() {
    let upstream = Upstream::new(answers::hang).await;
    let scene = Scene::with("", "response_timeout = '1s'", upstream).await;
    let answer = scene.caller().await.get("/").await;
    let expected = Expected {
        status: 504,
        code: "response-timeout",
        proxy_status: "agent; error=http_response_timeout",
        delivery: "unknown",
        retry: false,
    };
    is(&answer, &expected);
    let detail = answer.problem().detail.unwrap();
    assert!(detail.contains("response_timeout (1s)"), "{detail}");
    let seen = scene.upstream.call();
    crate::harness::wait_until("the service is rid of it", async || seen.is_over()).await;
}

#[tokio::test]
async fn an_upstreams_own_error_is_passed_on_as_it_is() {
    let upstream = Upstream::new(|_| {
        let mut answer = http::Response::new(body::full("its own words"));
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        // Only the agent may say so.
        let headers = answer.headers_mut();
        headers.insert("relay-error", "1".parse().unwrap());
        answers::at_once(answer)
    })
    .await;
    let scene = Scene::around(upstream).await;
    let answer = scene.caller().await.get("/").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.text(), "its own words");
    for name in ["proxy-status", "relay-error"] {
        assert_eq!(answer.header(name), "");
    }
    assert!(answer.header("via").contains("agent"), "{answer:?}");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_the_link_stays() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    for mut caller in [scene.caller().await, scene.caller2().await] {
        let mut request: http::Request<Body> = caller.request("GET", "/", body::empty());
        let large = "x".repeat(60_000).parse().unwrap();
        request.headers_mut().insert("x-large", large);
        let answer = caller.send(request).await;
        assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    assert!(scene.upstream.calls().is_empty());
    assert_eq!(scene.caller().await.get("/").await.status, StatusCode::OK);
    let connection = scene.agent.connection(CONNECTION).await.unwrap();
    assert_eq!(connection.link.links_made, 1);
}

#[tokio::test]
async fn a_body_that_turns_out_to_be_malformed_is_told_under_the_name_of_its_call() {
    let scene = Scene::around(Upstream::new(answers::done).await).await;
    let home = scene.relay.home();
    let mut caller = tls(home, b"http/1.1").await;
    let request = format!(
        "POST /c/{CONNECTION}/web/x HTTP/1.1\r\nhost: {}\r\nrelay-authorization: Bearer {}\r\n\
         x-request-id: mine\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello and more\r\n",
        home.authority(),
        scene.token
    );
    caller.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The relay hangs up after it, with or without a farewell.
    let _ = soon("the end of the answer", caller.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("malformed-body"), "{answer}");
    assert!(answer.contains("x-request-id: mine\r\n"), "{answer}");
}
