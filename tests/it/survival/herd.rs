//! Many agents lose their relay at once, or are handed over to another: all come back, each by few attempts.

use std::env;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use relay_agent::agent::state::{ConnectionRecord, StateDirectory};
use relay_agent::agent::status::ConnectionStatus;
use relay_agent::identity::{self, ConnectionId};
use rusqlite::params;

use super::scene_by_cable;
use crate::harness::in_process::{Home as _, ask};
use crate::harness::program::Daemon;
use crate::harness::relay::RelayHome;
use crate::harness::{Cable, Scene};

/// How many links, unless the variable says another number.
const LINKS: usize = 200;
const LINKS_VARIABLE: &str = "HERD_LINKS";
/// All come from one address here, as behind a load balancer that passes TLS on.
const LIMITS: &str = "[limits]\nhandshakes_per_address = 512";
/// Agents are then asked to move within six seconds, or as fast as the next relay takes them; each has six for it.
const HANDOVER: &str = "[link]\nhandover_time = '12s'";
/// How long the last of them takes then on a machine that keeps up: its turn, and a moment for the move.
const IN_TIME: Duration = Duration::from_secs(7);
/// How long a herd may take to come back: many times what it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Dials for each link, on average, that a return may take: one that succeeds, one that finds the relay gone, and
/// what is turned away for being too many.
const DIALS_FOR_EACH: u64 = 4;
/// What is counted together when arrivals are shown.
const SLICE: Duration = Duration::from_millis(250);

#[tokio::test]
async fn a_herd_that_loses_its_relay_at_once_comes_back_whole() {
    let Herd {
        scene,
        cable,
        relay,
        _agent,
        links,
    } = herd("").await;
    let before = cable.connections();
    drop(relay);
    let lost = Instant::now();
    let _relay = scene.relay.home().process().await;
    until_linked(scene.relay.home(), links).await;
    let slices = slices(&cable, before, lost);
    println!("dials in each {SLICE:?} since the loss: {slices:?}");
    let dials = cable.connections() - before;
    assert!(dials <= links as u64 * DIALS_FOR_EACH, "{dials} dials");
}

#[tokio::test]
async fn a_herd_that_is_handed_over_moves_spread_over_time() {
    let Herd {
        scene,
        cable,
        mut relay,
        _agent,
        links,
    } = herd(&format!("reuse_port = true\n{HANDOVER}")).await;
    let before = cable.connections();
    let home = scene
        .relay
        .home()
        .successor_with(&format!("{HANDOVER}\n{LIMITS}"));
    let _successor = home.process().await;
    relay.signal(Signal::SIGTERM);
    let asked = Instant::now();
    until_linked(&home, links).await;
    let took = asked.elapsed();
    assert!(relay.ended().await.success(), "{}", relay.log());
    let slices = slices(&cable, before, asked);
    let status = scene.agent.status().await;
    // Closed, cut or refused for a while: all of it has a reason that is counted.
    let was_lost = |one: &&ConnectionStatus| !one.link.reconnects.is_empty();
    let lost = status.connections.iter().filter(was_lost).count();
    println!(
        "dials in each {SLICE:?} since the hand-over: {slices:?}, {lost} of {links} links lost"
    );
    // On a machine that is slower, agents are, and links are closed that they were about to leave.
    if took < IN_TIME {
        assert_eq!(lost, 0, "a link was closed before its agent had moved");
    }
    let dials = cable.connections() - before;
    assert!(dials <= links as u64 * DIALS_FOR_EACH, "{dials} dials");
    // A third of the time that they had: whoever is slow makes it longer.
    let first = slices.iter().position(|dials| *dials > 0).unwrap();
    let spread = SLICE * u32::try_from(slices.len() - first).unwrap();
    assert!(spread > Duration::from_secs(2), "{slices:?}");
}

/// Links of one agent, which is a process, to a relay that is another.
struct Herd {
    scene: Scene,
    cable: Cable,
    relay: Daemon,
    _agent: Daemon,
    links: usize,
}

/// One with more lines for the relay's configuration.
async fn herd(lines: &str) -> Herd {
    let links = env::var(LINKS_VARIABLE).map_or(LINKS, |number| number.parse().unwrap());
    let (mut scene, cable) = scene_by_cable(&format!("{lines}\n{LIMITS}")).await;
    scene.agent.stop().await;
    scene.relay.stop().await;
    multiply(&scene, links);
    let relay = scene.relay.home().process().await;
    let agent = scene.agent.home().process();
    until_linked(scene.relay.home(), links).await;
    Herd {
        scene,
        cable,
        relay,
        _agent: agent,
        links,
    }
}

/// Gives a scene that stands still more connections like its own, on both sides, until there are so many.
fn multiply(scene: &Scene, links: usize) {
    let state = StateDirectory::open(&scene.agent.home().state()).unwrap();
    let template = state.load().unwrap().records.remove(0);
    let file = scene.relay.home().state().join("relay.db");
    let mut store = rusqlite::Connection::open(file).unwrap();
    let transaction = store.transaction().unwrap();
    for number in 1..links {
        let id = identity::random_bytes::<16>().unwrap();
        let connection = ConnectionId::from_bytes(id);
        let key = state.key_for_accepting(connection).unwrap().public_key();
        let record = ConnectionRecord {
            connection,
            name: format!("copy_{number}").parse().unwrap(),
            ..template.clone()
        };
        state.save(&record).unwrap();
        let row = "INSERT INTO connection (id, name, local_name, remote_name, description, created_at, \
                   accepted_at, agent_key, agent_software) VALUES (?1, ?2, 'a', 'b', '', 1, 1, ?3, '')";
        let values = params![id, record.name.as_str(), key.as_bytes()];
        transaction.execute(row, values).unwrap();
    }
    transaction.commit().unwrap();
}

async fn until_linked(relay: &RelayHome, links: usize) {
    let begun = Instant::now();
    loop {
        let (status, view) = ask(&relay.socket(), Method::GET, "/v1/status", None).await;
        assert_eq!(status, StatusCode::OK, "{view}");
        if view["links_online"] == links {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", view["links_online"]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How many came in each slice of time.
fn slices(cable: &Cable, before: u64, since: Instant) -> Vec<u32> {
    let mut slices = Vec::new();
    for arrival in cable
        .arrivals()
        .into_iter()
        .skip(usize::try_from(before).unwrap())
    {
        let after = arrival.saturating_duration_since(since);
        let slice = after.div_duration_f64(SLICE) as usize;
        slices.resize(slices.len().max(slice + 1), 0);
        slices[slice] += 1;
    }
    slices
}
