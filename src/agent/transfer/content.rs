//! What is in an export: records and keys, as JSON.
//!
//! ```json
//! { "version": 1, "made_at": 1790000000, "connections": [
//!   { "record": { … as in the state directory … },
//!     "keys": { "current": { "seed": "…", "made_at": 1790000000 }, "next": null, "previous": null } } ] }
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TransferError;
use crate::agent::state::{
    self, ConnectionRecord, HeldKey, HeldKeys, RecordError, Standing, StateDirectory, StateError,
};
use crate::identity::{ConnectionId, IdentityError, SigningKey, from_base64, to_base64};
use crate::name::Name;
use crate::secret::Secret;

/// The version that is written and read.
const VERSION: u64 = 1;

/// Connections with their keys.
#[derive(Debug)]
pub struct Content {
    made_at: u64,
    connections: Vec<(ConnectionRecord, HeldKeys)>,
}

/// Why what is in an export cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Not JSON, or not with the members of its version.
    #[error("it is damaged")]
    Damaged(#[source] serde_json::Error),
    /// A later program made it.
    #[error("it has version {0}, and this program reads version {VERSION}")]
    UnsupportedVersion(u64),
    /// A record in it cannot be read.
    #[error("one of its records cannot be used")]
    Record(#[source] RecordError),
    /// A key in it cannot be read.
    #[error("one of its keys cannot be used")]
    Key,
    /// A key was refused by the library.
    #[error("one of its keys is refused")]
    Identity(#[source] IdentityError),
    /// One connection stands in it twice.
    #[error("it has the connection {0} twice")]
    Twice(Name),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version1 {
    version: u64,
    made_at: u64,
    connections: Vec<ConnectionForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectionForm {
    record: Value,
    keys: KeysForm,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysForm {
    current: KeyForm,
    next: Option<KeyForm>,
    previous: Option<KeyForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyForm {
    seed: String,
    made_at: u64,
}

impl Drop for KeyForm {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.seed);
    }
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

impl Content {
    /// Everything that a state directory holds. What has ended here stays here.
    ///
    /// # Errors
    /// [`TransferError::State`], [`TransferError::Damaged`].
    pub fn of(state: &StateDirectory, made_at: u64) -> Result<Self, TransferError> {
        let loaded = state.load().map_err(TransferError::State)?;
        if let Some(damaged) = loaded.damaged.into_iter().next() {
            return Err(TransferError::Damaged(damaged.error));
        }
        let mut connections = Vec::new();
        for record in loaded.records {
            match &record.standing {
                Standing::Kept | Standing::RemovedHere => {}
                Standing::Ended { .. } => continue,
            }
            let keys = state
                .all_keys(record.connection)
                .map_err(TransferError::Damaged)?;
            connections.push((record, keys));
        }
        Ok(Self {
            made_at,
            connections,
        })
    }

    /// The names of the connections.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        let names = self.connections.iter();
        names.map(|(record, _)| record.name.clone()).collect()
    }

    /// The bytes to encrypt.
    ///
    /// # Errors
    /// None in practice: everything has a text form.
    pub fn to_bytes(&self) -> Result<Secret<Vec<u8>>, ContentError> {
        let mut connections = Vec::new();
        for (record, keys) in &self.connections {
            let bytes = record.to_bytes().map_err(ContentError::Damaged)?;
            connections.push(ConnectionForm {
                record: serde_json::from_slice(&bytes).map_err(ContentError::Damaged)?,
                keys: KeysForm {
                    current: KeyForm::of(&keys.current),
                    next: keys.next.as_ref().map(KeyForm::of),
                    previous: keys.previous.as_ref().map(KeyForm::of),
                },
            });
        }
        let form = Version1 {
            version: VERSION,
            made_at: self.made_at,
            connections,
        };
        let bytes = serde_json::to_vec(&form).map_err(ContentError::Damaged)?;
        Ok(Secret::new(bytes))
    }

    /// Reads what [`Self::to_bytes`] wrote, and checks every record and key of it.
    ///
    /// # Errors
    /// [`ContentError`].
    pub fn from_bytes(bytes: &Secret<Vec<u8>>) -> Result<Self, ContentError> {
        let bytes = bytes.expose();
        let AnyVersion { version } =
            serde_json::from_slice(bytes).map_err(ContentError::Damaged)?;
        if version != VERSION {
            return Err(ContentError::UnsupportedVersion(version));
        }
        let form: Version1 = serde_json::from_slice(bytes).map_err(ContentError::Damaged)?;
        let (mut seen, mut connections) = (BTreeSet::new(), Vec::new());
        for one in form.connections {
            let record = record_of(&one.record)?;
            let keys = HeldKeys {
                current: one.keys.current.held()?,
                next: one.keys.next.map(|key| key.held()).transpose()?,
                previous: one.keys.previous.map(|key| key.held()).transpose()?,
            };
            if !seen.insert(record.connection) {
                return Err(ContentError::Twice(record.name));
            }
            connections.push((record, keys));
        }
        Ok(Self {
            made_at: form.made_at,
            connections,
        })
    }

    /// Sees that nothing here is overwritten. What is here with the same keys was imported before.
    ///
    /// # Errors
    /// [`TransferError::Exists`], [`TransferError::State`].
    pub fn check_against(&self, state: &StateDirectory) -> Result<(), TransferError> {
        let loaded = state.load().map_err(TransferError::State)?;
        let damaged: BTreeSet<_> = loaded.damaged.iter().map(|one| one.connection).collect();
        for (record, keys) in &self.connections {
            let exists = || TransferError::Exists(record.name.clone());
            let same_name = |other: &&ConnectionRecord| {
                other.name == record.name && other.connection != record.connection
            };
            if damaged.contains(&record.connection)
                || loaded.records.iter().any(|one| same_name(&one))
            {
                return Err(exists());
            }
            let Some(key) = state
                .current_key_if_any(record.connection)
                .map_err(TransferError::State)?
            else {
                continue;
            };
            if key.public_key() != keys.current.key.public_key() {
                return Err(exists());
            }
        }
        Ok(())
    }

    /// Writes keys first and records last, so that a connection is there whole or not at all.
    ///
    /// # Errors
    /// [`StateError::File`], [`StateError::Key`].
    pub fn write(&self, state: &StateDirectory) -> Result<(), StateError> {
        for (record, keys) in &self.connections {
            state.put_keys(record.connection, keys)?;
        }
        for (record, _) in &self.connections {
            state.save(record)?;
        }
        Ok(())
    }
}

impl KeyForm {
    fn of(held: &HeldKey) -> Self {
        Self {
            seed: to_base64(held.key.seed().expose()),
            made_at: state::unix_seconds(held.made_at),
        }
    }

    fn held(&self) -> Result<HeldKey, ContentError> {
        let seed = from_base64(&self.seed).ok_or(ContentError::Key)?;
        let key = SigningKey::from_seed(seed).map_err(ContentError::Identity)?;
        let made_at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.made_at));
        Ok(HeldKey {
            key,
            made_at: made_at.ok_or(ContentError::Key)?,
        })
    }
}

fn record_of(value: &Value) -> Result<ConnectionRecord, ContentError> {
    #[derive(Deserialize)]
    struct Named {
        connection: ConnectionId,
    }
    let bytes = serde_json::to_vec(value).map_err(ContentError::Damaged)?;
    let Named { connection } = serde_json::from_slice(&bytes).map_err(ContentError::Damaged)?;
    ConnectionRecord::from_bytes(&bytes, connection).map_err(ContentError::Record)
}
