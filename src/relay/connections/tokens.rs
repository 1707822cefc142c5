//! Making and revoking callers' tokens.

use super::{ChangeError, Connections};
use crate::name::Name;
use crate::relay::clock;
use crate::relay::record::{Scope, TokenRecord};
use crate::relay::tokens;
use crate::secret::Secret;

/// For whom a token is made.
#[derive(Debug, Clone)]
pub enum TokenFor {
    /// Callers of one connection.
    Connection(String),
    /// Callers of every connection.
    AllConnections,
    /// Management.
    Admin,
}

impl Connections {
    /// Makes a token; its text is to be shown once.
    ///
    /// # Errors
    /// [`ChangeError::UnknownConnection`], or the relay's own trouble.
    pub async fn create_token(
        &self,
        owner: TokenFor,
        label: Option<Name>,
    ) -> Result<(TokenRecord, Secret<String>), ChangeError> {
        let _changing = self.changing.lock().await;
        let (scope, default_label) = match &owner {
            TokenFor::Connection(name) => {
                let connection = self.known(name)?;
                let scope = Scope::Connection(connection.id());
                (scope, connection.name().clone())
            }
            TokenFor::AllConnections => (Scope::AllConnections, word("all")?),
            TokenFor::Admin => (Scope::Admin, word("admin")?),
        };
        let label = label.unwrap_or(default_label);
        let (record, text) =
            tokens::create(label, scope, clock::now()).map_err(ChangeError::Identity)?;
        self.store
            .insert_token(record.clone())
            .await
            .map_err(ChangeError::Store)?;
        self.tokens.insert(record.clone());
        tracing::info!(id = record.id, scope = record.scope.word(), "token created");
        Ok((record, text))
    }

    /// Revokes a token; calls under way finish.
    ///
    /// # Errors
    /// [`ChangeError::UnknownToken`], or the relay's own trouble.
    pub async fn revoke_token(&self, id: &str) -> Result<(), ChangeError> {
        let _changing = self.changing.lock().await;
        let deleted = self
            .store
            .delete_token(id.to_owned())
            .await
            .map_err(ChangeError::Store)?;
        if !deleted {
            return Err(ChangeError::UnknownToken(id.to_owned()));
        }
        self.tokens.forget(id);
        tracing::info!(id, "token revoked");
        Ok(())
    }
}

fn word(text: &str) -> Result<Name, ChangeError> {
    text.parse().map_err(ChangeError::DefaultName)
}
