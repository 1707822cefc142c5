//! From an invitation to a call.

use http::{Method, StatusCode};
use relay_agent::identity::to_base64;
use relay_agent::invitation::Invitation;

use crate::harness::program::{self, AGENT};
use crate::harness::relay::RelayHome;
use crate::harness::wire::Mode;
use crate::harness::{
    CONNECTION, Home as _, Scene, TestAgent, TestRelay, Upstream, Wire, answers, soon,
};

#[tokio::test]
async fn an_accepted_invitation_carries_calls() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let mut caller = scene.caller().await;
    let answer = caller.post("/hello", "from outside").await;
    assert_eq!(answer.text(), "from outside");
    let seen = scene.upstream.call();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/hello")
    );
}

#[tokio::test]
async fn a_connection_is_pending_with_an_unknown_far_side_until_it_is_accepted() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let pending = relay.connection(CONNECTION).await;
    assert_eq!(pending["state"], "pending");
    assert!(pending["far_side"].is_null(), "{pending}");
    assert_eq!(pending["invitation"]["state"], "open");
    assert_eq!(pending["link"]["status"], "offline");

    let agent = TestAgent::start().await;
    agent.accept(&code).await;
    relay.until_online(CONNECTION).await;
    let active = relay.connection(CONNECTION).await;
    assert_eq!(active["state"], "active");
    assert_eq!(active["far_side"]["name"], "widgets");
    assert_eq!(active["far_side"]["project"], "SYNC");
    assert_eq!(active["invitation"]["state"], "used");
    agent.until_online(CONNECTION).await;
    let connection = agent.connection(CONNECTION).await.unwrap();
    assert_eq!(connection.public_side, "acme");
    assert_eq!(connection.project.as_deref(), Some("SYNC"));
}

#[tokio::test]
async fn a_lost_reply_is_cured_by_accepting_again() {
    let wire = Wire::new().await;
    let relay = TestRelay::at(RelayHome::behind(&wire, "")).await;
    let code = relay.initiate("acme", "widgets").await;
    let agent = TestAgent::start().await;
    wire.set(Mode::LoseAnswers);
    let lost = async {
        relay.until_state(CONNECTION, "active").await;
        wire.cut();
    };
    let ((status, answer), ()) = tokio::join!(agent.try_accept(&code), lost);
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{answer}");
    assert!(agent.connection(CONNECTION).await.is_none());
    let used_by = relay.connection(CONNECTION).await["far_side"].clone();

    wire.set(Mode::Pass);
    agent.accept(&code).await;
    relay.until_online(CONNECTION).await;
    assert_eq!(relay.connection(CONNECTION).await["far_side"], used_by);
}

#[tokio::test]
async fn accepting_again_what_is_accepted_does_no_harm() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let code = scene.relay.initiate("acme", "gadgets").await;
    assert_eq!(scene.agent.accept(&code).await["again"], false);
    assert_eq!(scene.agent.accept(&code).await["again"], true);
    scene.relay.until_online("acme_to_gadgets").await;
    assert_eq!(scene.agent.status().await.connections.len(), 2);
}

#[tokio::test]
async fn ten_agents_that_redeem_one_code_at_once_are_one_agent_and_nine_refusals() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let mut redeeming = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let agent = TestAgent::start().await;
        let code = code.clone();
        redeeming.spawn(async move {
            let answer = agent.try_accept(&code).await;
            (agent, answer)
        });
    }
    let all = soon("ten redemptions", redeeming.join_all()).await;
    let (admitted, refused): (Vec<_>, Vec<_>) =
        all.iter().partition(|(_, (status, _))| status.is_success());
    assert_eq!((admitted.len(), refused.len()), (1, 9));
    relay.until_online(CONNECTION).await;
    let by = relay.connection(CONNECTION).await["far_side"]["agent"].clone();
    for (agent, (_, problem)) in refused {
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("already used"), "{problem}");
        assert!(detail.contains(by.as_str().unwrap()), "{problem}");
        assert!(agent.status().await.connections.is_empty());
    }
}

#[tokio::test]
async fn a_reissued_code_is_accepted_and_the_former_is_not() {
    let relay = TestRelay::start().await;
    let former = relay.initiate("acme", "widgets").await;
    let target = format!("/v1/connections/{CONNECTION}/invitation");
    let (_, issued) = relay.ask(Method::POST, &target, None).await;
    let agent = TestAgent::start().await;
    let (_, problem) = agent.try_accept(&former).await;
    assert!(problem["detail"].as_str().unwrap().contains("revoked"));
    agent
        .accept(issued["invitation_code"].as_str().unwrap())
        .await;
    relay.until_online(CONNECTION).await;
}

#[tokio::test]
async fn the_command_hands_a_code_from_standard_input_or_its_arguments_to_the_daemon() {
    let relay = TestRelay::start().await;
    let agent = TestAgent::start().await;
    let socket = agent.home().socket();
    let socket = socket.to_str().unwrap();
    let first = relay.initiate("acme", "widgets").await;
    let arguments = ["accept", "--yes", "--project", "W", "--socket", socket];
    let output = program::run_with(AGENT, &arguments, &format!("{first}\n")).await;
    assert!(output.succeeded().out.contains("Accepted"));
    let second = relay.initiate("acme", "gadgets").await;
    let arguments = ["accept", "--yes", "--socket", socket, &second];
    program::run(AGENT, &arguments).await.succeeded();
    relay.until_online(CONNECTION).await;
    relay.until_online("acme_to_gadgets").await;
    assert_eq!(
        relay.connection(CONNECTION).await["far_side"]["project"],
        "W"
    );
}

#[tokio::test]
async fn the_command_asks_before_it_accepts() {
    let relay = TestRelay::start().await;
    let agent = TestAgent::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let socket = agent.home().socket();
    let arguments = ["accept", "--socket", socket.to_str().unwrap(), &code];
    let output = program::run(AGENT, &arguments).await;
    output.failed(64, &["Public side", "acme", "--yes"]);
    assert!(agent.status().await.connections.is_empty());
}

#[tokio::test]
async fn what_was_accepted_without_a_daemon_is_linked_when_it_starts() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let mut agent = TestAgent::start().await;
    agent.stop().await;
    let file = agent.home().file();
    let arguments = ["accept", "--yes", "--config", file.to_str().unwrap(), &code];
    let output = program::run(AGENT, &arguments).await.succeeded();
    assert!(output.out.contains("No daemon runs"), "{output:?}");
    agent.go_on().await;
    relay.until_online(CONNECTION).await;
}

#[tokio::test]
async fn inspecting_a_code_needs_no_network_and_shows_no_secret() {
    let mut relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    relay.stop().await;
    let invitation = Invitation::decode(&code).unwrap();
    let seed = invitation.one_time_key.seed().expose();
    let secrets = [code.clone(), to_base64(seed), hex(seed)];
    for arguments in [&["inspect"][..], &["inspect", "--json"]] {
        let output = program::run_with(AGENT, arguments, &code).await.succeeded();
        let url = format!("https://{}", relay.home().authority());
        for shown in ["acme", "widgets", CONNECTION, &url] {
            assert!(output.out.contains(shown), "{shown}: {output:?}");
        }
        for secret in &secrets {
            let all = format!("{}{}", output.out, output.err);
            assert!(!all.contains(secret), "{output:?}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
