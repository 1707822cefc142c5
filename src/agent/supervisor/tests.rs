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
    stage
        .until("silent", |one| one.link.status == "connecting")
        .await;
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

#[tokio::test]
async fn everyone_who_removes_a_connection_at_once_is_told_how_it_went() {
    let mut stage = Stage::set().await;
    let id = stage.accepted("one");
    stage.start().await;
    stage.until_online("one").await;
    stage.relay.keep_silent();
    let release = async {
        let relay = &stage.relay;
        stage.until_true(|| relay.has_heard("/v1/removed")).await;
        // Orders are carried out one after the other, this one after both removals.
        assert!(stage.set_deactivated("one", true).await.is_err());
        relay.answer_again();
    };
    let (first, second, ()) = tokio::join!(stage.remove("one"), stage.remove("one"), release);
    assert_eq!(first.unwrap(), Removal::Done);
    assert_eq!(second.unwrap(), Removal::Done);
    assert_eq!(stage.standing(id), None);
}

#[tokio::test]
async fn a_connection_that_is_accepted_again_is_dialled_at_once() {
    const LONG: Duration = Duration::from_secs(3600);
    let mut stage = Stage::set().await;
    let mut supervisor = stage.supervisor().await;
    let id = stage.accepted("one");
    let record = stage.state.read(id).unwrap().unwrap();
    supervisor.start(record.clone(), LONG, Redial::new());
    supervisor.take_on(&Acceptance {
        record,
        again: true,
        replaced: Vec::new(),
    });
    stage.run(supervisor);
    stage.until_online("one").await;
}

#[tokio::test]
async fn a_relay_that_does_not_take_what_it_is_told_is_told_by_the_next_link() {
    let mut stage = Stage::set().await;
    let id = stage.accepted("one");
    stage.start().await;
    stage.until_online("one").await;
    let relay = Arc::clone(&stage.relay);
    relay.set_answer(http::StatusCode::INTERNAL_SERVER_ERROR);
    stage.set_deactivated("one", true).await.unwrap();
    stage.until_true(|| relay.links_of(id) == 2).await;
    assert!(stage.until_online("one").await.deactivated_here);
}

/// On a thread of its own: a task that spins lets no deadline of its runtime pass.
#[test]
fn telling_on_a_lane_that_is_dead_does_not_keep_the_end_of_the_link_from_being_seen() {
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let mut stage = Stage::set().await;
            let id = stage.accepted("one");
            stage.start().await;
            stage.until_online("one").await;
            let relay = Arc::clone(&stage.relay);
            stage.set_deactivated("one", true).await.unwrap();
            stage.until_true(|| relay.has_heard(":true")).await;
            relay.stop_hearing(id);
            // HTTP/2 ends in good order: it may take a last request or not, and then there is one that it does not.
            let mut deactivated = true;
            while relay.links_of(id) < 2 {
                deactivated = !deactivated;
                stage.set_deactivated("one", deactivated).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let is_told = |one: &ConnectionStatus| {
                one.link.is_online() && one.deactivated_here == deactivated
            };
            stage.until("one", is_told).await;
        });
        done.send(())
    });
    waiting.recv_timeout(stage::DEADLINE).unwrap();
}
