//! What can be done with connections and tokens: the one place where store, memory and the live link change together.
//!
//! Every change is on the disk before it is in memory, and in memory before it is answered; a live
//! link is woken and tells the far side. Changes are rare and are made one at a time, so that memory
//! never ends up with the older of two. A future that is dropped half-way would leave memory behind
//! the disk: whoever may go away runs it in a task of its own. Knows no HTTP.

mod agent_keys;
mod far_side;
mod redeem;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

pub use self::agent_keys::RotateError;
pub use self::redeem::RedeemError;
pub use self::tokens::TokenFor;

use super::clock;
use super::record::{ConnectionRecord, Deactivated, Side};
use super::registry::{Connection, Registry};
use super::store::{Insertion, Reissue, Revocation, Store, StoreError};
use super::tokens::Tokens;
use crate::identity::{ConnectionId, IdentityError, PublicKey, SigningKey};
use crate::invitation::{Invitation, Mode, RelayUrl, TlsPin};
use crate::name::{Name, NameError};
use crate::secret::Secret;

/// How this relay presents itself in invitations.
#[derive(Debug, Clone)]
pub struct PublicFace {
    /// Where agents find it.
    pub url: RelayUrl,
    /// Its TLS key, when it made its certificate itself.
    pub tls_pin: Option<TlsPin>,
}

/// Changes connections and tokens.
#[derive(Debug)]
pub struct Connections {
    store: Store,
    registry: Arc<Registry>,
    tokens: Arc<Tokens>,
    identity: Arc<SigningKey>,
    face: PublicFace,
    invitation_life: Duration,
    /// Held while a change goes from the store to memory.
    changing: Mutex<()>,
}

/// What an admin says about a new connection.
#[derive(Debug, Clone)]
pub struct Initiation {
    /// The public side's short name.
    pub local: Name,
    /// The private side's short name.
    pub remote: Name,
    /// The connection's name; without one, `<local>_to_<remote>`.
    pub name: Option<Name>,
    /// A sentence about it; may be empty.
    pub description: String,
    /// The public side's project for incoming synchronisation.
    pub project: Option<String>,
}

/// An invitation code, to be shown once.
#[derive(Debug)]
pub struct Issued {
    /// The connection that it is for.
    pub connection: Arc<Connection>,
    /// The code. Whoever has it can accept.
    pub code: Secret<String>,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No connection has this name.
    #[error("there is no connection named {0:?}")]
    UnknownConnection(String),
    /// No token has this id.
    #[error("there is no token with the id {0:?}")]
    UnknownToken(String),
    /// Another connection has the name.
    #[error("there is already a connection named {0}")]
    NameTaken(Name),
    /// The two short names make no name for the connection.
    #[error("the default name of the connection cannot be used")]
    DefaultName(#[source] NameError),
    /// An agent has accepted; the invitation is past.
    #[error("the connection {name} was accepted at {}, by agent {agent}", clock::rfc3339(*.at))]
    AlreadyAccepted {
        /// The connection.
        name: Name,
        /// When, in seconds since 1970.
        at: u64,
        /// The agent key's fingerprint.
        agent: String,
    },
    /// Nobody has accepted; there is no agent to be revoked.
    #[error("nobody has accepted the connection {0}")]
    NotAccepted(Name),
    /// The far side removed the connection; only removing it here is left.
    #[error("the far side has removed the connection {0}")]
    RemovedByFarSide(Name),
    /// The relay's own trouble.
    #[error("the change could not be stored")]
    Store(#[source] StoreError),
    /// The machine gives no random bytes.
    #[error("no key could be made")]
    Identity(#[source] IdentityError),
}

impl Connections {
    /// Over this store and what it filled.
    #[must_use]
    pub fn new(
        store: Store,
        registry: Arc<Registry>,
        tokens: Arc<Tokens>,
        identity: Arc<SigningKey>,
        face: PublicFace,
        invitation_life: Duration,
    ) -> Self {
        Self {
            store,
            registry,
            tokens,
            identity,
            face,
            invitation_life,
            changing: Mutex::new(()),
        }
    }

    /// Creates a pending connection and its first invitation code.
    ///
    /// # Errors
    /// [`ChangeError::NameTaken`], [`ChangeError::DefaultName`], or the relay's own trouble.
    pub async fn initiate(&self, initiation: Initiation) -> Result<Issued, ChangeError> {
        let name = match initiation.name {
            Some(name) => name,
            None => Name::of_connection(&initiation.local, &initiation.remote)
                .map_err(ChangeError::DefaultName)?,
        };
        let now = clock::now();
        let record = ConnectionRecord {
            id: ConnectionId::generate().map_err(ChangeError::Identity)?,
            name,
            local: initiation.local,
            remote: initiation.remote,
            description: initiation.description,
            project: initiation.project,
            created_at: now,
            invitation: None,
            accepted: None,
            deactivated: Deactivated::default(),
            last_seen_at: None,
            removed: None,
            agent_revoked_at: None,
        };
        let (expires, one_time_key, code) = self.new_code(&record, now)?;
        let name = record.name.clone();
        let _changing = self.changing.lock().await;
        let insertion = self
            .store
            .insert_connection(record, one_time_key, expires)
            .await
            .map_err(ChangeError::Store)?;
        match insertion {
            Insertion::NameTaken => Err(ChangeError::NameTaken(name)),
            Insertion::Done(record) => {
                tracing::info!(connection = %name, id = %record.id, "connection initiated");
                let connection = self.registry.put(record);
                connection
                    .map(|connection| Issued { connection, code })
                    .ok_or_else(|| ChangeError::UnknownConnection(name.into()))
            }
        }
    }

    /// Issues a new code for a pending connection; the former one is revoked. An accepted connection
    /// gets none, for a second agent must not take the first one's place unnoticed.
    ///
    /// # Errors
    /// [`ChangeError::UnknownConnection`], [`ChangeError::AlreadyAccepted`],
    /// [`ChangeError::RemovedByFarSide`], or the relay's own trouble.
    pub async fn reissue(&self, name: &str) -> Result<Issued, ChangeError> {
        let _changing = self.changing.lock().await;
        let connection = self.usable(name)?;
        let now = clock::now();
        let (expires, one_time_key, code) = self.new_code(&connection.record(), now)?;
        let reissue = self
            .store
            .reissue(connection.id(), one_time_key, now, expires)
            .await
            .map_err(ChangeError::Store)?;
        match reissue {
            Reissue::Done(record) => {
                tracing::info!(
                    connection = name,
                    "invitation reissued; the former is revoked"
                );
                self.registry.put(record);
                Ok(Issued { connection, code })
            }
            Reissue::AlreadyAccepted => Err(already_accepted(&connection)),
            Reissue::Unknown => Err(ChangeError::UnknownConnection(name.to_owned())),
        }
    }

    /// Revokes a pending connection's code.
    ///
    /// # Errors
    /// As [`reissue`](Self::reissue).
    pub async fn revoke_invitation(&self, name: &str) -> Result<Arc<Connection>, ChangeError> {
        let _changing = self.changing.lock().await;
        let connection = self.usable(name)?;
        let revocation = self
            .store
            .revoke_invitation(connection.id(), clock::now())
            .await
            .map_err(ChangeError::Store)?;
        match revocation {
            Revocation::Done(record) => {
                tracing::info!(connection = name, "invitation revoked");
                self.registry.put(record);
                Ok(connection)
            }
            Revocation::AlreadyAccepted => Err(already_accepted(&connection)),
            Revocation::Unknown => Err(ChangeError::UnknownConnection(name.to_owned())),
        }
    }

    /// Sets or clears this side's flag, and tells the far side.
    ///
    /// # Errors
    /// [`ChangeError::UnknownConnection`], [`ChangeError::RemovedByFarSide`], or the relay's own trouble.
    pub async fn set_deactivated(
        &self,
        name: &str,
        deactivated: bool,
    ) -> Result<Arc<Connection>, ChangeError> {
        let _changing = self.changing.lock().await;
        let connection = self.usable(name)?;
        self.store_flag(&connection, Side::Public, deactivated)
            .await?;
        tracing::info!(connection = name, deactivated, "state changed by this side");
        Ok(connection)
    }

    /// Removes a connection here, with its tokens, and tells the far side: now if it is linked, else
    /// when it comes back.
    ///
    /// # Errors
    /// [`ChangeError::UnknownConnection`], or the relay's own trouble.
    pub async fn remove(&self, name: &str) -> Result<Arc<Connection>, ChangeError> {
        let _changing = self.changing.lock().await;
        let connection = self.known(name)?;
        let record = self
            .store
            .remove_connection(connection.id(), Side::Public, clock::now())
            .await
            .map_err(ChangeError::Store)?;
        self.tokens.forget_connection(connection.id());
        if let Some(record) = record {
            self.registry.put(record);
        }
        tracing::info!(connection = name, "connection removed by this side");
        Ok(connection)
    }

    async fn store_flag(
        &self,
        connection: &Arc<Connection>,
        side: Side,
        deactivated: bool,
    ) -> Result<(), ChangeError> {
        let record = self
            .store
            .set_deactivated(connection.id(), side, deactivated)
            .await
            .map_err(ChangeError::Store)?;
        if let Some(record) = record {
            self.registry.put(record);
        }
        Ok(())
    }

    fn new_code(
        &self,
        record: &ConnectionRecord,
        now: u64,
    ) -> Result<(u64, PublicKey, Secret<String>), ChangeError> {
        let expires = now.saturating_add(self.invitation_life.as_secs());
        let invitation = Invitation {
            relay_url: self.face.url.clone(),
            connection: record.id,
            one_time_key: SigningKey::generate().map_err(ChangeError::Identity)?,
            relay_identity: self.identity.public_key(),
            tls_pin: self.face.tls_pin,
            name: record.name.clone(),
            local: record.local.clone(),
            remote: record.remote.clone(),
            mode: Mode::Script,
            expires,
        };
        let public = invitation.one_time_key.public_key();
        Ok((expires, public, invitation.encode()))
    }

    fn known(&self, name: &str) -> Result<Arc<Connection>, ChangeError> {
        self.registry
            .find(name)
            .ok_or_else(|| ChangeError::UnknownConnection(name.to_owned()))
    }

    fn usable(&self, name: &str) -> Result<Arc<Connection>, ChangeError> {
        let connection = self.known(name)?;
        if connection.record().removed.is_some() {
            return Err(ChangeError::RemovedByFarSide(connection.name().clone()));
        }
        Ok(connection)
    }
}

fn already_accepted(connection: &Connection) -> ChangeError {
    let record = connection.record();
    let accepted = record.accepted.as_ref();
    ChangeError::AlreadyAccepted {
        name: record.name.clone(),
        at: accepted.map_or(0, |accepted| accepted.at),
        agent: accepted.map_or_else(String::new, |accepted| accepted.agent_key.fingerprint()),
    }
}

#[cfg(test)]
mod tests;
