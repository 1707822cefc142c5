//! The rows of callers' tokens. A token's text never comes here, only its SHA-256.

use rusqlite::{Row, params};

use super::{Store, StoreError, loaded, parsed, stored};
use crate::identity::ConnectionId;
use crate::relay::record::{Scope, TokenRecord};

impl Store {
    /// Every token, oldest first.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.run("list tokens", |transaction| {
            let mut statement = transaction.prepare(
                "SELECT id, hash, label, scope, connection, created_at FROM token
                 ORDER BY created_at, id",
            )?;
            let rows = statement.query_map([], from_row)?;
            rows.collect()
        })
        .await
    }

    /// Stores a new token.
    ///
    /// # Errors
    /// As the disk's; also when the token is for a connection that is not there.
    pub async fn insert_token(&self, token: TokenRecord) -> Result<(), StoreError> {
        self.run("store the token", move |transaction| {
            let connection = match token.scope {
                Scope::Connection(id) => Some(id),
                Scope::AllConnections | Scope::Admin => None,
            };
            transaction.execute(
                "INSERT INTO token (id, hash, label, scope, connection, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    token.id,
                    token.hash,
                    token.label.as_str(),
                    token.scope.word(),
                    connection.as_ref().map(ConnectionId::as_bytes),
                    stored(token.created_at),
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Deletes a token. Whether there was one.
    ///
    /// # Errors
    /// As the disk's.
    pub async fn delete_token(&self, id: String) -> Result<bool, StoreError> {
        self.run("revoke the token", move |transaction| {
            let deleted = transaction.execute("DELETE FROM token WHERE id = ?1", [id])?;
            Ok(deleted > 0)
        })
        .await
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<TokenRecord> {
    let connection: Option<[u8; 16]> = row.get("connection")?;
    let scope: String = row.get("scope")?;
    // The table's checks allow these pairs and no other.
    let scope = match (scope.as_str(), connection) {
        (_, Some(id)) => Scope::Connection(ConnectionId::from_bytes(id)),
        ("admin", None) => Scope::Admin,
        (_, None) => Scope::AllConnections,
    };
    Ok(TokenRecord {
        id: row.get("id")?,
        hash: row.get("hash")?,
        label: parsed(row, "label")?,
        scope,
        created_at: loaded(row.get("created_at")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PublicKey;
    use crate::relay::record::Side;
    use crate::relay::record::tests::pending;

    fn token(id: &str, scope: Scope) -> TokenRecord {
        TokenRecord {
            id: id.into(),
            hash: crate::identity::random_bytes().unwrap(),
            label: "reports".parse().unwrap(),
            scope,
            created_at: 1_000,
        }
    }

    #[tokio::test]
    async fn tokens_are_listed_until_they_are_revoked() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let admin = token("tok_1", Scope::Admin);
        let all = token("tok_2", Scope::AllConnections);
        store.insert_token(admin.clone()).await.unwrap();
        store.insert_token(all.clone()).await.unwrap();
        assert_eq!(store.tokens().await.unwrap(), [admin, all.clone()]);
        assert!(store.delete_token("tok_1".into()).await.unwrap());
        assert!(!store.delete_token("tok_1".into()).await.unwrap());
        assert_eq!(store.tokens().await.unwrap(), [all]);
    }

    #[tokio::test]
    async fn a_removed_connections_tokens_go_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let record = pending("a");
        let id = record.id;
        let key = PublicKey::from_bytes([1; 32]);
        store.insert_connection(record, key, 5_000).await.unwrap();
        let only = token("tok_1", Scope::Connection(id));
        store.insert_token(only).await.unwrap();
        store
            .remove_connection(id, Side::Public, 2_000)
            .await
            .unwrap();
        assert!(store.tokens().await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_token_for_a_connection_that_is_not_there_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let id = ConnectionId::generate().unwrap();
        let orphan = token("tok_1", Scope::Connection(id));
        assert!(store.insert_token(orphan).await.is_err());
    }
}
