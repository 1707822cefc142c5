//! A session outlives its WebSocket: what was under way goes on where it was, and what was begun meanwhile waits.

use std::time::Duration;

use http::StatusCode;
use relay_agent::body;

use super::load::{Tally, Told, begin_orders, told};
use super::{cut_again_and_again, everything, scene_by_cable};
use crate::harness::cable::{Cut, Door, Held};
use crate::harness::{CONNECTION, Cable, Scene, soon, wait_until};

/// Longer than the load of a test.
const LENGTH: u64 = 8 * 1024 * 1024;
/// The link's rate, so that this load lasts for several cuts.
const RATE: u64 = 8 * 1024 * 1024;

#[tokio::test]
async fn everything_finishes_once_while_the_link_is_cut_again_and_again() {
    let (scene, cable) = scene_by_cable("").await;
    cable.set_rate(Some(RATE));
    let went = tokio::select! {
        went = everything(&scene, LENGTH, 100) => went,
        never = cut_again_and_again(&scene, &cable) => match never {},
    };
    assert_eq!(went, (Ok(()), Tally::all_done(100)));
    assert!(cable.connections() > 3, "{}", cable.connections());
}

/// Cuts fall into TLS, into each message of the handshake, into frames and between them.
#[tokio::test]
async fn everything_finishes_once_when_the_link_is_cut_at_any_byte() {
    let (scene, cable) = scene_by_cable("").await;
    // What a handshake takes is some thousands; the long ones let the load go on between.
    let lives = [
        500, 3_000, 5_500, 300_000, 6_500, 7_500, 1_000_001, 9_000, 3_333_333,
    ];
    cable.cut_next_after(lives);
    cable.cut(Cut::Reset);
    let went = everything(&scene, LENGTH, 50).await;
    assert_eq!(went, (Ok(()), Tally::all_done(50)));
    assert!(cable.has_cut_all());
}

#[tokio::test]
async fn a_call_that_comes_while_the_link_is_redialled_waits_for_it() {
    let (scene, cable) = scene_by_cable("").await;
    let mut caller = scene.caller2().await;
    cut_off(&scene, &cable).await;
    let orders = begin_orders(&mut caller, "/orders", 20, Duration::ZERO).await;
    // Answered by the relay itself, after it has taken the others.
    let unknown = caller.get_from("unknown", "/").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(orders.iter().all(|(_, told)| !told.is_finished()));
    cable.set_door(Door::Open);
    assert_eq!(Tally::of(&scene, &told(orders).await), Tally::all_done(20));
}

#[tokio::test]
async fn a_call_that_was_under_way_is_answered_over_the_next_link() {
    let (scene, cable) = scene_by_cable("").await;
    let mut caller = scene.caller2().await;
    let request = caller.request("GET", "/events/50", body::empty());
    let answer = caller.send(request).await;
    cut_off(&scene, &cable).await;
    cable.set_door(Door::Open);
    let whole = crate::harness::Whole::of(answer).await;
    assert_eq!(whole.status, StatusCode::OK);
    assert_eq!(whole.text().matches("data:").count(), 50);
}

/// A firewall that has forgotten the link, a path that carries one way only, a proxy that keeps the agent's side open
/// though its other side is gone: the agent still believes in its link.
#[tokio::test]
async fn a_link_that_carries_nothing_any_more_is_replaced_and_nobody_notices() {
    replaced_under_load(|cable| cable.hold(Held::Both)).await;
    replaced_under_load(|cable| cable.hold(Held::Back)).await;
    replaced_under_load(|cable| cable.cut(Cut::Behind)).await;
}

/// Everything finishes, over another connection, though in the middle of it the link is made to carry nothing.
async fn replaced_under_load(fail: impl Fn(&Cable)) {
    let (scene, cable) = scene_by_cable("").await;
    let before = cable.connections();
    cable.set_rate(Some(RATE));
    let failing = async {
        // Both sides wait for answers.
        scene.upstream.until_called(10).await;
        fail(&cable);
        wait_until("the agent dials", async || cable.connections() > before).await;
        // It does so while it still has the first one.
        let link = scene.agent.connection(CONNECTION).await.unwrap().link;
        assert_eq!(link.last_cut, None);
    };
    let (went, ()) = tokio::join!(everything(&scene, LENGTH / 4, 50), failing);
    assert_eq!(went, (Ok(()), Tally::all_done(50)));
    // A machine that stands still itself may make it more than one.
    assert!(cable.connections() > before);
}

#[tokio::test]
async fn why_a_link_was_lost_stands_in_one_line_of_either_log_and_is_counted() {
    let (mut scene, cable) = scene_by_cable("").await;
    scene.agent.stop().await;
    scene.relay.stop().await;
    let relay = scene.relay.home().process().await;
    let agent = scene.agent.home().process();
    agent.until_logged("the link is up").await;
    cable.cut(Cut::Finish);
    agent.until_logged("the link goes on over a new").await;
    relay.until_logged("the link goes on over a new").await;
    for (log, lost) in [
        (agent.log(), "the WebSocket is lost"),
        (relay.log(), "the link has no WebSocket"),
    ] {
        let told: Vec<_> = log.lines().filter(|line| line.contains(lost)).collect();
        assert_eq!(told.len(), 1, "{log}");
        assert!(told[0].contains("hung up without a word"), "{log}");
        assert!(told[0].contains(CONNECTION), "{log}");
    }
    let metrics = scene.relay.metrics().await;
    let counted = "relay_reconnects_total{reason=\"websocket-lost\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn when_the_window_is_over_what_was_sent_is_unknown_and_what_waited_was_not_sent() {
    let (scene, cable) = scene_by_cable("[link]\nresume_window = '1s'\ncall_wait = '1s'").await;
    let mut caller = scene.caller2().await;
    let under_way = begin_orders(&mut caller, "/never", 10, Duration::ZERO).await;
    scene.upstream.until_called(10).await;
    cut_off(&scene, &cable).await;
    let waiting = begin_orders(&mut caller, "/orders", 10, Duration::ZERO).await;

    let of_under_way = Tally::of(&scene, &soon("the window is over", told(under_way)).await);
    let unknown = Tally {
        unknown: 10,
        ..Tally::default()
    };
    assert_eq!(of_under_way, unknown);
    let of_waiting = Tally::of(&scene, &soon("the window is over", told(waiting)).await);
    let not_sent = Tally {
        not_sent: 10,
        ..Tally::default()
    };
    assert_eq!(of_waiting, not_sent);

    cable.set_door(Door::Open);
    scene.relay.until_online(CONNECTION).await;
    let after = begin_orders(&mut caller, "/after", 10, Duration::ZERO).await;
    let told = told(after).await;
    assert!(told.iter().all(|(_, told)| *told == Told::Done), "{told:?}");
    wait_until("the service is rid of the first calls", async || {
        scene.upstream.calls()[..10]
            .iter()
            .all(|call| call.is_over())
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_takes_connections_and_says_nothing_does_not_stop_the_redialling() {
    let (scene, cable) = scene_by_cable("").await;
    cable.set_door(Door::Silent);
    let before = cable.connections();
    cable.cut(Cut::Reset);
    wait_until("the agent dials", async || cable.connections() > before).await;
    cable.set_door(Door::Open);
    cable.cut(Cut::Reset);
    let mut caller = scene.caller2().await;
    let orders = begin_orders(&mut caller, "/orders", 1, Duration::ZERO).await;
    assert_eq!(Tally::of(&scene, &told(orders).await), Tally::all_done(1));
}

/// Cuts the link, lets no new one come about, and waits until the relay has noticed.
async fn cut_off(scene: &Scene, cable: &Cable) {
    cable.set_door(Door::Refusing);
    cable.cut(Cut::Reset);
    scene.relay.until_link(CONNECTION, "reconnecting").await;
}
