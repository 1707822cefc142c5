//! Looking up, linking, and what removal leaves.

use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::identity::PublicKey;
use crate::link::tests::{idle_link, lose_path};
use crate::relay::record::tests::{accepted, pending};
use crate::relay::record::{Removed, Side};

const LIMITS: Limits = Limits {
    calls_in_flight: 2,
    calls_waiting: 2,
    redial_grace: Duration::from_secs(3_600),
};

fn live() -> Live {
    let (client, handle) = idle_link();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let software = "agent/test".to_owned();
    Live::new(
        1_000,
        address,
        software,
        client,
        handle,
        GoAheads::default(),
    )
}

fn registry_with(record: ConnectionRecord) -> (Arc<Registry>, Arc<Connection>) {
    let id = record.id;
    let registry = Arc::new(Registry::new(vec![record], LIMITS));
    let connection = registry.find_by_id(id).unwrap();
    (registry, connection)
}

fn accepted_connection() -> (Arc<Registry>, Arc<Connection>) {
    registry_with(accepted("a", PublicKey::from_bytes([1; 32])))
}

#[test]
fn a_second_link_is_refused_until_the_first_has_ended() {
    let (registry, connection) = accepted_connection();
    let first = registry.reserve_link(&connection).unwrap();
    let second = registry.reserve_link(&connection).unwrap_err();
    assert_eq!(second, LinkRefusal::AlreadyLinked);
    first.establish(&Arc::new(live())).unwrap();
    let second = registry.reserve_link(&connection).unwrap_err();
    assert_eq!(second, LinkRefusal::AlreadyLinked);
    drop(first);
    registry.reserve_link(&connection).unwrap();
}

#[test]
fn a_link_that_was_cut_gives_way_to_its_restarted_agent_and_not_to_a_known_double() {
    for has_double in [false, true] {
        let (registry, connection) = accepted_connection();
        let first = registry.reserve_link(&connection).unwrap();
        first.establish(&Arc::new(live())).unwrap();
        if has_double {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 2));
            assert!(connection.note_duplicate(clock::now(), address));
        }
        lose_path(&connection.live().unwrap().handle);
        assert!(matches!(connection.link_status(), LinkStatus::Reconnecting));
        let second = registry.reserve_link(&connection);
        assert_eq!(second.is_err(), has_double, "{second:?}");
        // The former's end does not touch its successor's place.
        drop(first);
        assert_eq!(registry.reserve_link(&connection).is_err(), !has_double);
    }
}

/// A connection whose agent has a link and has announced another process; that link's slot, and the ticket.
fn announced() -> (Arc<Registry>, Arc<Connection>, LinkSlot, Ticket) {
    let (registry, connection) = accepted_connection();
    let first = registry.reserve_link(&connection).unwrap();
    first.establish(&Arc::new(live())).unwrap();
    let ticket = Ticket::generate().unwrap();
    connection.announce(ticket, Duration::from_secs(3_600));
    (registry, connection, first, ticket)
}

fn is_online_by(connection: &Connection, live: &Arc<Live>) -> bool {
    match connection.link_status() {
        LinkStatus::Online(online) => Arc::ptr_eq(&online, live),
        LinkStatus::Reconnecting | LinkStatus::Offline => false,
    }
}

#[test]
fn an_announced_process_takes_over_without_a_moment_in_which_calls_cannot_pass() {
    let (registry, connection, first, ticket) = announced();
    let old = connection.live().unwrap();
    let stranger = Ticket::generate().unwrap();
    assert!(registry.succeed_link(&connection, stranger).is_err());
    assert!(registry.reserve_link(&connection).is_err());

    let second = registry.succeed_link(&connection, ticket).unwrap();
    assert!(is_online_by(&connection, &old), "nothing has come up yet");
    let new = Arc::new(live());
    second.establish(&new).unwrap();
    assert!(is_online_by(&connection, &new));
    assert!(registry.reserve_link(&connection).is_err());
    drop(first);
    assert!(
        is_online_by(&connection, &new),
        "the former's end is its own"
    );
    drop(second);
    assert!(connection.live().is_none());
}

#[test]
fn a_process_that_comes_to_nothing_leaves_the_link_as_it_was() {
    let (registry, connection, _first, ticket) = announced();
    let old = connection.live().unwrap();
    drop(registry.succeed_link(&connection, ticket).unwrap());
    assert!(is_online_by(&connection, &old));
    let new = Arc::new(live());
    let second = registry.succeed_link(&connection, ticket).unwrap();
    second.establish(&new).unwrap();
    lose_path(&new.handle);
    assert!(
        is_online_by(&connection, &old),
        "the new link carries nothing"
    );
    let stranger = registry.reserve_link(&connection).unwrap_err();
    assert_eq!(stranger, LinkRefusal::AlreadyLinked);
    drop(second);
    assert!(is_online_by(&connection, &old));
    old.leave();
    assert!(matches!(connection.link_status(), LinkStatus::Reconnecting));
}

#[test]
fn a_ticket_that_is_shown_again_gives_a_link_in_place_of_the_one_that_it_gave() {
    let (registry, connection, _first, ticket) = announced();
    let old = connection.live().unwrap();
    let lost = registry.succeed_link(&connection, ticket).unwrap();
    lost.establish(&Arc::new(live())).unwrap();
    let again = registry.succeed_link(&connection, ticket).unwrap();
    let new = Arc::new(live());
    again.establish(&new).unwrap();
    drop(lost);
    assert!(is_online_by(&connection, &new));
    drop(again);
    assert!(is_online_by(&connection, &old));
}

#[test]
fn an_announcement_holds_for_its_time_and_the_last_one_counts() {
    let (registry, connection, _first, ticket) = announced();
    connection.announce(Ticket::generate().unwrap(), Duration::from_secs(1));
    assert!(registry.succeed_link(&connection, ticket).is_err());
    connection.announce(ticket, Duration::ZERO);
    assert!(registry.succeed_link(&connection, ticket).is_err());
}

#[test]
fn the_links_status_follows_the_slot() {
    let (registry, connection) = accepted_connection();
    assert!(matches!(connection.link_status(), LinkStatus::Offline));
    assert_eq!(connection.last_seen_at(5_000), None);
    let slot = registry.reserve_link(&connection).unwrap();
    slot.establish(&Arc::new(live())).unwrap();
    assert!(matches!(connection.link_status(), LinkStatus::Online(_)));
    assert_eq!(connection.last_seen_at(5_000), Some(5_000));
    drop(slot);
    assert!(matches!(connection.link_status(), LinkStatus::Reconnecting));
    assert!(connection.live().is_none());
    let stored = connection.take_last_seen(6_000);
    assert_eq!(stored.unwrap().1, connection.last_seen_at(6_000).unwrap());
    assert_eq!(connection.take_last_seen(7_000), None);
}

#[test]
fn an_agent_is_admitted_to_an_accepted_connection_only() {
    let (registry, connection) = registry_with(pending("a"));
    let id = connection.id();
    assert_eq!(registry.admit(id).unwrap_err(), LinkRefusal::Pending);
    let stranger = ConnectionId::generate().unwrap();
    assert_eq!(registry.admit(stranger).unwrap_err(), LinkRefusal::Unknown);
    let record = ConnectionRecord {
        id,
        ..accepted("a", PublicKey::from_bytes([1; 32]))
    };
    registry.put(record);
    assert!(registry.admit(id).is_ok());
}

#[test]
fn a_removed_connection_is_told_apart_from_an_unknown_one() {
    let (registry, connection) = accepted_connection();
    let record = connection.record();
    let removed = |by| ConnectionRecord {
        removed: Some(Removed { at: 3_000, by }),
        ..ConnectionRecord::clone(&record)
    };
    let slot = registry.reserve_link(&connection).unwrap();

    registry.put(removed(Side::Private));
    assert!(registry.find("a").is_some());
    let expected = LinkRefusal::Removed { at: 3_000 };
    assert_eq!(registry.admit(record.id).unwrap_err(), expected);

    registry.put(removed(Side::Public));
    assert!(registry.find("a").is_none());
    assert!(registry.find_by_id(record.id).is_none());
    assert_eq!(registry.admit(record.id).unwrap_err(), expected);
    // A link that was being set up meanwhile does not come up.
    assert_eq!(slot.establish(&Arc::new(live())), Err(expected));
}

#[tokio::test]
async fn who_waits_until_no_call_is_under_way_is_not_counted_as_calls() {
    let (_registry, connection) = accepted_connection();
    let call = connection.begin_call().unwrap();
    let mut finished = Box::pin(connection.calls_finished());
    tokio::select! {
        biased;
        () = &mut finished => panic!("a call is under way"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(connection.calls_in_flight(), 1);
    drop(call);
    finished.await;
    assert_eq!(connection.calls_in_flight(), 0);
}

#[test]
fn calls_beyond_the_limit_find_no_place_until_one_ends() {
    let (_registry, connection) = accepted_connection();
    let first = connection.begin_call().unwrap();
    let _second = connection.begin_call().unwrap();
    assert_eq!(connection.calls_in_flight(), 2);
    assert!(connection.begin_call().is_none());
    drop(first);
    assert!(connection.begin_call().is_some());
}
