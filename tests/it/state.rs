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

fn is_deactivated(here: bool, there: bool) -> impl Fn(&ConnectionStatus) -> bool {
    move |one| {
        let expected = match here || there {
            true => ConnectionState::Deactivated,
            false => ConnectionState::Active,
        };
        (one.deactivated_here, one.deactivated_there, one.state) == (here, there, expected)
    }
}

#[tokio::test]
async fn the_public_side_deactivates_and_the_private_side_sees_it() {
    let scene = scene().await;
    scene.relay.order(CONNECTION, "deactivate").await;
    scene
        .relay
        .until_state(CONNECTION, "deactivated by this side")
        .await;
    scene
        .agent
        .until(CONNECTION, is_deactivated(false, true))
        .await;
    refuses_calls(&scene, "this side").await;
    assert!(scene.upstream.calls().is_empty());
    assert!(
        scene
            .agent
            .connection(CONNECTION)
            .await
            .unwrap()
            .link
            .is_online()
    );
    scene.relay.order(CONNECTION, "activate").await;
    scene
        .agent
        .until(CONNECTION, is_deactivated(false, false))
        .await;
    passes_calls(&scene).await;
}

#[tokio::test]
async fn the_private_side_deactivates_and_the_public_side_sees_it() {
    let scene = scene().await;
    scene.agent.order(CONNECTION, "deactivate").await;
    scene
        .relay
        .until_state(CONNECTION, "deactivated by the far side")
        .await;
    refuses_calls(&scene, "far side").await;
    scene.agent.order(CONNECTION, "activate").await;
    scene.relay.until_state(CONNECTION, "active").await;
    passes_calls(&scene).await;
}

#[tokio::test]
async fn what_both_sides_deactivated_needs_both_to_be_active() {
    let scene = scene().await;
    scene.agent.order(CONNECTION, "deactivate").await;
    scene.relay.order(CONNECTION, "deactivate").await;
    scene
        .relay
        .until_state(CONNECTION, "deactivated by both sides")
        .await;
    scene
        .agent
        .until(CONNECTION, is_deactivated(true, true))
        .await;
    scene.relay.order(CONNECTION, "activate").await;
    scene
        .relay
        .until_state(CONNECTION, "deactivated by the far side")
        .await;
    scene
        .agent
        .until(CONNECTION, is_deactivated(true, false))
        .await;
    refuses_calls(&scene, "far side").await;
    scene.agent.order(CONNECTION, "activate").await;
    scene.relay.until_state(CONNECTION, "active").await;
    passes_calls(&scene).await;
}

#[tokio::test]
async fn many_changes_one_after_the_other_end_as_the_last_one_says() {
    let scene = scene().await;
    for _ in 0..10 {
        scene.relay.order(CONNECTION, "deactivate").await;
        scene.agent.order(CONNECTION, "deactivate").await;
        scene.relay.order(CONNECTION, "activate").await;
        scene.agent.order(CONNECTION, "activate").await;
    }
    scene.relay.until_state(CONNECTION, "active").await;
    scene
        .agent
        .until(CONNECTION, is_deactivated(false, false))
        .await;
    passes_calls(&scene).await;
}

#[tokio::test]
async fn what_changed_while_the_agent_was_away_is_told_on_the_next_link() {
    let mut scene = scene().await;
    scene.agent.stop().await;
    scene.relay.order(CONNECTION, "deactivate").await;
    scene.agent.go_on().await;
    scene
        .agent
        .until(CONNECTION, is_deactivated(false, true))
        .await;
    scene.relay.until_online(CONNECTION).await;
    refuses_calls(&scene, "this side").await;
}

#[tokio::test]
async fn what_changed_while_the_relay_was_away_is_told_on_the_next_link() {
    let mut scene = scene().await;
    scene.relay.stop().await;
    scene.agent.order(CONNECTION, "deactivate").await;
    scene.relay.go_on().await;
    scene
        .relay
        .until_state(CONNECTION, "deactivated by the far side")
        .await;
    scene.relay.until_online(CONNECTION).await;
    refuses_calls(&scene, "far side").await;
}

#[tokio::test]
async fn a_deactivated_connection_is_still_so_after_both_sides_restarted() {
    let mut scene = scene().await;
    scene.agent.order(CONNECTION, "deactivate").await;
    scene
        .relay
        .until_state(CONNECTION, "deactivated by the far side")
        .await;
    scene.relay.order(CONNECTION, "deactivate").await;
    scene.relay.stop().await;
    scene.agent.stop().await;
    scene.relay.go_on().await;
    scene.agent.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    let words = scene.relay.connection(CONNECTION).await["state_text"].clone();
    assert_eq!(words, "deactivated by both sides");
    scene
        .agent
        .until(CONNECTION, is_deactivated(true, true))
        .await;
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
    for _ in 0..4 {
        wire.cut();
        relay.until_link(CONNECTION, "reconnecting").await;
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
