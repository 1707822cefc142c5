//! How the programs say how they are: conditions, the check for monitors, the documented formats, the metrics.

mod documents;
mod schema;

use http::Method;
use relay_agent::admin_socket::client;
use serde_json::Value;

use self::schema::validate;
use crate::harness::program::{AGENT, Output, RELAY, run};
use crate::harness::{
    CONNECTION, Home, Scene, TestAgent, TestRelay, Upstream, answers, soon, wait_until,
};

async fn status_of(program: &'static str, home: &impl Home, more: &[&str]) -> Output {
    let socket = home.socket();
    let mut arguments = vec!["status", "--socket", socket.to_str().unwrap()];
    arguments.extend(more);
    run(program, &arguments).await
}

async fn metrics_of(home: &impl Home) -> String {
    let socket = home.socket();
    let asked = client::request(&socket, Method::GET, "/metrics", None);
    let (status, bytes) = soon("the metrics", asked).await.unwrap();
    assert_eq!(status, 200);
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn codes(status: &Value) -> Vec<&str> {
    let conditions = status["conditions"].as_array().unwrap();
    conditions
        .iter()
        .map(|it| it["code"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn what_is_well_is_told_to_people_monitors_and_scripts_alike() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    assert_eq!(scene.caller().await.get("/x").await.status, 200);
    let agent = scene.agent.home();

    let shown = status_of(AGENT, agent, &[]).await.succeeded();
    let first = shown.out.lines().next().unwrap();
    assert_eq!(first, "All is well: 1 of 1 links online.");
    assert!(!shown.out.contains('\x1b'), "colours are for terminals");
    let checked = status_of(AGENT, agent, &["--check"]).await.succeeded();
    assert_eq!(
        checked.out,
        "OK - 1 of 1 links online|links=1 links_up=1 calls=1c calls_5xx=0c conditions=0\n"
    );
    // The trial's certificate of the relay is worth a warning.
    let relay = scene.relay.home();
    let checked = status_of(RELAY, relay, &["--check"]).await;
    assert_eq!(checked.code, 1, "{checked:?}");
    assert!(checked.out.starts_with("WARNING - "), "{checked:?}");
    assert!(
        checked.out.contains("[trial-certificate]|active=1"),
        "{checked:?}"
    );
    let shown = status_of(RELAY, relay, &[]).await.succeeded();
    assert!(
        shown.out.starts_with("1 warning: Set [tls] mode"),
        "{shown:?}"
    );
}

#[tokio::test]
async fn a_link_that_is_down_is_critical_everywhere_with_its_reason_and_is_well_again_with_it() {
    let mut scene = Scene::around(Upstream::new(answers::echo).await).await;
    scene.relay.stop().await;
    wait_until("the agent knows why there is no link", async || {
        let (_, status) = scene.agent.ask(Method::GET, "/v1/status", None).await;
        codes(&status) == ["no-link-refused"]
    })
    .await;
    let agent = scene.agent.home();
    let checked = status_of(AGENT, agent, &["--check"]).await;
    assert_eq!(checked.code, 2, "{checked:?}");
    assert!(
        checked
            .out
            .starts_with("CRITICAL - acme_to_widgets: no link:"),
        "{checked:?}"
    );
    assert!(checked.out.contains("[no-link-refused]"), "{checked:?}");
    let (_, health) = scene.agent.ask(Method::GET, "/healthz", None).await;
    assert_eq!(
        (&health["health"], &health["status"]),
        (&"critical".into(), &"ok".into())
    );
    assert_eq!(codes(&health), ["no-link-refused"]);
    let metrics = metrics_of(agent).await;
    let line = format!(
        "relay_agent_condition{{code=\"no-link-refused\",severity=\"critical\",subject=\"{CONNECTION}\"}} 1"
    );
    assert!(metrics.lines().any(|one| one == line), "{metrics}");

    scene.relay.go_on().await;
    wait_until("all is well again", async || {
        let (_, status) = scene.agent.ask(Method::GET, "/v1/status", None).await;
        status["health"] == "ok"
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_gone_is_missed_by_the_relay() {
    let mut scene = Scene::with(
        "[limits]\nredial_grace = '0s'",
        "",
        Upstream::new(answers::echo).await,
    )
    .await;
    scene.agent.stop().await;
    wait_until("the relay misses the agent", async || {
        let (_, status) = scene.relay.ask(Method::GET, "/v1/status", None).await;
        codes(&status) == ["agent-absent", "trial-certificate"]
    })
    .await;
    // From outside nobody learns of it.
    let checked = status_of(RELAY, scene.relay.home(), &["--check"]).await;
    assert_eq!(checked.code, 2, "{checked:?}");
    // And an agent that does not run is critical for its own monitor.
    let checked = status_of(AGENT, scene.agent.home(), &["--check"]).await;
    assert_eq!(checked.code, 2, "{checked:?}");
    assert!(checked.out.starts_with("CRITICAL - "), "{checked:?}");
    assert_eq!(checked.err, "");
}

#[tokio::test]
async fn an_upstream_that_calls_do_not_reach_is_told_until_one_does() {
    let upstream = "[[upstream]]\nname = 'web'\nurl = 'http://127.0.0.1:9'\n[[upstream.allow]]\nmethods = ['GET']\npath = '/{*rest}'\n";
    let agent = TestAgent::start_with(upstream).await;
    let relay = TestRelay::start_with("").await;
    let code = relay.initiate("acme", "widgets").await;
    agent.accept(&code).await;
    relay.until_online(CONNECTION).await;
    let token = relay.token(None).await;
    let mut caller = crate::harness::Caller::http1(relay.home(), &token).await;
    assert_eq!(caller.get("/x").await.status, 502);
    let (_, status) = agent.ask(Method::GET, "/v1/status", None).await;
    assert_eq!(codes(&status), ["upstream-unreachable"]);
    let text = metrics_of(agent.home()).await;
    let line = "relay_agent_refusals_total{upstream=\"web\",reason=\"upstream-unreachable\"} 1";
    assert!(text.lines().any(|one| one == line), "{text}");
}

#[tokio::test]
async fn the_json_is_what_its_schema_says() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    assert_eq!(scene.caller().await.get("/x").await.status, 200);
    for (program, schema, output) in [
        (
            AGENT,
            "status",
            status_of(AGENT, scene.agent.home(), &["--json"]).await,
        ),
        (
            RELAY,
            "relay-status",
            status_of(RELAY, scene.relay.home(), &["--json"]).await,
        ),
    ] {
        let value: Value = serde_json::from_str(&output.succeeded().out).unwrap();
        let faults = validate(schema, &value);
        assert!(faults.is_empty(), "{program}: {faults:#?}");
    }
    let lonely = TestAgent::start().await;
    let (_, value) = lonely.ask(Method::GET, "/v1/status", None).await;
    let faults = validate("status", &value);
    assert!(faults.is_empty(), "{faults:#?}");
}
