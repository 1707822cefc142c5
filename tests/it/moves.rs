//! Moves that the relay asks for: a link goes on over a new WebSocket, or to the relay process that takes over.

use relay_agent::agent::status::ConnectionStatus;
use relay_agent::body;
use relay_agent::shutdown::Ended;

use crate::harness::answers::Pieces;
use crate::harness::cable::{Cut, Door};
use crate::harness::caller::next_piece;
use crate::harness::relay::RelayHome;
use crate::harness::{CONNECTION, Caller, Scene, TestAgent, TestRelay, Upstream, wait_until};

/// A scene whose service has `/slow`.
async fn scene(relay: &str) -> (Scene, Pieces) {
    let (upstream, pieces) = Upstream::with_slow().await;
    (Scene::with(relay, "", upstream).await, pieces)
}

#[tokio::test]
async fn a_link_that_is_old_moves_to_a_new_websocket_and_calls_go_on() {
    let (scene, pieces) = scene("[link]\nmax_age = '1s'\n").await;
    let mut caller = scene.caller().await;
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();
    pieces.send("before");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "before");
    let has_moved = |one: &ConnectionStatus| one.link.resumed >= 2;
    scene.agent.until(CONNECTION, has_moved).await;
    pieces.send("after");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "after");
    let link = scene.agent.connection(CONNECTION).await.unwrap().link;
    assert_eq!(
        (link.links_made, link.last_cut),
        (1, None),
        "a move is no cut"
    );
    let metrics = scene.relay.metrics().await;
    assert!(!metrics.contains("relay_reconnects_total{"), "{metrics}");
}

#[tokio::test]
async fn another_relay_process_takes_over_while_calls_under_way_finish_on_the_first() {
    let (mut scene, pieces) = scene("reuse_port = true").await;
    let mut caller = scene.caller().await;
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();
    pieces.send("before");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "before");

    let successor = TestRelay::at(scene.relay.home().successor()).await;
    scene.relay.drain();
    successor.until_online(CONNECTION).await;
    assert!(scene.agent.is_online(CONNECTION).await);
    let mut other = scene.caller().await;
    assert_eq!(other.get("/").await.text(), "at once");
    pieces.send("after");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "after");
    drop(pieces);
    assert_eq!(next_piece(&mut answer).await, None);
    assert_eq!(scene.relay.ended().await, Ended::Drained);
    let link = scene.agent.connection(CONNECTION).await.unwrap().link;
    assert_eq!((link.links_made, link.last_cut), (2, None));
    assert_eq!(other.get("/").await.text(), "at once");
}

/// Nobody listens on the first one's address any more: it is told that a load balancer leads elsewhere.
#[tokio::test]
async fn a_relay_behind_a_load_balancer_hands_its_agents_over_to_one_with_another_address() {
    let lines = "reuse_port = true\n[link]\nhandover = 'always'";
    let (home, balancer) = RelayHome::by_cable(lines).await;
    let mut relay = TestRelay::at(home).await;
    let (upstream, pieces) = Upstream::with_slow().await;
    let agent = TestAgent::start_with(&upstream.configuration("web", "")).await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    relay.until_online(CONNECTION).await;
    let token = relay.token(None).await;
    let mut caller = Caller::http1(relay.home(), &token).await;
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();

    let successor = TestRelay::at(relay.home().successor_elsewhere()).await;
    balancer.lead_to(successor.home().authority());
    relay.drain();
    // While a call is under way on the first.
    successor.until_online(CONNECTION).await;
    let mut other = Caller::plain(successor.home(), &token).await;
    assert_eq!(other.get("/").await.text(), "at once");
    pieces.send("after");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "after");
    drop(pieces);
    assert_eq!(next_piece(&mut answer).await, None);
    assert_eq!(relay.ended().await, Ended::Drained);
    let link = agent.connection(CONNECTION).await.unwrap().link;
    assert_eq!((link.links_made, link.last_cut), (2, None));
}

#[tokio::test]
async fn a_change_of_state_while_the_link_has_no_websocket_is_told_when_it_goes_on() {
    let (home, cable) = RelayHome::by_cable("").await;
    let relay = TestRelay::at(home).await;
    let mut agent = TestAgent::start().await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    agent.until_online(CONNECTION).await;
    for verb in ["deactivate", "activate"] {
        cable.set_door(Door::Refusing);
        cable.cut(Cut::Reset);
        relay.until_link(CONNECTION, "reconnecting").await;
        relay.order(CONNECTION, verb).await;
        cable.set_door(Door::Open);
        let is_told = |one: &ConnectionStatus| {
            one.link.is_online() && one.deactivated_there == (verb == "deactivate")
        };
        agent.until(CONNECTION, is_told).await;
    }
    let link = agent.connection(CONNECTION).await.unwrap().link;
    assert_eq!((link.links_made, link.resumed), (1, 2));
    agent.stop().await;
}

#[tokio::test]
async fn both_sides_show_and_log_that_another_machine_came_with_the_agents_identity() {
    let (mut scene, _pieces) = scene("").await;
    scene.agent.stop().await;
    scene.relay.stop().await;
    let relay = scene.relay.home().process().await;
    let agent = scene.agent.home().process();
    scene.relay.until_online(CONNECTION).await;
    let copied = scene.agent.home().cloned();
    let clone = copied.process();
    let is_told = |one: &ConnectionStatus| one.link.duplicate.is_some();
    scene.agent.until(CONNECTION, is_told).await;
    wait_until("the relay lists the double", async || {
        let link = &scene.relay.connection(CONNECTION).await["link"];
        link["duplicate"]["address"].is_string()
    })
    .await;
    // With what to do.
    agent.until_logged("remove the copy of the state").await;
    for log in [&clone, &relay] {
        log.until_logged("if this machine is a clone, remove").await;
    }
}

#[tokio::test]
async fn an_agent_that_was_killed_and_started_anew_is_not_taken_for_its_own_double() {
    let (mut scene, _pieces) = scene("").await;
    scene.agent.stop_now();
    scene.agent.ended().await;
    scene.agent.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    assert!(scene.relay.connection(CONNECTION).await["link"]["duplicate"].is_null());
    assert_eq!(scene.caller().await.get("/").await.text(), "at once");
}
