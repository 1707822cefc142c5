//! Redeeming, reissuing and revoking, each end of them, against a real file.

use super::*;
use crate::identity::SigningKey;
use crate::relay::record::tests::pending;
use crate::relay::record::{Side, State};
use crate::relay::store::Insertion;

const EXPIRES: u64 = 5_000;

struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
    id: ConnectionId,
    code: PublicKey,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let record = pending("a");
    let (id, code) = (record.id, public_key());
    let insertion = store.insert_connection(record, code, EXPIRES).await;
    assert!(matches!(insertion.unwrap(), Insertion::Done(_)));
    Fixture {
        directory,
        store,
        id,
        code,
    }
}

fn public_key() -> PublicKey {
    SigningKey::generate().unwrap().public_key()
}

impl Fixture {
    /// Redeems with the code whose public half is given, as this agent.
    async fn redeem(&self, code: PublicKey, agent_key: PublicKey, now: u64) -> Redemption {
        let redeemer = Redeemer {
            agent_key,
            software: "agent/test".into(),
            project: Some("OPS".into()),
        };
        let redemption = self
            .store
            .redeem(self.id, redeemer, now, move |key| *key == code);
        redemption.await.unwrap()
    }
}

#[tokio::test]
async fn redeeming_makes_the_connection_active_and_repeating_gives_the_same_answer() {
    let fixture = fixture().await;
    let agent = public_key();
    let Redemption::Accepted { record, repeated } =
        fixture.redeem(fixture.code, agent, 2_000).await
    else {
        panic!("the first redemption is accepted");
    };
    assert!(!repeated);
    assert_eq!(record.state(), State::Active);
    assert_eq!(record.accepted.as_ref().unwrap().agent_key, agent);
    // Long after the expiry: a lost reply is cured whenever the agent comes back.
    let again = fixture.redeem(fixture.code, agent, EXPIRES * 2).await;
    let expected = Redemption::Accepted {
        record,
        repeated: true,
    };
    assert_eq!(again, expected);
}

#[tokio::test]
async fn of_ten_concurrent_redemptions_exactly_one_agent_wins() {
    let fixture = std::sync::Arc::new(fixture().await);
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let fixture = std::sync::Arc::clone(&fixture);
            let agent = public_key();
            tokio::spawn(async move { (agent, fixture.redeem(fixture.code, agent, 2_000).await) })
        })
        .collect();
    let mut winners = Vec::new();
    let mut named = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            (agent, Redemption::Accepted { .. }) => winners.push(agent),
            (_, Redemption::Used { by, .. }) => named.push(by),
            (_, other) => panic!("neither accepted nor used: {other:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(named, [winners[0]; 9]);
}

#[tokio::test]
async fn every_failure_is_told_apart() {
    let fixture = fixture().await;
    let agent = public_key();
    let stranger = fixture.redeem(public_key(), agent, 2_000).await;
    assert_eq!(stranger, Redemption::BadProof);
    let late = fixture.redeem(fixture.code, agent, EXPIRES).await;
    assert_eq!(late, Redemption::Expired { at: EXPIRES });

    let fresh = public_key();
    let reissue = fixture
        .store
        .reissue(fixture.id, fresh, 2_500, EXPIRES)
        .await;
    assert!(matches!(reissue.unwrap(), Reissue::Done(_)));
    let old = fixture.redeem(fixture.code, agent, 2_600).await;
    assert_eq!(old, Redemption::Revoked { at: 2_500 });

    fixture.redeem(fresh, agent, 2_700).await;
    let second = fixture.redeem(fresh, public_key(), 2_800).await;
    assert_eq!(
        second,
        Redemption::Used {
            at: 2_700,
            by: agent
        }
    );

    let removal = fixture
        .store
        .remove_connection(fixture.id, Side::Public, 3_000);
    removal.await.unwrap();
    assert_eq!(
        fixture.redeem(fresh, agent, 3_100).await,
        Redemption::Removed
    );
    let unknown = Fixture {
        id: ConnectionId::generate().unwrap(),
        ..fixture
    };
    assert_eq!(
        unknown.redeem(fresh, agent, 3_200).await,
        Redemption::Unknown
    );
}

#[tokio::test]
async fn an_accepted_connection_gets_no_new_code_and_its_code_cannot_be_revoked() {
    let fixture = fixture().await;
    fixture.redeem(fixture.code, public_key(), 2_000).await;
    let reissue = fixture
        .store
        .reissue(fixture.id, public_key(), 3_000, 9_000)
        .await;
    assert_eq!(reissue.unwrap(), Reissue::AlreadyAccepted);
    let revocation = fixture.store.revoke_invitation(fixture.id, 3_000).await;
    assert_eq!(revocation.unwrap(), Revocation::AlreadyAccepted);
}

#[tokio::test]
async fn a_revoked_code_is_refused_until_one_is_issued_anew() {
    let fixture = fixture().await;
    let revocation = fixture.store.revoke_invitation(fixture.id, 1_500).await;
    let Revocation::Done(record) = revocation.unwrap() else {
        panic!("an open code can be revoked");
    };
    assert_eq!(record.invitation.unwrap().word(1_600), "revoked");
    let refused = fixture.redeem(fixture.code, public_key(), 2_000).await;
    assert_eq!(refused, Redemption::Revoked { at: 1_500 });
    // Revoking twice keeps the first time.
    fixture
        .store
        .revoke_invitation(fixture.id, 1_900)
        .await
        .unwrap();
    let refused = fixture.redeem(fixture.code, public_key(), 2_000).await;
    assert_eq!(refused, Redemption::Revoked { at: 1_500 });
}

#[tokio::test]
async fn old_codes_are_forgotten_in_the_end_and_the_newest_still_works() {
    let fixture = fixture().await;
    let mut newest = fixture.code;
    for round in 0..40 {
        newest = public_key();
        let reissue = fixture
            .store
            .reissue(fixture.id, newest, 2_000 + round, EXPIRES);
        assert!(matches!(reissue.await.unwrap(), Reissue::Done(_)));
    }
    let agent = public_key();
    assert_eq!(
        fixture.redeem(fixture.code, agent, 3_000).await,
        Redemption::BadProof
    );
    let accepted = fixture.redeem(newest, agent, 3_000).await;
    assert!(matches!(accepted, Redemption::Accepted { .. }));
}

#[tokio::test]
async fn neither_the_seed_of_a_code_nor_a_token_is_in_the_files() {
    let fixture = fixture().await;
    let one_time = SigningKey::generate().unwrap();
    let reissue = fixture
        .store
        .reissue(fixture.id, one_time.public_key(), 2_000, EXPIRES);
    reissue.await.unwrap();
    let (token, text) = crate::relay::tokens::create(
        "reports".parse().unwrap(),
        crate::relay::record::Scope::AllConnections,
        2_000,
    )
    .unwrap();
    fixture.store.insert_token(token.clone()).await.unwrap();

    let contains = |needle: &[u8]| {
        std::fs::read_dir(fixture.directory.path())
            .unwrap()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    // What must be there shows that the search sees the files' bytes.
    assert!(contains(one_time.public_key().as_bytes()));
    assert!(contains(&token.hash));
    let seed = one_time.seed().expose();
    assert!(!contains(seed));
    assert!(!contains(crate::identity::to_base64(seed).as_bytes()));
    let text = text.expose();
    assert!(!contains(text.as_bytes()));
    assert!(!contains(text.trim_start_matches("rt_").as_bytes()));
}
