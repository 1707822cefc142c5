//! The rows of invitations, and redeeming: one transaction in which exactly one agent wins.
//!
//! An invitation is found by proof alone: the request names the connection, and its signature must
//! be by the one-time key of one of that connection's invitations. Whoever holds no code learns
//! nothing but "unknown" or "bad proof".

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{Store, StoreError, agent_keys, connections, loaded, stored};
use crate::identity::{ConnectionId, PublicKey};
use crate::relay::record::{ConnectionRecord, InvitationFate, InvitationRecord};

/// Invitations of one connection that are remembered, so that a revoked code is told "revoked". A
/// redemption checks one signature for each, so the number also bounds what a bad request costs.
const REMEMBERED: i64 = 16;

/// A new invitation's row.
pub(super) struct NewInvitation {
    /// The public half; the code holds the other.
    pub(super) one_time_key: PublicKey,
    /// In seconds since 1970.
    pub(super) issued_at: u64,
    /// In seconds since 1970.
    pub(super) expires_at: u64,
}

/// What an agent that redeems brings, once its message has been parsed.
#[derive(Debug, Clone)]
pub struct Redeemer {
    /// Its new identity for this connection.
    pub agent_key: PublicKey,
    /// Its program and version.
    pub software: String,
    /// Its project for incoming synchronisation.
    pub project: Option<String>,
}

/// What became of a redemption.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one per redemption, taken apart at once"
)]
pub enum Redemption {
    /// This agent has the connection: since now, or since it redeemed before.
    Accepted {
        /// The connection as it now is.
        record: ConnectionRecord,
        /// Whether the same agent had redeemed it before.
        repeated: bool,
    },
    /// No such connection.
    Unknown,
    /// Signed by none of the connection's one-time keys.
    BadProof,
    /// The connection has been removed.
    Removed,
    /// The code expired then.
    Expired {
        /// In seconds since 1970.
        at: u64,
    },
    /// The code was revoked or replaced then.
    Revoked {
        /// In seconds since 1970.
        at: u64,
    },
    /// Another agent redeemed it.
    Used {
        /// In seconds since 1970.
        at: u64,
        /// That agent.
        by: PublicKey,
    },
}

/// What became of a wish for a new code.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "taken apart at once")]
pub enum Reissue {
    /// The new invitation stands, the former is revoked.
    Done(ConnectionRecord),
    /// An agent has accepted already; a new code could not be redeemed.
    AlreadyAccepted,
    /// No such connection, or it has been removed.
    Unknown,
}

/// What became of a wish to revoke the open code.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "taken apart at once")]
pub enum Revocation {
    /// It is revoked, now or before.
    Done(ConnectionRecord),
    /// An agent has accepted already; revoking the code would not stop it.
    AlreadyAccepted,
    /// No such connection, or it has been removed.
    Unknown,
}

impl Store {
    /// Redeems, if `is_signed_by` finds the one-time key that made the request's proof. The same
    /// agent key gets the same answer for ever, also after the code expired.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn redeem(
        &self,
        id: ConnectionId,
        redeemer: Redeemer,
        now: u64,
        is_signed_by: impl Fn(&PublicKey) -> bool + Send + 'static,
    ) -> Result<Redemption, StoreError> {
        self.run("redeem the invitation", move |transaction| {
            let Some(record) = connections::fetch(transaction, id)? else {
                return Ok(Redemption::Unknown);
            };
            let candidates = remembered(transaction, id)?;
            let proven = candidates.iter().find(|one| is_signed_by(&one.key));
            let Some(invitation) = proven else {
                return Ok(Redemption::BadProof);
            };
            if record.removed.is_some() {
                return Ok(Redemption::Removed);
            }
            match (invitation.record.fate, record.accepted.as_ref()) {
                (InvitationFate::Revoked(at), _) => Ok(Redemption::Revoked { at }),
                (_, Some(accepted))
                    if [Some(accepted.agent_key), accepted.next_key]
                        .contains(&Some(redeemer.agent_key)) =>
                {
                    Ok(Redemption::Accepted {
                        record,
                        repeated: true,
                    })
                }
                (_, Some(accepted)) => Ok(Redemption::Used {
                    at: accepted.at,
                    by: accepted.agent_key,
                }),
                (InvitationFate::Open | InvitationFate::Redeemed(_), None)
                    if now >= invitation.record.expires_at =>
                {
                    Ok(Redemption::Expired {
                        at: invitation.record.expires_at,
                    })
                }
                (InvitationFate::Open | InvitationFate::Redeemed(_), None) => {
                    // A key that was given up does not come back, whatever code comes with it.
                    if let Some(at) = agent_keys::ended_at(transaction, id, redeemer.agent_key)? {
                        return Ok(Redemption::Revoked { at });
                    }
                    accept(transaction, id, invitation.row, &redeemer, now)?;
                    let record = connections::fetch(transaction, id)?.unwrap_or(record);
                    Ok(Redemption::Accepted {
                        record,
                        repeated: false,
                    })
                }
            }
        })
        .await
    }

    /// Replaces the open invitation by a new one; the former is revoked from now on.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn reissue(
        &self,
        id: ConnectionId,
        one_time_key: PublicKey,
        now: u64,
        expires_at: u64,
    ) -> Result<Reissue, StoreError> {
        self.run("reissue the invitation", move |transaction| {
            match connections::fetch(transaction, id)? {
                None => return Ok(Reissue::Unknown),
                Some(record) if record.accepted.is_some() => return Ok(Reissue::AlreadyAccepted),
                Some(record) if record.removed.is_some() => return Ok(Reissue::Unknown),
                Some(_) => revoke_open(transaction, id, now)?,
            }
            let invitation = NewInvitation {
                one_time_key,
                issued_at: now,
                expires_at,
            };
            insert(transaction, id, &invitation)?;
            let record = connections::fetch(transaction, id)?;
            Ok(record.map_or(Reissue::Unknown, Reissue::Done))
        })
        .await
    }

    /// Revokes the open invitation. The connection stays pending until a code is issued anew.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn revoke_invitation(
        &self,
        id: ConnectionId,
        now: u64,
    ) -> Result<Revocation, StoreError> {
        self.run("revoke the invitation", move |transaction| {
            match connections::fetch(transaction, id)? {
                None => return Ok(Revocation::Unknown),
                Some(record) if record.accepted.is_some() => {
                    return Ok(Revocation::AlreadyAccepted);
                }
                Some(record) if record.removed.is_some() => return Ok(Revocation::Unknown),
                Some(_) => revoke_open(transaction, id, now)?,
            }
            let record = connections::fetch(transaction, id)?;
            Ok(record.map_or(Revocation::Unknown, Revocation::Done))
        })
        .await
    }
}

/// Adds an invitation and forgets those beyond [`REMEMBERED`].
pub(super) fn insert(
    transaction: &Transaction<'_>,
    connection: ConnectionId,
    new: &NewInvitation,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO invitation (connection, one_time_key, issued_at, expires_at)
         VALUES (?1, ?2, ?3, ?4)",
        params![
            connection.as_bytes(),
            new.one_time_key.as_bytes(),
            stored(new.issued_at),
            stored(new.expires_at),
        ],
    )?;
    transaction.execute(
        "DELETE FROM invitation WHERE id IN (
           SELECT id FROM invitation WHERE connection = ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
        params![connection.as_bytes(), REMEMBERED],
    )?;
    Ok(())
}

/// The invitation that was issued last.
pub(super) fn newest(
    transaction: &Transaction<'_>,
    connection: ConnectionId,
) -> rusqlite::Result<Option<InvitationRecord>> {
    transaction
        .prepare_cached(&format!("{SELECT} LIMIT 1"))?
        .query_row([connection.as_bytes()], from_row)
        .map(|invitation| invitation.record)
        .optional()
}

struct StoredInvitation {
    row: i64,
    key: PublicKey,
    record: InvitationRecord,
}

const SELECT: &str = "SELECT id, one_time_key, issued_at, expires_at, redeemed_at, revoked_at
    FROM invitation WHERE connection = ?1 ORDER BY id DESC";

fn remembered(
    transaction: &Transaction<'_>,
    connection: ConnectionId,
) -> rusqlite::Result<Vec<StoredInvitation>> {
    let mut statement = transaction.prepare_cached(SELECT)?;
    let rows = statement.query_map([connection.as_bytes()], from_row)?;
    rows.collect()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<StoredInvitation> {
    let redeemed: Option<i64> = row.get("redeemed_at")?;
    let revoked: Option<i64> = row.get("revoked_at")?;
    let fate = match (redeemed, revoked) {
        (_, Some(at)) => InvitationFate::Revoked(loaded(at)),
        (Some(at), None) => InvitationFate::Redeemed(loaded(at)),
        (None, None) => InvitationFate::Open,
    };
    Ok(StoredInvitation {
        row: row.get("id")?,
        key: PublicKey::from_bytes(row.get("one_time_key")?),
        record: InvitationRecord {
            issued_at: loaded(row.get("issued_at")?),
            expires_at: loaded(row.get("expires_at")?),
            fate,
        },
    })
}

fn accept(
    transaction: &Transaction<'_>,
    connection: ConnectionId,
    invitation: i64,
    redeemer: &Redeemer,
    now: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE invitation SET redeemed_at = ?2 WHERE id = ?1",
        params![invitation, stored(now)],
    )?;
    transaction.execute(
        "UPDATE connection SET accepted_at = ?2, agent_key = ?3, agent_software = ?4,
           agent_project = ?5, agent_key_since = ?2 WHERE id = ?1",
        params![
            connection.as_bytes(),
            stored(now),
            redeemer.agent_key.as_bytes(),
            redeemer.software,
            redeemer.project,
        ],
    )?;
    Ok(())
}

fn revoke_open(
    transaction: &Transaction<'_>,
    connection: ConnectionId,
    now: u64,
) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE invitation SET revoked_at = ?2
         WHERE connection = ?1 AND revoked_at IS NULL AND redeemed_at IS NULL",
        params![connection.as_bytes(), stored(now)],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests;
