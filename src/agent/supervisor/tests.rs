//! The supervisor and its link tasks against a relay in miniature, over real sockets on loopback.

mod stage;

use self::stage::Stage;
use super::*;
use crate::agent::command::Removal;
use crate::agent::state::Standing;
use crate::agent::status::ConnectionState;
use crate::protocol::handshake::RefusalCode;

#[tokio::test]
async fn an_accepted_connection_is_linked_and_its_relay_is_seen() {
    let mut stage = Stage::set().await;
    stage.accepted("one");
    stage.start().await;
    let one = stage.until_online("one").await;
    assert_eq!(one.state, ConnectionState::Active);
    assert_eq!(one.link.links_made, 1);
    assert!(one.link.last_seen.is_some());
    assert_eq!(
        one.link.relay_software.as_deref(),
        Some("relay in miniature")
    );
}

#[tokio::test]
async fn a_change_of_state_is_told_at_once_and_survives_a_restart() {
    let mut stage = Stage::set().await;
    stage.accepted("one");
    stage.start().await;
    stage.until_online("one").await;
    let told = stage.set_deactivated("one", true).await.unwrap();
    assert_eq!(told.state, ConnectionState::Deactivated);
    let relay = Arc::clone(&stage.relay);
    stage
        .until_true(|| relay.has_heard("/v1/state {\"version\":1,\"deactivated\":true}"))
        .await;
    stage.start().await;
    assert!(stage.until_online("one").await.deactivated_here);
}

#[tokio::test]
async fn the_public_side_deactivates_and_activates() {
    let mut stage = Stage::set().await;
    let id = stage.accepted("one");
    stage.start().await;
    stage.until_online("one").await;
    for deactivated in [true, false] {
        let json = format!("{{\"version\":1,\"deactivated\":{deactivated}}}");
        assert!(stage.relay.tell(id, "/v1/state", &json).await.is_success());
        stage
            .until("one", |one| one.deactivated_there == deactivated)
            .await;
    }
}

#[tokio::test]
async fn a_removal_by_the_public_side_ends_the_connection_and_is_remembered() {
    let mut stage = Stage::set().await;
    let id = stage.accepted("one");
    stage.start().await;
    stage.until_online("one").await;
    let answer = stage.relay.tell(id, "/v1/removed", "{\"version\":1}").await;
    assert!(answer.is_success());
    stage
        .until("one", |one| one.state == ConnectionState::Ended)
        .await;
    assert!(matches!(stage.standing(id), Some(Standing::Ended { .. })));

    stage.start().await;
    let one = stage
        .until("one", |one| one.state == ConnectionState::Ended)
        .await;
    assert!(one.link.why.unwrap().contains("public side removed"));
    assert!(stage.set_deactivated("one", true).await.is_err());
    assert_eq!(stage.remove("one").await.unwrap(), Removal::Done);
    assert_eq!(stage.standing(id), None);
}

#[tokio::test]
async fn a_final_refusal_ends_one_connection_and_no_other() {
    let mut stage = Stage::set().await;
    let refused = stage.accepted("refused");
    stage.accepted("other");
    stage.relay.set_refusal(refused, Some(RefusalCode::Revoked));
    stage.start().await;
    let status = stage
        .until("refused", |it| it.state == ConnectionState::Ended)
        .await;
    assert_eq!(status.link.why.as_deref(), Some("refused: Revoked"));
    stage.until_online("other").await;
}

#[tokio::test]
async fn a_relay_that_never_answers_holds_up_no_other() {
    let mut stage = Stage::set().await;
    // The kernel takes the connection, and nobody ever reads from it.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    stage.accepted_from(&url, "silent");
    stage.accepted("other");
    stage.start().await;
    stage.until_online("other").await;
    let silent = stage.connection("silent").await.unwrap();
    assert_eq!(silent.link.status, "connecting");
    assert_eq!(
        stage.remove("silent").await.unwrap(),
        Removal::RelayNotToldYet
    );
}

#[tokio::test]
async fn a_passing_refusal_is_tried_again_until_it_passes() {
    let mut stage = Stage::set().await;
    let id = stage.accepted("one");
    stage.relay.set_refusal(id, Some(RefusalCode::Busy));
    stage.start().await;
    stage.until("one", |one| one.link.failures > 1).await;
    stage.relay.set_refusal(id, None);
    assert_eq!(stage.until_online("one").await.link.failures, 0);
}

#[tokio::test]
async fn a_removal_here_is_told_and_leaves_nothing_behind() {
    let mut stage = Stage::set().await;
    let id = stage.accepted("one");
    stage.start().await;
    stage.until_online("one").await;
    assert_eq!(stage.remove("one").await.unwrap(), Removal::Done);
    assert!(stage.relay.has_heard("/v1/removed"));
    assert_eq!(stage.standing(id), None);
    assert!(matches!(
        stage.remove("one").await,
        Err(CommandError::NoSuchConnection(_))
    ));
}

#[tokio::test]
async fn a_removal_while_the_relay_is_away_is_told_when_it_is_back() {
    let mut stage = Stage::set().await;
    let id = stage.accepted("one");
    stage.relay.set_refusal(id, Some(RefusalCode::Draining));
    stage.start().await;
    stage.until("one", |one| one.link.failures > 0).await;
    assert_eq!(stage.remove("one").await.unwrap(), Removal::RelayNotToldYet);
    assert_eq!(stage.standing(id), Some(Standing::RemovedHere));
    stage.start().await;
    stage.relay.set_refusal(id, None);
    let (relay, state) = (Arc::clone(&stage.relay), Arc::clone(&stage.state));
    stage
        .until_true(|| relay.has_heard("/v1/removed") && state.read(id).unwrap().is_none())
        .await;
}

#[tokio::test]
async fn removing_a_copy_spares_the_connection_of_the_other_agent() {
    let mut stage = Stage::set().await;
    let id = stage.accepted("one");
    stage
        .relay
        .set_refusal(id, Some(RefusalCode::AlreadyLinked));
    stage.start().await;
    stage.until("one", |one| one.link.failures > 0).await;
    assert_eq!(stage.remove("one").await.unwrap(), Removal::OnlyHere);
    assert_eq!(stage.standing(id), None);
    assert!(!stage.relay.has_heard("/v1/removed"));
}

#[tokio::test]
async fn a_defect_in_one_task_leaves_the_others_alone_and_the_task_starts_anew() {
    let mut stage = Stage::set().await;
    let one = stage.accepted("one");
    let other = stage.accepted("other");
    stage.start().await;
    stage.until_online("one").await;
    stage.until_online("other").await;
    stage.fail("one").await;
    let relay = Arc::clone(&stage.relay);
    stage.until_true(|| relay.links_of(one) == 2).await;
    stage.until_online("one").await;
    assert_eq!(relay.links_of(other), 1);
}
