//! The keys of agents: a new one follows, proves itself, or all are revoked.

use std::sync::Arc;

use super::{ChangeError, Connections};
use crate::error_chain::chain;
use crate::identity::{ConnectionId, PublicKey};
use crate::protocol::rotation::{Announcement, RotateMessage, RotateRefusal};
use crate::relay::clock;
use crate::relay::record::ConnectionRecord;
use crate::relay::registry::Connection;
use crate::relay::store::{FormerKey, Rotation};

/// Why an agent's new key is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// By the rules of rotation.
    #[error("the new key is not accepted")]
    Refused(#[source] RotateRefusal),
    /// The connection was removed, or its agent revoked, meanwhile.
    #[error("the connection has no agent any more")]
    NoAgent,
    /// The relay's own trouble.
    #[error("the new key could not be stored")]
    Failed(#[source] ChangeError),
}

impl Connections {
    /// The agent names a new key, in a message whose signatures have been checked. It is accepted beside the
    /// one in use, until it proves itself.
    ///
    /// # Errors
    /// [`RotateError`]; the keys are then as they were.
    pub async fn rotate(
        &self,
        connection: &Arc<Connection>,
        message: &RotateMessage,
    ) -> Result<(), RotateError> {
        let _changing = self.changing.lock().await;
        let rotation = self
            .store
            .announce_key(connection.id(), message.current, message.next)
            .await
            .map_err(|error| RotateError::Failed(ChangeError::Store(error)))?;
        match rotation {
            Rotation::Accepted(announcement, record) => {
                if announcement == Announcement::Stored {
                    let next = message.next.fingerprint();
                    tracing::info!(connection = %connection.name(), next, "the agent has a new key, accepted from now on");
                }
                self.registry.put(record);
                Ok(())
            }
            Rotation::Refused(refusal) => Err(RotateError::Refused(refusal)),
            Rotation::Unknown => Err(RotateError::NoAgent),
        }
    }

    /// The agent proved one of its keys. What cannot be stored is stored at the next proof: until then both
    /// keys are accepted, so that a full disk keeps no agent out.
    pub async fn key_proved(&self, connection: &Arc<Connection>, key: PublicKey) {
        let is_next = |record: &ConnectionRecord| {
            let accepted = record.accepted.as_ref();
            accepted.is_some_and(|accepted| accepted.next_key == Some(key))
        };
        if !is_next(&connection.record()) {
            return;
        }
        let _changing = self.changing.lock().await;
        let stored = self.store.key_proved(connection.id(), key, clock::now());
        match stored.await {
            Ok(Some(record)) => {
                tracing::info!(connection = %connection.name(), key = key.fingerprint(), "the agent's new key has proved itself; the former is accepted no more");
                self.registry.put(record);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(connection = %connection.name(), error = %chain(&error), "both keys of the agent stay accepted, because it could not be stored that the new one has proved itself");
            }
        }
    }

    /// Keys that were the connection's and are accepted no more, newest first; none where they cannot be read.
    pub async fn former_keys(&self, connection: &Connection) -> Vec<FormerKey> {
        let former = self.store.former_keys(connection.id()).await;
        former.unwrap_or_else(|error| {
            tracing::error!(connection = %connection.name(), error = %chain(&error), "the former keys could not be read");
            Vec::new()
        })
    }

    /// Revokes the agent: its link is cut, its keys are accepted no more, and a new invitation has to be issued.
    /// Name, tokens and texts of the connection stay.
    ///
    /// # Errors
    /// [`ChangeError::UnknownConnection`], [`ChangeError::NotAccepted`], [`ChangeError::RemovedByFarSide`], or
    /// the relay's own trouble.
    pub async fn revoke_agent(&self, name: &str) -> Result<Arc<Connection>, ChangeError> {
        let _changing = self.changing.lock().await;
        let connection = self.usable(name)?;
        let revoked = self.store.revoke_agent(connection.id(), clock::now()).await;
        let Some(record) = revoked.map_err(ChangeError::Store)? else {
            return Err(ChangeError::NotAccepted(connection.name().clone()));
        };
        tracing::warn!(connection = name, "agent revoked; its link is cut");
        self.registry.put(record);
        Ok(connection)
    }

    /// Takes over how one connection is stored now, where another relay may have changed it.
    pub async fn look_again(&self, id: ConnectionId) {
        let _changing = self.changing.lock().await;
        match self.store.connection(id).await {
            Ok(Some(record)) => self.take_over(record),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%id, error = %chain(&error), "the connection could not be read again");
            }
        }
    }

    /// Takes over everything that another relay over the same store has changed.
    ///
    /// # Errors
    /// The relay's own trouble.
    pub async fn catch_up(&self) -> Result<(), ChangeError> {
        let _changing = self.changing.lock().await;
        let records = self.store.connections().await.map_err(ChangeError::Store)?;
        let tokens = self.store.tokens().await.map_err(ChangeError::Store)?;
        self.tokens.replace(tokens);
        for record in records {
            self.take_over(record);
        }
        Ok(())
    }

    /// What is the same but for when its agent was seen is left alone: every change wakes a link.
    fn take_over(&self, record: ConnectionRecord) {
        let known = self.registry.find_by_id(record.id);
        let is_same = known.is_some_and(|known| {
            let known = known.record();
            let seen = ConnectionRecord {
                last_seen_at: known.last_seen_at,
                ..record.clone()
            };
            *known == seen
        });
        if !is_same {
            self.registry.put(record);
        }
    }
}
