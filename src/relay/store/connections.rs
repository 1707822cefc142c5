//! The rows of connections: made once, changed flag by flag, turned into a tombstone.
//!
//! Every change returns the record as it now is, read in the same transaction.

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::invitations::NewInvitation;
use super::{Store, StoreError, TOMBSTONES_KEPT, invitations, loaded, parsed, stored};
use crate::identity::{ConnectionId, PublicKey};
use crate::relay::record::{Accepted, ConnectionRecord, Deactivated, Removed, Side};

/// What became of a new connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one per initiation, taken apart at once"
)]
pub enum Insertion {
    /// It is stored, with its invitation.
    Done(ConnectionRecord),
    /// A listed connection has this name.
    NameTaken,
}

impl Store {
    /// Every connection, tombstones too, oldest first.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn connections(&self) -> Result<Vec<ConnectionRecord>, StoreError> {
        self.run("list connections", |transaction| {
            let mut statement =
                transaction.prepare(&format!("{SELECT} ORDER BY created_at, name"))?;
            let rows = statement.query_map([], from_row)?;
            let mut records = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            for record in &mut records {
                record.invitation = invitations::newest(transaction, record.id)?;
            }
            Ok(records)
        })
        .await
    }

    /// Stores a new connection together with its first invitation, given as the public half of its
    /// one-time key and its expiry.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn insert_connection(
        &self,
        record: ConnectionRecord,
        one_time_key: PublicKey,
        expires_at: u64,
    ) -> Result<Insertion, StoreError> {
        self.run("store the connection", move |transaction| {
            let taken = transaction
                .query_row(
                    "SELECT 1 FROM connection WHERE name = ?1 AND removed_here_at IS NULL",
                    [record.name.as_str()],
                    |_| Ok(()),
                )
                .optional()?;
            if taken.is_some() {
                return Ok(Insertion::NameTaken);
            }
            transaction.execute(
                "INSERT INTO connection
                   (id, name, local_name, remote_name, description, project, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    record.id.as_bytes(),
                    record.name.as_str(),
                    record.local.as_str(),
                    record.remote.as_str(),
                    record.description,
                    record.project,
                    stored(record.created_at),
                ],
            )?;
            let invitation = NewInvitation {
                one_time_key,
                issued_at: record.created_at,
                expires_at,
            };
            invitations::insert(transaction, record.id, &invitation)?;
            fetch(transaction, record.id).map(|stored| Insertion::Done(stored.unwrap_or(record)))
        })
        .await
    }

    /// Sets one side's flag. `None`: there is no such connection.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn set_deactivated(
        &self,
        id: ConnectionId,
        side: Side,
        deactivated: bool,
    ) -> Result<Option<ConnectionRecord>, StoreError> {
        let sql = match side {
            Side::Public => "UPDATE connection SET deactivated_here = ?2 WHERE id = ?1",
            Side::Private => "UPDATE connection SET deactivated_there = ?2 WHERE id = ?1",
        };
        self.run("change the connection's state", move |transaction| {
            transaction.execute(sql, params![id.as_bytes(), deactivated])?;
            fetch(transaction, id)
        })
        .await
    }

    /// Removes the connection: by this side, it becomes a tombstone without its description,
    /// projects and tokens; by the far side, it stays listed as removed. Repeating changes nothing.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn remove_connection(
        &self,
        id: ConnectionId,
        by: Side,
        now: u64,
    ) -> Result<Option<ConnectionRecord>, StoreError> {
        self.run("remove the connection", move |transaction| {
            let key = id.as_bytes();
            match by {
                Side::Public => {
                    transaction.execute(
                        "UPDATE connection SET removed_here_at = ?2, description = '',
                           project = NULL, agent_project = NULL
                         WHERE id = ?1 AND removed_here_at IS NULL",
                        params![key, stored(now)],
                    )?;
                    transaction.execute("DELETE FROM token WHERE connection = ?1", [key])?;
                    forget_old_tombstones(transaction)?;
                }
                Side::Private => {
                    transaction.execute(
                        "UPDATE connection SET removed_there_at = ?2
                         WHERE id = ?1 AND removed_there_at IS NULL",
                        params![key, stored(now)],
                    )?;
                }
            }
            fetch(transaction, id)
        })
        .await
    }

    /// Notes when agents were last linked, all in one transaction.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn set_last_seen(&self, seen: Vec<(ConnectionId, u64)>) -> Result<(), StoreError> {
        self.run("note when agents were last seen", move |transaction| {
            let mut statement =
                transaction.prepare("UPDATE connection SET last_seen_at = ?2 WHERE id = ?1")?;
            for (id, at) in seen {
                statement.execute(params![id.as_bytes(), stored(at)])?;
            }
            Ok(())
        })
        .await
    }
}

const SELECT: &str = "SELECT id, name, local_name, remote_name, description, project, created_at,
    accepted_at, agent_key, agent_software, agent_project, deactivated_here, deactivated_there,
    last_seen_at, removed_here_at, removed_there_at, agent_key_since, next_agent_key,
    agent_revoked_at FROM connection";

/// The record as the transaction sees it.
pub(super) fn fetch(
    transaction: &Transaction<'_>,
    id: ConnectionId,
) -> rusqlite::Result<Option<ConnectionRecord>> {
    let record = transaction
        .query_row(
            &format!("{SELECT} WHERE id = ?1"),
            [id.as_bytes()],
            from_row,
        )
        .optional()?;
    let Some(mut record) = record else {
        return Ok(None);
    };
    record.invitation = invitations::newest(transaction, id)?;
    Ok(Some(record))
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<ConnectionRecord> {
    Ok(ConnectionRecord {
        id: ConnectionId::from_bytes(row.get("id")?),
        name: parsed(row, "name")?,
        local: parsed(row, "local_name")?,
        remote: parsed(row, "remote_name")?,
        description: row.get("description")?,
        project: row.get("project")?,
        created_at: loaded(row.get("created_at")?),
        invitation: None,
        accepted: accepted(row)?,
        deactivated: Deactivated {
            here: row.get("deactivated_here")?,
            there: row.get("deactivated_there")?,
        },
        last_seen_at: row.get::<_, Option<i64>>("last_seen_at")?.map(loaded),
        removed: removed(row)?,
        agent_revoked_at: row.get::<_, Option<i64>>("agent_revoked_at")?.map(loaded),
    })
}

fn accepted(row: &Row<'_>) -> rusqlite::Result<Option<Accepted>> {
    let Some(at) = row.get::<_, Option<i64>>("accepted_at")? else {
        return Ok(None);
    };
    Ok(Some(Accepted {
        at: loaded(at),
        agent_key: PublicKey::from_bytes(row.get("agent_key")?),
        key_since: row
            .get::<_, Option<i64>>("agent_key_since")?
            .map_or_else(|| loaded(at), loaded),
        next_key: row
            .get::<_, Option<[u8; 32]>>("next_agent_key")?
            .map(PublicKey::from_bytes),
        software: row.get("agent_software")?,
        project: row.get("agent_project")?,
    }))
}

/// Removed here outweighs removed there: then nobody needs to be told any more.
fn removed(row: &Row<'_>) -> rusqlite::Result<Option<Removed>> {
    let here: Option<i64> = row.get("removed_here_at")?;
    let there: Option<i64> = row.get("removed_there_at")?;
    let removed = |by| move |at| Removed { at: loaded(at), by };
    Ok(here
        .map(removed(Side::Public))
        .or_else(|| there.map(removed(Side::Private))))
}

fn forget_old_tombstones(transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
    transaction.execute(
        "DELETE FROM connection WHERE id IN (
           SELECT id FROM connection WHERE removed_here_at IS NOT NULL
           ORDER BY removed_here_at DESC LIMIT -1 OFFSET ?1)",
        [i64::try_from(TOMBSTONES_KEPT).unwrap_or(i64::MAX)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::record::tests::pending;
    use crate::relay::record::{InvitationFate, State};

    async fn inserted(store: &Store, name: &str) -> ConnectionRecord {
        let record = pending(name);
        let key = PublicKey::from_bytes(crate::identity::random_bytes().unwrap());
        match store.insert_connection(record, key, 5_000).await.unwrap() {
            Insertion::Done(record) => record,
            Insertion::NameTaken => panic!("{name} is taken"),
        }
    }

    #[tokio::test]
    async fn a_connection_is_there_again_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let record = ConnectionRecord {
            description: "tickets of both service desks".into(),
            project: Some("DESK".into()),
            ..pending("acme_to_widgets")
        };
        let key = PublicKey::from_bytes([1; 32]);
        let insertion = store.insert_connection(record, key, 5_000).await.unwrap();
        let Insertion::Done(before) = insertion else {
            panic!("the name is free");
        };
        assert_eq!(before.invitation.unwrap().fate, InvitationFate::Open);
        let seen = vec![(before.id, 3_000)];
        store.set_last_seen(seen).await.unwrap();

        store.close().await;
        let store = Store::open(directory.path()).unwrap();
        let after = ConnectionRecord {
            last_seen_at: Some(3_000),
            ..before
        };
        assert_eq!(store.connections().await.unwrap(), [after]);
    }

    #[tokio::test]
    async fn a_name_is_given_once_and_again_after_removal() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let first = inserted(&store, "a").await;
        let again = store
            .insert_connection(pending("a"), PublicKey::from_bytes([2; 32]), 5_000)
            .await;
        assert_eq!(again.unwrap(), Insertion::NameTaken);

        let removed = store
            .remove_connection(first.id, Side::Public, 4_000)
            .await
            .unwrap()
            .unwrap();
        assert!(removed.is_tombstone());
        let second = inserted(&store, "a").await;
        assert_ne!(first.id, second.id);
        assert_eq!(store.connections().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn each_side_has_its_own_flag() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = inserted(&store, "a").await.id;
        let set = async |side, flag| {
            let record = store.set_deactivated(id, side, flag).await.unwrap();
            record.unwrap().deactivated
        };
        set(Side::Public, true).await;
        let both = set(Side::Private, true).await;
        assert!(both.here && both.there);
        let one = set(Side::Public, false).await;
        assert!(!one.here && one.there);
    }

    #[tokio::test]
    async fn what_the_far_side_removed_stays_listed_until_it_is_removed_here() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = inserted(&store, "a").await.id;
        let remove = async |side, now| {
            let record = store.remove_connection(id, side, now).await.unwrap();
            record.unwrap()
        };
        let there = remove(Side::Private, 4_000).await;
        assert!(!there.is_tombstone());
        assert_eq!(there.state(), State::Removed);
        let here = remove(Side::Public, 5_000).await;
        assert!(here.is_tombstone());
        assert_eq!(remove(Side::Public, 6_000).await.removed, here.removed);
    }

    #[tokio::test]
    async fn an_unknown_connection_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = ConnectionId::generate().unwrap();
        let change = store.set_deactivated(id, Side::Public, true).await;
        assert_eq!(change.unwrap(), None);
    }
}
