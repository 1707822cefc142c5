//! Store, memory and answers stay in step through every change.

use super::*;
use crate::protocol::redeem::{RedeemRefusal, RedeemRequest};
use crate::relay::record::{InvitationFate, Scope, State};
use crate::relay::shared::Shared;
use crate::relay::shared::tests::relay_in;

fn initiation(local: &str, remote: &str) -> Initiation {
    Initiation {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
        name: None,
        description: String::new(),
        project: None,
    }
}

struct Fixture {
    _directory: tempfile::TempDir,
    relay: Arc<Shared>,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_in(directory.path()).await;
    Fixture {
        _directory: directory,
        relay,
    }
}

impl Fixture {
    async fn issued(&self) -> Issued {
        let initiation = initiation("acme", "widgets");
        self.relay.connections.initiate(initiation).await.unwrap()
    }

    /// An agent that has accepted, and its connection.
    async fn accepted(&self) -> Arc<Connection> {
        let issued = self.issued().await;
        let request = request(&issued, &SigningKey::generate().unwrap());
        self.relay.connections.redeem(request).await.unwrap();
        issued.connection
    }
}

fn request(issued: &Issued, agent: &SigningKey) -> RedeemRequest {
    let invitation = Invitation::decode(issued.code.expose()).unwrap();
    RedeemRequest::new(&invitation, agent, None, "agent/test".into()).unwrap()
}

#[tokio::test]
async fn an_initiated_connection_is_pending_and_its_code_says_what_it_is_for() {
    let fixture = fixture().await;
    let issued = fixture.issued().await;
    assert_eq!(issued.connection.name().as_str(), "acme_to_widgets");
    assert_eq!(issued.connection.state(), State::Pending);
    let code = Invitation::decode(issued.code.expose()).unwrap();
    assert_eq!(code.connection, issued.connection.id());
    assert_eq!(code.relay_identity, fixture.relay.identity.public_key());
    assert_eq!(code.relay_url.to_string(), "https://relay.example");
    let life = code.expires - issued.connection.record().created_at;
    assert_eq!(life, 24 * 60 * 60);
}

#[tokio::test]
async fn a_redeemed_code_makes_the_connection_active_and_the_answer_is_signed() {
    let fixture = fixture().await;
    let issued = fixture.issued().await;
    let agent = SigningKey::generate().unwrap();
    let request = request(&issued, &agent);
    let answer = fixture.relay.connections.redeem(request.clone()).await;
    let answer = answer.unwrap();
    let identity = fixture.relay.identity.public_key();
    assert_eq!(answer.verify(&request, &identity), Ok(()));
    assert_eq!(issued.connection.state(), State::Active);
    assert!(fixture.relay.registry.admit(issued.connection.id()).is_ok());
}

#[tokio::test]
async fn a_reissued_code_works_and_the_former_says_that_it_was_revoked() {
    let fixture = fixture().await;
    let former = fixture.issued().await;
    let connections = &fixture.relay.connections;
    let newer = connections.reissue("acme_to_widgets").await.unwrap();
    let agent = SigningKey::generate().unwrap();
    let refused = connections.redeem(request(&former, &agent)).await;
    assert!(matches!(
        refused,
        Err(RedeemError::Refused(RedeemRefusal::Revoked { .. }))
    ));
    connections.redeem(request(&newer, &agent)).await.unwrap();
    let again = connections.reissue("acme_to_widgets").await;
    assert!(matches!(again, Err(ChangeError::AlreadyAccepted { .. })));
}

#[tokio::test]
async fn a_revoked_invitation_shows_in_the_listing() {
    let fixture = fixture().await;
    let issued = fixture.issued().await;
    let revoked = fixture
        .relay
        .connections
        .revoke_invitation("acme_to_widgets");
    revoked.await.unwrap();
    let fate = issued.connection.record().invitation.unwrap().fate;
    assert!(matches!(fate, InvitationFate::Revoked(_)));
}

#[tokio::test]
async fn either_sides_flag_deactivates_and_both_must_be_clear() {
    let fixture = fixture().await;
    let connection = fixture.accepted().await;
    let connections = &fixture.relay.connections;
    let name = connection.name().as_str();
    connections.set_deactivated(name, true).await.unwrap();
    connections.far_side_state(&connection, true).await.unwrap();
    assert_eq!(connection.state().to_string(), "deactivated by both sides");
    connections.set_deactivated(name, false).await.unwrap();
    assert_eq!(
        connection.state().to_string(),
        "deactivated by the far side"
    );
    connections
        .far_side_state(&connection, false)
        .await
        .unwrap();
    assert_eq!(connection.state(), State::Active);
}

#[tokio::test]
async fn what_the_far_side_removed_can_only_be_removed() {
    let fixture = fixture().await;
    let connection = fixture.accepted().await;
    let connections = &fixture.relay.connections;
    let name = connection.name().as_str();
    connections.far_side_removed(&connection).await.unwrap();
    assert_eq!(connection.state(), State::Removed);
    let refused = connections.set_deactivated(name, false).await;
    assert!(matches!(refused, Err(ChangeError::RemovedByFarSide(_))));
    connections.remove(name).await.unwrap();
    assert!(fixture.relay.registry.find(name).is_none());
    fixture.issued().await;
}

#[tokio::test]
async fn removing_a_connection_ends_its_tokens_and_no_others() {
    let fixture = fixture().await;
    let connection = fixture.accepted().await;
    let connections = &fixture.relay.connections;
    let name = connection.name().to_string();
    let own = TokenFor::Connection(name.clone());
    let (record, own) = connections.create_token(own, None).await.unwrap();
    assert_eq!(record.scope, Scope::Connection(connection.id()));
    assert_eq!(record.label.as_str(), name);
    let all = connections.create_token(TokenFor::AllConnections, None);
    let (_, all) = all.await.unwrap();
    connections.remove(&name).await.unwrap();
    assert!(fixture.relay.tokens.authenticate(own.expose()).is_none());
    assert!(fixture.relay.tokens.authenticate(all.expose()).is_some());
}

#[tokio::test]
async fn mistaken_names_are_told_apart() {
    let fixture = fixture().await;
    fixture.issued().await;
    let connections = &fixture.relay.connections;
    let taken = connections.initiate(initiation("acme", "widgets")).await;
    assert!(matches!(taken, Err(ChangeError::NameTaken(_))));
    let long = initiation(&"a".repeat(40), &"b".repeat(40));
    let long = connections.initiate(long).await;
    assert!(matches!(long, Err(ChangeError::DefaultName(_))));
    let unknown = connections.remove("other").await;
    assert!(matches!(unknown, Err(ChangeError::UnknownConnection(_))));
    let unknown = connections.revoke_token("tok_0").await;
    assert!(matches!(unknown, Err(ChangeError::UnknownToken(_))));
}
