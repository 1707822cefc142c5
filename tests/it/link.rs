//! Links come, go and come again; no connection disturbs another.

use relay_agent::agent::status::ConnectionState;

use crate::harness::agent::AgentHome;
use crate::harness::relay::RelayHome;
use crate::harness::wire::Mode;
use crate::harness::{
    CONNECTION, Caller, Scene, TestAgent, TestRelay, Upstream, Wire, answers, wait_until,
};

#[tokio::test]
async fn an_agent_without_connections_waits_for_one() {
    let agent = TestAgent::start().await;
    assert!(agent.status().await.connections.is_empty());
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    agent.accept(&code).await;
    agent.until_online(CONNECTION).await;
    relay.until_online(CONNECTION).await;
}

#[tokio::test]
async fn a_relay_that_was_restarted_is_linked_again_and_calls_pass() {
    let mut scene = Scene::around(Upstream::new(answers::echo).await).await;
    scene.relay.stop().await;
    scene
        .agent
        .until(CONNECTION, |one| one.link.status == "reconnecting")
        .await;
    scene.relay.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    let mut caller = scene.caller().await;
    assert_eq!(caller.post("/", "again").await.text(), "again");
}

#[tokio::test]
async fn an_agent_that_was_restarted_links_again_and_calls_pass() {
    let mut scene = Scene::around(Upstream::new(answers::echo).await).await;
    scene.agent.stop().await;
    wait_until("the relay knows that the agent is gone", async || {
        scene.relay.connection(CONNECTION).await["link"]["status"] != "online"
    })
    .await;
    scene.agent.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    let mut caller = scene.caller().await;
    assert_eq!(caller.post("/", "again").await.text(), "again");
}

#[tokio::test]
async fn a_link_that_was_cut_goes_on_by_itself_and_tells_of_the_cut() {
    let wire = Wire::new().await;
    let relay = TestRelay::at(RelayHome::behind(&wire, "")).await;
    let agent = TestAgent::start().await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    agent.until_online(CONNECTION).await;
    wire.cut();
    let again = |one: &relay_agent::agent::status::ConnectionStatus| {
        let cut = one.link.last_cut.as_ref();
        one.link.is_online()
            && one.link.resumed == 1
            && cut.is_some_and(|cut| cut.why.contains("hung up"))
    };
    agent.until(CONNECTION, again).await;
    relay.until_online(CONNECTION).await;
    let link = &relay.connection(CONNECTION).await["link"];
    assert_eq!(link["resumed"], 1);
    assert_eq!(
        agent.connection(CONNECTION).await.unwrap().link.links_made,
        1
    );
}

#[tokio::test]
async fn an_unreachable_relay_is_dialled_on_with_the_reason_shown() {
    let wire = Wire::new().await;
    let relay = TestRelay::at(RelayHome::behind(&wire, "")).await;
    let agent = TestAgent::start().await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    agent.until_online(CONNECTION).await;
    wire.set(Mode::Down);
    wire.cut();
    let waits = |one: &relay_agent::agent::status::ConnectionStatus| {
        one.link.failures > 1 && one.link.why.is_some() && one.link.next_dial_at.is_some()
    };
    agent.until(CONNECTION, waits).await;
    wire.set(Mode::Pass);
    agent.until_online(CONNECTION).await;
}

#[tokio::test]
async fn a_clone_of_a_live_agent_is_refused_and_told_why() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let clone = TestAgent::at(scene.agent.home().cloned()).await;
    let refused = |one: &relay_agent::agent::status::ConnectionStatus| {
        let why = one.link.why.as_deref().unwrap_or_default();
        why.contains("another agent with this identity is linked")
    };
    clone.until(CONNECTION, refused).await;
    let mut caller = scene.caller().await;
    assert_eq!(caller.post("/", "mine").await.text(), "mine");
    let status = scene.agent.connection(CONNECTION).await.unwrap();
    assert!(status.link.is_online());
    assert_eq!(status.link.links_made, 1);
}

#[tokio::test]
async fn a_connection_removed_while_its_agent_was_away_ends_for_good() {
    let mut scene = Scene::around(Upstream::new(answers::echo).await).await;
    scene.agent.stop().await;
    scene.relay.remove(CONNECTION).await;
    scene.agent.go_on().await;
    let ended = |one: &relay_agent::agent::status::ConnectionStatus| {
        let why = one.link.why.as_deref().unwrap_or_default();
        one.state == ConnectionState::Ended
            && why.contains("removed on the public side")
            && one.link.next_dial_at.is_none()
    };
    scene.agent.until(CONNECTION, ended).await;
    // It remembers, and does not ask again.
    scene.agent.stop().await;
    scene.relay.stop().await;
    scene.agent.go_on().await;
    scene.agent.until(CONNECTION, ended).await;
    assert!(scene.agent.remove(CONNECTION).await);
    assert!(scene.agent.connection(CONNECTION).await.is_none());
}

#[tokio::test]
async fn an_ended_connection_gives_its_name_to_a_new_one() {
    let mut scene = Scene::around(Upstream::new(answers::echo).await).await;
    scene.relay.remove(CONNECTION).await;
    let ended =
        |one: &relay_agent::agent::status::ConnectionStatus| one.state == ConnectionState::Ended;
    scene.agent.until(CONNECTION, ended).await;
    let code = scene.relay.initiate("acme", "widgets").await;
    scene.agent.accept(&code).await;
    scene.relay.until_online(CONNECTION).await;
    assert_eq!(scene.agent.status().await.connections.len(), 1);
    scene.token = scene.relay.token(Some(CONNECTION)).await;
    let mut caller = scene.caller().await;
    assert_eq!(caller.post("/", "new").await.text(), "new");
}

#[tokio::test]
async fn the_loss_of_one_relay_does_not_disturb_the_link_to_another() {
    let mut scene = Scene::around(Upstream::new(answers::echo).await).await;
    let other = TestRelay::start().await;
    let code = other.initiate("globex", "widgets").await;
    scene.agent.accept(&code).await;
    other.until_online("globex_to_widgets").await;
    let token = other.token(None).await;
    let mut caller = Caller::http1(other.home(), &token).await;
    scene.relay.stop().await;
    scene
        .agent
        .until(CONNECTION, |one| one.link.failures > 0)
        .await;
    let request = caller.request_to(
        "globex_to_widgets",
        "POST",
        "/web/",
        relay_agent::body::full("still"),
    );
    assert_eq!(caller.whole(request).await.text(), "still");
    let status = scene.agent.connection("globex_to_widgets").await.unwrap();
    assert_eq!(status.link.links_made, 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_stops_its_own_connection_only() {
    let mut scene = Scene::around(Upstream::new(answers::echo).await).await;
    let code = scene.relay.initiate("acme", "gadgets").await;
    scene.agent.accept(&code).await;
    let damaged = scene.agent.connection("acme_to_gadgets").await.unwrap();
    scene.agent.stop().await;
    let record = record_of(scene.agent.home(), &damaged.connection);
    std::fs::write(record, "{").unwrap();
    scene.agent.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    let shown = scene.agent.connection(&damaged.connection).await.unwrap();
    assert_eq!(shown.state, ConnectionState::Damaged);
    assert!(shown.link.why.is_some());
}

fn record_of(home: &AgentHome, connection: &str) -> std::path::PathBuf {
    let path = home
        .state()
        .join("connections")
        .join(format!("{connection}.json"));
    assert!(path.is_file(), "{path:?}");
    path
}

#[tokio::test]
async fn agents_that_have_proven_who_they_are_take_no_place_for_handshakes() {
    let home = RelayHome::new("");
    let drop_ins = home.directory().join("relay.d");
    std::fs::create_dir(&drop_ins).unwrap();
    let one = "[limits]\nhandshakes_per_address = 1\n";
    std::fs::write(drop_ins.join("one.toml"), one).unwrap();
    let relay = TestRelay::at(home).await;
    let mut agents = Vec::new();
    for remote in ["widgets", "gadgets", "gizmos"] {
        let agent = TestAgent::start().await;
        agent.accept(&relay.initiate("acme", remote).await).await;
        relay.until_online(&format!("acme_to_{remote}")).await;
        agents.push(agent);
    }
}
