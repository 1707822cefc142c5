//! Activated, deactivated, removed: from either side, told to the other at once, and in plain words.

use http::StatusCode;
use relay_agent::agent::status::{ConnectionState, ConnectionStatus};

use crate::harness::relay::RelayHome;
use crate::harness::{
    CONNECTION, Scene, TestAgent, TestRelay, Upstream, Wire, answers, wait_until,
};

async fn scene() -> Scene {
    Scene::around(Upstream::new(answers::echo).await).await
}

/// That calls are refused as not sent, because the connection is deactivated by whom the words say.
async fn refuses_calls(scene: &Scene, words: &str) {
    let answer = scene.caller().await.get("/").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    let problem = answer.problem();
    assert_eq!(problem.code, "connection-deactivated");
    assert_eq!(problem.members["delivery"], "not-sent");
    assert!(problem.detail.unwrap().contains(words), "{words}");
}

async fn passes_calls(scene: &Scene) {
    let answer = scene.caller().await.post("/", "pass").await;
    assert_eq!(answer.text(), "pass");
}

/// Who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Public,
    Private,
}

impl Side {
    async fn order(self, scene: &Scene, verb: &str) {
        match self {
            Self::Public => scene.relay.order(CONNECTION, verb).await,
            Self::Private => scene.agent.order(CONNECTION, verb).await,
        };
    }
}

/// Waits until both sides show that the connection is deactivated by these, and active by none.
async fn both_show(scene: &Scene, by: &[Side]) {
    let (public, private) = (by.contains(&Side::Public), by.contains(&Side::Private));
    let words = match (public, private) {
        (false, false) => "active",
        (true, false) => "deactivated by this side",
        (false, true) => "deactivated by the far side",
        (true, true) => "deactivated by both sides",
    };
    scene.relay.until_state(CONNECTION, words).await;
    let expected = match by {
        [] => ConnectionState::Active,
        [..] => ConnectionState::Deactivated,
    };
    let agrees = |one: &ConnectionStatus| {
        (one.deactivated_here, one.deactivated_there, one.state) == (private, public, expected)
    };
    scene.agent.until(CONNECTION, agrees).await;
}

/// One side deactivates and activates again; both show it, and only then calls pass. The words are
/// those that callers get.
async fn deactivates_and_activates(side: Side, words: &str) {
    let scene = scene().await;
    side.order(&scene, "deactivate").await;
    both_show(&scene, &[side]).await;
    refuses_calls(&scene, words).await;
    assert!(scene.upstream.calls().is_empty());
    let link = scene.agent.connection(CONNECTION).await.unwrap().link;
    assert!(link.is_online());
    side.order(&scene, "activate").await;
    both_show(&scene, &[]).await;
    passes_calls(&scene).await;
}

#[tokio::test]
async fn the_public_side_deactivates_and_the_private_side_sees_it() {
    deactivates_and_activates(Side::Public, "this side").await;
}

#[tokio::test]
async fn the_private_side_deactivates_and_the_public_side_sees_it() {
    deactivates_and_activates(Side::Private, "far side").await;
}

#[tokio::test]
async fn what_both_sides_deactivated_needs_both_to_be_active() {
    let scene = scene().await;
    Side::Private.order(&scene, "deactivate").await;
    Side::Public.order(&scene, "deactivate").await;
    both_show(&scene, &[Side::Private, Side::Public]).await;
    Side::Public.order(&scene, "activate").await;
    both_show(&scene, &[Side::Private]).await;
    refuses_calls(&scene, "far side").await;
    Side::Private.order(&scene, "activate").await;
    both_show(&scene, &[]).await;
    passes_calls(&scene).await;
}

#[tokio::test]
async fn many_changes_one_after_the_other_end_as_the_last_one_says() {
    let scene = scene().await;
    for _ in 0..10 {
        for verb in ["deactivate", "activate"] {
            Side::Public.order(&scene, verb).await;
            Side::Private.order(&scene, verb).await;
        }
    }
    both_show(&scene, &[]).await;
    passes_calls(&scene).await;
}

#[tokio::test]
async fn what_changed_while_the_agent_was_away_is_told_on_the_next_link() {
    let mut scene = scene().await;
    scene.agent.stop().await;
    Side::Public.order(&scene, "deactivate").await;
    scene.agent.go_on().await;
    both_show(&scene, &[Side::Public]).await;
    scene.relay.until_online(CONNECTION).await;
    refuses_calls(&scene, "this side").await;
}

#[tokio::test]
async fn what_changed_while_the_relay_was_away_is_told_on_the_next_link() {
    let mut scene = scene().await;
    scene.relay.stop().await;
    Side::Private.order(&scene, "deactivate").await;
    scene.relay.go_on().await;
    both_show(&scene, &[Side::Private]).await;
    scene.relay.until_online(CONNECTION).await;
    refuses_calls(&scene, "far side").await;
}

#[tokio::test]
async fn a_deactivated_connection_is_still_so_after_both_sides_restarted() {
    let mut scene = scene().await;
    Side::Private.order(&scene, "deactivate").await;
    both_show(&scene, &[Side::Private]).await;
    Side::Public.order(&scene, "deactivate").await;
    scene.relay.stop().await;
    scene.agent.stop().await;
    scene.relay.go_on().await;
    scene.agent.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    let words = scene.relay.connection(CONNECTION).await["state_text"].clone();
    assert_eq!(words, "deactivated by both sides");
    both_show(&scene, &[Side::Private, Side::Public]).await;
}

#[tokio::test]
async fn what_the_public_side_removes_ends_on_the_private_side_at_once() {
    let scene = scene().await;
    scene.relay.remove(CONNECTION).await;
    let ended = |one: &ConnectionStatus| {
        let why = one.link.why.as_deref().unwrap_or_default();
        one.state == ConnectionState::Ended && why.contains("removed")
    };
    scene.agent.until(CONNECTION, ended).await;
    let answer = scene.caller().await.get("/").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.problem().code, "unknown-connection");
}

#[tokio::test]
async fn what_the_private_side_removes_is_refused_on_the_public_side_at_once() {
    let scene = scene().await;
    assert!(scene.agent.remove(CONNECTION).await);
    assert!(scene.agent.connection(CONNECTION).await.is_none());
    let files = scene.agent.home().state().join("connections");
    assert_eq!(std::fs::read_dir(files).unwrap().count(), 0);
    scene
        .relay
        .until_state(CONNECTION, "removed by the far side")
        .await;
    let answer = scene.caller().await.get("/").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.problem().code, "connection-removed");
    scene.relay.remove(CONNECTION).await;
    let code = scene.relay.initiate("acme", "widgets").await;
    scene.agent.accept(&code).await;
    scene.relay.until_online(CONNECTION).await;
}

#[tokio::test]
async fn what_the_private_side_removed_while_the_relay_was_away_is_told_when_it_is_back() {
    let mut scene = scene().await;
    scene.relay.stop().await;
    assert!(!scene.agent.remove(CONNECTION).await);
    let removing = |one: &ConnectionStatus| one.state == ConnectionState::Removing;
    scene.agent.until(CONNECTION, removing).await;
    scene.relay.go_on().await;
    scene
        .relay
        .until_state(CONNECTION, "removed by the far side")
        .await;
    wait_until("the agent has forgotten the connection", async || {
        scene.agent.connection(CONNECTION).await.is_none()
    })
    .await;
}

#[tokio::test]
async fn what_changes_while_a_link_is_being_made_is_told() {
    let wire = Wire::new().await;
    let relay = TestRelay::at(RelayHome::behind(&wire, "")).await;
    let agent = TestAgent::start().await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    relay.until_online(CONNECTION).await;
    for cuts in 1..=4 {
        wire.cut();
        // It may have come back before anybody looks.
        wait_until("the relay has noticed the cut", async || {
            let link = relay.connection(CONNECTION).await["link"].clone();
            link["status"] == "reconnecting" || link["resumed"] == cuts
        })
        .await;
        let mut deactivated = false;
        while relay.connection(CONNECTION).await["link"]["status"] != "online" {
            deactivated = !deactivated;
            let verb = if deactivated {
                "deactivate"
            } else {
                "activate"
            };
            relay.order(CONNECTION, verb).await;
        }
        agent
            .until(CONNECTION, |one| {
                one.link.is_online() && one.deactivated_there == deactivated
            })
            .await;
    }
}
