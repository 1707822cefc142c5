//! The keys of agents: one that follows another, one that is revoked, and those that are accepted no more.
//!
//! What an announcement or a proof changes is decided by `protocol::rotation` over the rows as the
//! transaction sees them, so that two relays over one store never decide by what is old.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, StoreError, connections, loaded, stored};
use crate::identity::{ConnectionId, PublicKey};
use crate::protocol::rotation::{Announcement, FORMER_KEPT, RelayKeys, RotateRefusal};
use crate::relay::record::ConnectionRecord;

/// A key that was a connection's once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormerKey {
    /// The key.
    pub key: PublicKey,
    /// How it came to an end.
    pub why: KeyEnd,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// How a key came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEnd {
    /// Its agent has another one now.
    Replaced,
    /// An admin of this side revoked it.
    Revoked,
}

/// What became of an announced key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one per rotation, taken apart at once"
)]
pub enum Rotation {
    /// The key is accepted, since now or since before.
    Accepted(Announcement, ConnectionRecord),
    /// It is not.
    Refused(RotateRefusal),
    /// There is no such connection, or nobody has accepted it.
    Unknown,
}

impl Store {
    /// The connection as it is stored now.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn connection(
        &self,
        id: ConnectionId,
    ) -> Result<Option<ConnectionRecord>, StoreError> {
        self.run("read the connection", move |transaction| {
            connections::fetch(transaction, id)
        })
        .await
    }

    /// The keys that are accepted no more, newest first.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn former_keys(&self, id: ConnectionId) -> Result<Vec<FormerKey>, StoreError> {
        self.run("read the former keys", move |transaction| {
            former(transaction, id)
        })
        .await
    }

    /// `by` names `next`; the signatures of both have been checked.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn announce_key(
        &self,
        id: ConnectionId,
        by: PublicKey,
        next: PublicKey,
    ) -> Result<Rotation, StoreError> {
        self.run("store the agent's next key", move |transaction| {
            let Some((record, mut keys)) = keys_of(transaction, id)? else {
                return Ok(Rotation::Unknown);
            };
            match keys.announce(by, next) {
                Err(refusal) => Ok(Rotation::Refused(refusal)),
                Ok(Announcement::Known) => Ok(Rotation::Accepted(Announcement::Known, record)),
                Ok(Announcement::Stored) => {
                    transaction.execute(
                        "UPDATE connection SET next_agent_key = ?2 WHERE id = ?1",
                        params![id.as_bytes(), next.as_bytes()],
                    )?;
                    let record = connections::fetch(transaction, id)?.unwrap_or(record);
                    Ok(Rotation::Accepted(Announcement::Stored, record))
                }
            }
        })
        .await
    }

    /// The agent proved `key`: where it was the next one, it is the current one from now on, and the former
    /// is accepted no more. `None`: there is no such connection.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn key_proved(
        &self,
        id: ConnectionId,
        key: PublicKey,
        now: u64,
    ) -> Result<Option<ConnectionRecord>, StoreError> {
        self.run("replace the agent's key", move |transaction| {
            let Some((record, mut keys)) = keys_of(transaction, id)? else {
                return Ok(None);
            };
            let former = keys.current;
            if !keys.proved(key) {
                return Ok(Some(record));
            }
            end(transaction, id, former, KeyEnd::Replaced, now)?;
            transaction.execute(
                "UPDATE connection SET agent_key = ?2, agent_key_since = ?3, next_agent_key = NULL
                 WHERE id = ?1",
                params![id.as_bytes(), key.as_bytes(), stored(now)],
            )?;
            connections::fetch(transaction, id)
        })
        .await
    }

    /// Revokes the agent's keys and its invitation: the connection is pending again, and keeps its name,
    /// tokens and texts. `None`: there is no such connection, or nobody has accepted it.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn revoke_agent(
        &self,
        id: ConnectionId,
        now: u64,
    ) -> Result<Option<ConnectionRecord>, StoreError> {
        self.run("revoke the agent's key", move |transaction| {
            let Some((_, keys)) = keys_of(transaction, id)? else {
                return Ok(None);
            };
            for key in [Some(keys.current), keys.next].into_iter().flatten() {
                end(transaction, id, key, KeyEnd::Revoked, now)?;
            }
            transaction.execute(
                "UPDATE connection SET accepted_at = NULL, agent_key = NULL, agent_software = NULL,
                   agent_project = NULL, agent_key_since = NULL, next_agent_key = NULL,
                   deactivated_there = 0, agent_revoked_at = ?2
                 WHERE id = ?1",
                params![id.as_bytes(), stored(now)],
            )?;
            // Whoever redeemed it must not do so again.
            transaction.execute(
                "UPDATE invitation SET redeemed_at = NULL, revoked_at = ?2
                 WHERE connection = ?1 AND revoked_at IS NULL",
                params![id.as_bytes(), stored(now)],
            )?;
            connections::fetch(transaction, id)
        })
        .await
    }
}

/// When the key came to its end, if it was this connection's once.
pub(super) fn ended_at(
    transaction: &Transaction<'_>,
    id: ConnectionId,
    key: PublicKey,
) -> rusqlite::Result<Option<u64>> {
    transaction
        .query_row(
            "SELECT ended_at FROM former_agent_key WHERE connection = ?1 AND key = ?2",
            params![id.as_bytes(), key.as_bytes()],
            |row| row.get(0),
        )
        .optional()
        .map(|at| at.map(loaded))
}

fn keys_of(
    transaction: &Transaction<'_>,
    id: ConnectionId,
) -> rusqlite::Result<Option<(ConnectionRecord, RelayKeys)>> {
    let Some(record) = connections::fetch(transaction, id)? else {
        return Ok(None);
    };
    let Some(accepted) = &record.accepted else {
        return Ok(None);
    };
    let former = former(transaction, id)?;
    let keys = RelayKeys {
        current: accepted.agent_key,
        next: accepted.next_key,
        former: former.into_iter().map(|former| former.key).collect(),
    };
    Ok(Some((record, keys)))
}

fn former(transaction: &Transaction<'_>, id: ConnectionId) -> rusqlite::Result<Vec<FormerKey>> {
    let mut statement = transaction.prepare_cached(
        "SELECT key, why, ended_at FROM former_agent_key WHERE connection = ?1 ORDER BY id DESC",
    )?;
    let rows = statement.query_map([id.as_bytes()], |row| {
        Ok(FormerKey {
            key: PublicKey::from_bytes(row.get("key")?),
            why: KeyEnd::of(&row.get::<_, String>("why")?),
            at: loaded(row.get("ended_at")?),
        })
    })?;
    rows.collect()
}

/// Notes the end of a key, and forgets those beyond [`FORMER_KEPT`].
fn end(
    transaction: &Transaction<'_>,
    id: ConnectionId,
    key: PublicKey,
    why: KeyEnd,
    now: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT OR REPLACE INTO former_agent_key (connection, key, why, ended_at)
         VALUES (?1, ?2, ?3, ?4)",
        params![id.as_bytes(), key.as_bytes(), why.word(), stored(now)],
    )?;
    transaction.execute(
        "DELETE FROM former_agent_key WHERE id IN (
           SELECT id FROM former_agent_key WHERE connection = ?1
           ORDER BY id DESC LIMIT -1 OFFSET ?2)",
        params![
            id.as_bytes(),
            i64::try_from(FORMER_KEPT).unwrap_or(i64::MAX)
        ],
    )?;
    Ok(())
}

impl KeyEnd {
    /// The column's word.
    const fn word(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
        }
    }

    /// The table allows no third word.
    fn of(word: &str) -> Self {
        if word == "revoked" {
            Self::Revoked
        } else {
            Self::Replaced
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::record::tests::pending;
    use crate::relay::record::{InvitationFate, State};
    use crate::relay::store::{Insertion, Redeemer, Redemption};

    const fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn redeemer(number: u8) -> Redeemer {
        Redeemer {
            agent_key: key(number),
            software: "agent/test".into(),
            project: None,
        }
    }

    /// A store with one connection, accepted by an agent with key 1 at 2000.
    async fn accepted(store: &Store) -> ConnectionId {
        let inserted = store.insert_connection(pending("a"), key(100), 5_000).await;
        let Ok(Insertion::Done(record)) = inserted else {
            panic!("{inserted:?}");
        };
        let redeemed = store.redeem(record.id, redeemer(1), 2_000, |_| true).await;
        assert!(matches!(redeemed, Ok(Redemption::Accepted { .. })));
        record.id
    }

    #[tokio::test]
    async fn a_key_is_accepted_beside_the_current_one_and_then_in_its_place_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = accepted(&store).await;
        for expected in [Announcement::Stored, Announcement::Known] {
            let rotation = store.announce_key(id, key(1), key(2)).await.unwrap();
            let Rotation::Accepted(announcement, record) = rotation else {
                panic!("{rotation:?}");
            };
            let accepted = record.accepted.unwrap();
            assert_eq!(announcement, expected);
            assert_eq!(
                (accepted.agent_key, accepted.next_key),
                (key(1), Some(key(2)))
            );
        }
        store.close().await;

        let store = Store::open(directory.path()).unwrap();
        for now in [3_000, 4_000] {
            let record = store.key_proved(id, key(2), now).await.unwrap().unwrap();
            let accepted = record.accepted.unwrap();
            assert_eq!((accepted.agent_key, accepted.next_key), (key(2), None));
            assert_eq!((accepted.at, accepted.key_since), (2_000, 3_000));
        }
        let former = FormerKey {
            key: key(1),
            why: KeyEnd::Replaced,
            at: 3_000,
        };
        assert_eq!(store.former_keys(id).await.unwrap(), [former]);
        let back = store.announce_key(id, key(2), key(1)).await.unwrap();
        assert_eq!(back, Rotation::Refused(RotateRefusal::Former));
    }

    #[tokio::test]
    async fn an_agent_that_redeems_again_is_known_by_its_next_key_too() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = accepted(&store).await;
        store.announce_key(id, key(1), key(2)).await.unwrap();
        let again = store
            .redeem(id, redeemer(2), 2_500, |_| true)
            .await
            .unwrap();
        assert!(matches!(again, Redemption::Accepted { repeated: true, .. }));
    }

    #[tokio::test]
    async fn a_revoked_agent_leaves_a_pending_connection_that_it_cannot_accept_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = accepted(&store).await;
        store.announce_key(id, key(1), key(2)).await.unwrap();
        let record = store.revoke_agent(id, 3_000).await.unwrap().unwrap();
        assert_eq!(record.state(), State::Pending);
        assert_eq!(record.agent_revoked_at, Some(3_000));
        let fate = record.invitation.unwrap().fate;
        assert_eq!(fate, InvitationFate::Revoked(3_000));
        assert_eq!(store.revoke_agent(id, 3_500).await.unwrap(), None);

        store.reissue(id, key(101), 4_000, 9_000).await.unwrap();
        let is_new = |one: &PublicKey| *one == key(101);
        for number in [1, 2] {
            let again = store.redeem(id, redeemer(number), 4_100, is_new).await;
            assert_eq!(again.unwrap(), Redemption::Revoked { at: 3_000 });
        }
        let other = store.redeem(id, redeemer(3), 4_200, is_new).await.unwrap();
        assert!(matches!(
            other,
            Redemption::Accepted {
                repeated: false,
                ..
            }
        ));
        let ends: Vec<_> = store.former_keys(id).await.unwrap();
        assert!(ends.iter().all(|one| one.why == KeyEnd::Revoked) && ends.len() == 2);
    }

    #[tokio::test]
    async fn former_keys_are_few() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = accepted(&store).await;
        for number in 2..40 {
            store
                .announce_key(id, key(number - 1), key(number))
                .await
                .unwrap();
            store.key_proved(id, key(number), 3_000).await.unwrap();
        }
        let former = store.former_keys(id).await.unwrap();
        assert_eq!(former.len(), FORMER_KEPT);
        assert_eq!(former.first().unwrap().key, key(38));
    }
}
