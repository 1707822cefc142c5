//! Callers' tokens: how they are made, and who a presented one belongs to.
//!
//! A token is `rt_` and base64url of 32 random bytes. It is shown once; from then on only its SHA-256
//! is known, which is enough to recognise it and useless to whoever steals it. A plain hash will do,
//! for 256 random bits cannot be guessed. Recognising one takes no disk.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};

use super::record::{Scope, TokenHash, TokenRecord};
use crate::identity::{self, ConnectionId, IdentityError};
use crate::name::Name;
use crate::secret::Secret;

/// What every token begins with, so that people, scanners and the relay know one when they see it.
pub const PREFIX: &str = "rt_";
/// Random bytes in a token.
const RANDOM_BYTES: usize = 32;

/// Makes a token: the record to store, and the text to show once.
///
/// # Errors
/// [`IdentityError::KeyGeneration`] when the machine gives no random bytes.
pub fn create(
    label: Name,
    scope: Scope,
    now: u64,
) -> Result<(TokenRecord, Secret<String>), IdentityError> {
    let random = Secret::new(identity::random_bytes::<RANDOM_BYTES>()?);
    let text = Secret::new(format!("{PREFIX}{}", identity::to_base64(random.expose())));
    let record = TokenRecord {
        id: format!(
            "tok_{:012x}",
            u64::from_be_bytes(identity::random_bytes()?) >> 16
        ),
        hash: hash(text.expose()),
        label,
        scope,
        created_at: now,
    };
    Ok((record, text))
}

fn hash(text: &str) -> TokenHash {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

/// Somebody who presented a good token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What the token is called; the agent sees it.
    pub label: Name,
    /// What the token opens.
    pub scope: Scope,
}

/// All tokens, in memory.
#[derive(Debug, Default)]
pub struct Tokens {
    by_hash: RwLock<HashMap<TokenHash, Entry>>,
}

#[derive(Debug)]
struct Entry {
    record: TokenRecord,
    caller: Arc<Caller>,
}

impl Tokens {
    /// The tokens that the store holds.
    #[must_use]
    pub fn new(records: Vec<TokenRecord>) -> Self {
        let tokens = Self::default();
        for record in records {
            tokens.insert(record);
        }
        tokens
    }

    /// Whose token this is; `None` when it is nobody's, or no token at all.
    #[must_use]
    pub fn authenticate(&self, token: &str) -> Option<Arc<Caller>> {
        if !token.starts_with(PREFIX) {
            return None;
        }
        let hash = hash(token);
        let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        by_hash.get(&hash).map(|entry| Arc::clone(&entry.caller))
    }

    /// Knows the token from now on.
    pub fn insert(&self, record: TokenRecord) {
        let caller = Arc::new(Caller {
            label: record.label.clone(),
            scope: record.scope,
        });
        self.write(|by_hash| by_hash.insert(record.hash, Entry { record, caller }));
    }

    /// Knows the token no more.
    pub fn forget(&self, id: &str) {
        self.write(|by_hash| by_hash.retain(|_, entry| entry.record.id != id));
    }

    /// Knows these tokens from now on, and no others.
    pub fn replace(&self, records: Vec<TokenRecord>) {
        let others = Self::new(records);
        let others = others.by_hash.into_inner();
        self.write(|by_hash| *by_hash = others.unwrap_or_else(PoisonError::into_inner));
    }

    /// Knows no token of this connection any more.
    pub fn forget_connection(&self, connection: ConnectionId) {
        let gone = Scope::Connection(connection);
        self.write(|by_hash| by_hash.retain(|_, entry| entry.record.scope != gone));
    }

    /// All tokens, oldest first, for listing.
    #[must_use]
    pub fn list(&self) -> Vec<TokenRecord> {
        let by_hash = self.by_hash.read().unwrap_or_else(PoisonError::into_inner);
        let mut records: Vec<_> = by_hash.values().map(|entry| entry.record.clone()).collect();
        drop(by_hash);
        records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        records
    }

    fn write<T>(&self, change: impl FnOnce(&mut HashMap<TokenHash, Entry>) -> T) -> T {
        change(&mut self.by_hash.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(scope: Scope) -> (TokenRecord, Secret<String>) {
        create("reports".parse().unwrap(), scope, 1_000).unwrap()
    }

    #[test]
    fn a_token_is_recognised_until_it_is_revoked() {
        let (record, text) = made(Scope::AllConnections);
        let id = record.id.clone();
        let tokens = Tokens::new(vec![record]);
        let caller = tokens.authenticate(text.expose()).unwrap();
        assert_eq!(caller.label.as_str(), "reports");
        tokens.forget(&id);
        assert_eq!(tokens.authenticate(text.expose()), None);
    }

    #[test]
    fn what_is_not_exactly_a_token_is_nobodys() {
        let (record, text) = made(Scope::Admin);
        let tokens = Tokens::new(vec![record]);
        let text = text.expose();
        for wrong in [
            "",
            "rt_",
            &text[3..],
            &text[..text.len() - 1],
            &format!("{text}A"),
        ] {
            assert_eq!(tokens.authenticate(wrong), None);
        }
    }

    #[test]
    fn a_removed_connection_takes_its_tokens_along_and_no_others() {
        let connection = ConnectionId::generate().unwrap();
        let (one, _) = made(Scope::Connection(connection));
        let (other, _) = made(Scope::Connection(ConnectionId::generate().unwrap()));
        let tokens = Tokens::new(vec![one, other.clone()]);
        tokens.forget_connection(connection);
        assert_eq!(tokens.list(), [other]);
    }

    #[test]
    fn a_token_and_its_id_have_their_forms() {
        let (record, text) = made(Scope::Admin);
        assert_eq!(text.expose().len(), PREFIX.len() + 43);
        assert_eq!(record.id.len(), 16);
    }
}
