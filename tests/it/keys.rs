//! The life of an agent's identity key: rotated under load, at every crash, over two relays; revoked; copied.

mod aged;
mod revocation;

use std::fs;
use std::path::PathBuf;

use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use relay_agent::admin_socket::client;
use relay_agent::agent::status::{ConnectionState, ConnectionStatus};
use relay_agent::body;

use crate::harness::agent::AgentHome;
use crate::harness::{
    CONNECTION, Home as _, Scene, TestAgent, TestRelay, Upstream, answers, wait_until,
};

/// A service that answers at once.
async fn upstream() -> Upstream {
    Upstream::new(|_| answers::at_once(http::Response::new(body::full("here")))).await
}

async fn scene() -> Scene {
    Scene::around(upstream().await).await
}

/// The fingerprint that the relay accepts, and the one that is to follow it.
async fn keys_on(relay: &TestRelay) -> (String, Option<String>) {
    let far_side = relay.connection(CONNECTION).await["far_side"].clone();
    let text = |name: &str| far_side[name].as_str().map(str::to_owned);
    (text("agent").unwrap(), text("next_agent_key"))
}

async fn key_of(agent: &TestAgent) -> String {
    let connection = agent.connection(CONNECTION).await.unwrap();
    connection.key.unwrap().fingerprint
}

/// Orders a new key; its fingerprint, when it came about at once.
async fn rotate(agent: &TestAgent) -> Option<String> {
    let target = format!("/v1/connections/{CONNECTION}/rotate");
    let (status, answer) = agent.ask(Method::POST, &target, None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    answer["fingerprint"].as_str().map(str::to_owned)
}

/// Waits until the relay accepts this key and no other.
async fn until_alone(relay: &TestRelay, key: &str) {
    wait_until("the new key is the only one", async || {
        keys_on(relay).await == (key.to_owned(), None)
    })
    .await;
}

fn why(status: &ConnectionStatus) -> String {
    status.link.why.clone().unwrap_or_default()
}

#[tokio::test]
async fn a_key_is_replaced_under_load_without_a_failed_call_and_stays_after_a_restart() {
    let scene = scene().await;
    let (first, _) = keys_on(&scene.relay).await;
    assert_eq!(key_of(&scene.agent).await, first);
    let mut calling = Vec::new();
    for _ in 0..4 {
        let mut caller = scene.caller().await;
        calling.push(tokio::spawn(async move {
            for _ in 0..150 {
                let answer = caller.get("/").await;
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            }
        }));
    }
    let mut keys = vec![first];
    for _ in 0..3 {
        let key = rotate(&scene.agent).await.unwrap();
        assert!(!keys.contains(&key));
        until_alone(&scene.relay, &key).await;
        keys.push(key);
    }
    for one in calling {
        one.await.unwrap();
    }
    let newest = keys.pop().unwrap();
    let status = scene.agent.connection(CONNECTION).await.unwrap();
    assert_eq!(status.link.links_made, 1, "the link went on");
    assert!(status.link.resumed >= 3);

    let Scene {
        mut relay,
        mut agent,
        ..
    } = scene;
    agent.stop().await;
    relay.stop().await;
    relay.go_on().await;
    agent.go_on().await;
    relay.until_online(CONNECTION).await;
    assert_eq!(key_of(&agent).await, newest);
    assert_eq!(keys_on(&relay).await, (newest, None));
}

#[tokio::test]
async fn an_agent_that_is_asked_while_its_link_is_down_rotates_when_it_is_back() {
    let Scene {
        mut relay, agent, ..
    } = scene().await;
    let (first, _) = keys_on(&relay).await;
    relay.stop().await;
    agent.until(CONNECTION, |one| !one.link.is_online()).await;
    assert_eq!(rotate(&agent).await, None);
    relay.go_on().await;
    wait_until("both sides have a new key", async || {
        let (now, _) = keys_on(&relay).await;
        now != first && key_of(&agent).await == now
    })
    .await;
}

#[tokio::test]
async fn a_backup_from_before_the_last_rotation_is_refused_as_what_it_is() {
    let Scene { relay, agent, .. } = scene().await;
    let backup = agent.home().cloned();
    let key = rotate(&agent).await.unwrap();
    until_alone(&relay, &key).await;
    drop(agent);
    let restored = TestAgent::at(backup).await;
    restored
        .until(CONNECTION, |one| one.state == ConnectionState::Ended)
        .await;
    let status = restored.connection(CONNECTION).await.unwrap();
    let text = why(&status);
    assert!(text.contains("replaced by a newer one"), "{text}");
    assert!(
        text.contains("old backup") && text.contains("accept a new invitation"),
        "{text}"
    );
}

#[tokio::test]
async fn a_relay_restored_from_before_the_last_rotation_knows_its_agent_still() {
    let Scene {
        mut relay, agent, ..
    } = scene().await;
    relay.stop().await;
    let store = relay.home().state().join("relay.db");
    let backup = relay.home().directory().join("backup.db");
    fs::copy(&store, &backup).unwrap();
    relay.go_on().await;
    relay.until_online(CONNECTION).await;
    agent.until_online(CONNECTION).await;
    let key = rotate(&agent).await.unwrap();
    until_alone(&relay, &key).await;

    relay.stop().await;
    fs::copy(&backup, &store).unwrap();
    relay.go_on().await;
    relay.until_online(CONNECTION).await;
    until_alone(&relay, &key).await;
    assert_eq!(key_of(&agent).await, key);
}

/// Where the agent's own process keeps the keys of its only connection.
fn key_files(home: &AgentHome) -> Vec<PathBuf> {
    let files = fs::read_dir(home.state().join("connections")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "key"))
        .collect()
}

/// Waits until the relay knows that the agent has gone.
async fn until_unlinked(relay: &TestRelay) {
    wait_until("the link is gone", async || {
        relay.connection(CONNECTION).await["link"]["status"] != "online"
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_killed_anywhere_in_a_rotation_comes_back_with_a_key_that_is_accepted() {
    let Scene {
        relay, mut agent, ..
    } = scene().await;
    agent.stop().await;
    until_unlinked(&relay).await;
    // Killed when the next key is on the disk; when the relay has it; when it is current; when it was proved.
    for step in 0..4 {
        let (before, _) = keys_on(&relay).await;
        let home = agent.home();
        let mut process = home.process();
        relay.until_online(CONNECTION).await;
        let socket = home.socket();
        let asking = tokio::spawn(async move {
            let target = format!("/v1/connections/{CONNECTION}/rotate");
            // There is no answer from who is killed.
            let _ = client::request(&socket, Method::POST, &target, None).await;
        });
        wait_until("the rotation has come so far", async || match step {
            // Unless it has gone further since the last look.
            0 => key_files(home).len() > 1 || keys_on(&relay).await.0 != before,
            1 => keys_on(&relay).await.1.is_some() || keys_on(&relay).await.0 != before,
            2 => {
                let is_next = |path: &PathBuf| path.to_string_lossy().ends_with(".next.key");
                !key_files(home).iter().any(is_next)
                    && keys_on(&relay).await != (before.clone(), None)
            }
            _ => keys_on(&relay).await.0 != before,
        })
        .await;
        process.signal(Signal::SIGKILL);
        process.ended().await;
        asking.await.unwrap();

        agent.go_on().await;
        agent.until_online(CONNECTION).await;
        wait_until("both sides agree on one key", async || {
            let accepted = keys_on(&relay).await;
            accepted == (key_of(&agent).await, None) && accepted.0 != before
        })
        .await;
        agent.stop().await;
        until_unlinked(&relay).await;
    }
}

#[tokio::test]
async fn of_two_relays_over_one_store_either_knows_the_key_that_the_other_was_told() {
    let mut relay = TestRelay::start_with("reuse_port = true").await;
    let agent = TestAgent::start().await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    relay.until_online(CONNECTION).await;
    agent.until_online(CONNECTION).await;
    let successor = TestRelay::at(relay.home().successor()).await;
    let key = rotate(&agent).await.unwrap();
    until_alone(&successor, &key).await;
    relay.stop().await;
    successor.until_online(CONNECTION).await;
    agent
        .until(CONNECTION, |one| {
            one.link.is_online() && one.link.links_made == 2
        })
        .await;
    assert_eq!(keys_on(&successor).await, (key.clone(), None));
    let next = rotate(&agent).await.unwrap();
    until_alone(&successor, &next).await;
}

async fn until_ended(agent: &TestAgent) {
    agent
        .until(CONNECTION, |one| one.state == ConnectionState::Ended)
        .await;
}

#[tokio::test]
async fn a_revoked_agent_is_cut_off_told_why_and_can_be_invited_again_under_the_same_name() {
    let scene = scene().await;
    let (revoked, _) = keys_on(&scene.relay).await;
    let target = format!("/v1/connections/{CONNECTION}/revoke");
    let (status, view) = scene.relay.ask(Method::POST, &target, None).await;
    assert_eq!(status, StatusCode::OK, "{view}");
    assert_eq!(view["state"], "pending");
    until_ended(&scene.agent).await;
    let status = scene.agent.connection(CONNECTION).await.unwrap();
    assert!(
        why(&status).contains("the public side revoked this agent's key"),
        "{status:?}"
    );
    let mut caller = scene.caller().await;
    assert_eq!(caller.get("/").await.status, StatusCode::CONFLICT);

    // It knows the reason after a restart as well, and a new invitation gives it a new key.
    let Scene {
        relay, mut agent, ..
    } = scene;
    agent.stop().await;
    agent.go_on().await;
    let reissue = format!("/v1/connections/{CONNECTION}/invitation");
    let (_, issued) = relay.ask(Method::POST, &reissue, None).await;
    agent
        .accept(issued["invitation_code"].as_str().unwrap())
        .await;
    relay.until_online(CONNECTION).await;
    let (now, _) = keys_on(&relay).await;
    assert_ne!(now, revoked);
    assert_eq!(key_of(&agent).await, now);
    wait_until("calls pass again", async || {
        caller.get("/").await.status == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn what_is_removed_or_revoked_at_one_relay_is_cut_at_the_other_one_over_the_same_store() {
    for change in ["remove", "revoke"] {
        let relay = TestRelay::start_with("reuse_port = true").await;
        let agent = TestAgent::start().await;
        agent.accept(&relay.initiate("acme", "widgets").await).await;
        relay.until_online(CONNECTION).await;
        let successor = TestRelay::at(relay.home().successor()).await;
        let (method, target) = match change {
            "remove" => (Method::DELETE, format!("/v1/connections/{CONNECTION}")),
            _ => (Method::POST, format!("/v1/connections/{CONNECTION}/revoke")),
        };
        let (status, view) = successor.ask(method, &target, None).await;
        assert_eq!(status, StatusCode::OK, "{view}");
        until_ended(&agent).await;
    }
}
