//! A link that is cut, held and refused under load: no call lost, none done twice, and every failure told as what it is.

mod herd;
mod load;
mod resume;
mod service;
mod unsent;

use std::convert::Infallible;
use std::time::Duration;

use nix::sys::signal::Signal;
use relay_agent::agent::status::ConnectionStatus;

use self::load::{Tally, Told, begin_orders, conversation, download, events, orders, told, upload};
use crate::harness::cable::{Cut, Held};
use crate::harness::relay::RelayHome;
use crate::harness::{CONNECTION, Cable, Scene, TestAgent, TestRelay, wait_until};

/// How long a link is left alone between two cuts: a load of a second meets several.
const BETWEEN_CUTS: Duration = Duration::from_millis(200);

/// A scene whose agent reaches its relay by a cable, with more lines for the relay's configuration.
async fn scene_by_cable(relay: &str) -> (Scene, Cable) {
    let upstream = service::start().await;
    let (home, cable) = RelayHome::by_cable(relay).await;
    let relay = TestRelay::at(home).await;
    let agent = TestAgent::start_with(&upstream.configuration("web", "max_in_flight = 1000")).await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    relay.until_online(CONNECTION).await;
    let token = relay.token(None).await;
    let scene = Scene {
        relay,
        agent,
        upstream,
        token,
    };
    (scene, cable)
}

#[tokio::test]
async fn what_callers_are_told_is_true_while_the_link_is_cut_again_and_again() {
    let (scene, cable) = scene_by_cable("").await;
    // However slow the machine is, several cuts fall into it.
    let load = async {
        let mut all = Vec::new();
        let mut caller = scene.caller2().await;
        while all.len() < 200 || cable.connections() <= 4 {
            let place = format!("/orders/{}", all.len());
            let pace = Duration::from_millis(10);
            all.extend(begin_orders(&mut caller, &place, 20, pace).await);
        }
        told(all).await
    };
    let told = tokio::select! {
        told = load => told,
        never = cut_again_and_again(&scene, &cable) => match never {},
    };
    let tally = Tally::of(&scene, &told);
    assert!(tally.is_truthful() && tally.unanswered == 0, "{tally:?}");
    assert!(tally.done > 0, "{tally:?}");
}

/// Cuts fall into TLS, into each message of the handshake, and into the first frames.
#[tokio::test]
async fn what_callers_are_told_is_true_when_the_link_is_cut_while_it_comes_about() {
    let (scene, cable) = scene_by_cable("").await;
    cable.cut_next_after([700, 2500, 4500, 5800, 7000]);
    cable.cut(Cut::Reset);
    let mut caller = scene.caller2().await;
    let mut all = Vec::new();
    while !cable.has_cut_all() {
        let place = format!("/orders/{}", all.len());
        let begun = begin_orders(&mut caller, &place, 1, Duration::from_millis(30)).await;
        all.extend(begun);
    }
    scene.relay.until_online(CONNECTION).await;
    all.extend(begin_orders(&mut caller, "/last", 1, Duration::ZERO).await);
    let told = told(all).await;
    let tally = Tally::of(&scene, &told);
    assert!(tally.is_truthful() && tally.unanswered == 0, "{tally:?}");
    assert_eq!(told.last().unwrap().1, Told::Done);
}

#[tokio::test]
async fn calls_of_an_agent_that_is_killed_are_told_to_be_unknown_and_later_ones_not_sent_or_done() {
    let mut scene = Scene::around(service::start().await).await;
    scene.agent.stop().await;
    let agent = scene.agent.home().process();
    scene.relay.until_online(CONNECTION).await;
    let mut caller = scene.caller2().await;
    let under_way = begin_orders(&mut caller, "/never", 20, Duration::ZERO).await;
    scene.upstream.until_called(20).await;

    agent.signal(Signal::SIGKILL);
    let meanwhile = begin_orders(&mut caller, "/orders", 20, Duration::from_millis(1)).await;
    drop(agent);
    let _agent = scene.agent.home().process();
    let of_under_way = Tally::of(&scene, &told(under_way).await);
    let unknown = Tally {
        unknown: 20,
        ..Tally::default()
    };
    assert_eq!(of_under_way, unknown);
    // Those that were begun before the relay saw the end may have been on their way.
    let of_meanwhile = Tally::of(&scene, &told(meanwhile).await);
    assert!(of_meanwhile.is_truthful(), "{of_meanwhile:?}");
    assert_eq!(of_meanwhile.unanswered, 0);

    scene.relay.until_online(CONNECTION).await;
    let after = begin_orders(&mut caller, "/after", 20, Duration::ZERO).await;
    assert_eq!(Tally::of(&scene, &told(after).await), Tally::all_done(20));
}

#[tokio::test]
async fn calls_of_a_relay_that_is_killed_end_at_the_private_service_and_new_ones_pass() {
    let mut scene = Scene::around(service::start().await).await;
    scene.relay.stop().await;
    let relay = scene.relay.home().process().await;
    scene.agent.until_online(CONNECTION).await;
    let mut caller = scene.caller2().await;
    let under_way = begin_orders(&mut caller, "/never", 20, Duration::ZERO).await;
    scene.upstream.until_called(20).await;

    relay.signal(Signal::SIGKILL);
    let of_under_way = Tally::of(&scene, &told(under_way).await);
    let unanswered = Tally {
        unanswered: 20,
        ..Tally::default()
    };
    assert_eq!(of_under_way, unanswered);
    drop(relay);
    let _relay = scene.relay.home().process().await;
    scene.relay.until_online(CONNECTION).await;
    let orders = orders(&scene, 20, Duration::ZERO).await;
    assert_eq!(Tally::of(&scene, &orders), Tally::all_done(20));
    // The service answers never; it is the agent that gives up what nobody waits for any more.
    wait_until("the service is rid of the calls", async || {
        scene.upstream.calls().iter().all(|call| call.is_over())
    })
    .await;
}

#[tokio::test]
async fn a_link_that_is_slow_and_stands_still_now_and_then_loses_nothing() {
    const LENGTH: u64 = 8 * 1024 * 1024;
    let (scene, cable) = scene_by_cable("").await;
    cable.set_delay(Duration::from_millis(10));
    cable.set_rate(Some(16 * 1024 * 1024));
    let load = everything(&scene, LENGTH, 50);
    let standing_still = async {
        for held in [Held::Forth, Held::Back, Held::Both].into_iter().cycle() {
            cable.hold(held);
            tokio::time::sleep(Duration::from_millis(100)).await;
            cable.let_go();
            // The load gets on between, however slow the machine is.
            let enough = cable.carried() + LENGTH / 16;
            while cable.carried() < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let went = tokio::select! {
        went = load => went,
        () = standing_still => unreachable!(),
    };
    assert_eq!(went, (Ok(()), Tally::all_done(50)));
    let link = scene.agent.connection(CONNECTION).await.unwrap().link;
    assert_eq!(link.links_made, 1, "it was the same link throughout");
}

#[tokio::test]
async fn an_agent_that_stands_still_for_a_while_loses_no_call() {
    let mut scene = Scene::around(service::start().await).await;
    scene.agent.stop().await;
    let agent = scene.agent.home().process();
    scene.relay.until_online(CONNECTION).await;
    let mut caller = scene.caller2().await;
    let before = begin_orders(&mut caller, "/before", 20, Duration::ZERO).await;
    agent.signal(Signal::SIGSTOP);
    let meanwhile = begin_orders(&mut caller, "/orders", 20, Duration::from_millis(10)).await;
    agent.signal(Signal::SIGCONT);
    for orders in [before, meanwhile] {
        assert_eq!(Tally::of(&scene, &told(orders).await), Tally::all_done(20));
    }
}

/// Cuts the link by turns so that both ends see a reset, and an end; each time soon after it has come back, so that
/// the load gets on however slow the machine is. Never returns.
async fn cut_again_and_again(scene: &Scene, cable: &Cable) -> Infallible {
    let mut cuts = 0;
    loop {
        let is_back = |one: &ConnectionStatus| one.link.is_online() && one.link.resumed >= cuts;
        scene.agent.until(CONNECTION, is_back).await;
        tokio::time::sleep(BETWEEN_CUTS).await;
        let how = if cuts % 2 == 0 {
            Cut::Reset
        } else {
            Cut::Finish
        };
        cable.cut(how);
        cuts += 1;
    }
}

/// Long bodies of this length both ways, and so many events, messages and orders, all at once.
async fn everything(scene: &Scene, length: u64, count: usize) -> (Result<(), String>, Tally) {
    let pace = Duration::from_millis(10);
    let (downloaded, uploaded, heard, said, told) = tokio::join!(
        download(scene.caller().await, length),
        upload(scene, length),
        events(scene.caller2().await, count),
        conversation(scene, count, pace),
        orders(scene, count, pace),
    );
    let went = downloaded.and(uploaded).and(heard).and(said);
    (went, Tally::of(scene, &told))
}
