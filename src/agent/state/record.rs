//! The record of one accepted connection: its meaning in memory and its form on disk.
//!
//! On disk, version 1, one JSON object:
//!
//! ```json
//! { "version": 1, "connection": "c_…", "name": "acme_to_widgets", "public_side": "acme", "private_side": "widgets",
//!   "mode": "script", "relay_url": "https://relay.example.com:8443", "relay_identity": "pk_…", "tls_pin": null,
//!   "project": null, "accepted_at": 1790000000, "deactivated": false, "standing": { "is": "kept" } }
//! ```
//!
//! A field is never added, dropped or re-read differently without a new version. Holds no secret.

use serde::{Deserialize, Serialize};

use crate::identity::{ConnectionId, PublicKey};
use crate::invitation::{Mode, RelayUrl, TlsPin};
use crate::name::Name;

/// The version that this program writes, and the newest that it reads.
const VERSION: u64 = 1;

/// What the agent remembers of a connection that it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRecord {
    /// Which connection.
    pub connection: ConnectionId,
    /// Its name, unique on this agent among the connections that live.
    pub name: Name,
    /// Short name of the instance that can be reached.
    pub public_side: Name,
    /// Short name of the instance on this side.
    pub private_side: Name,
    /// How the two sides synchronise.
    pub mode: Mode,
    /// Where the relay is.
    pub relay_url: RelayUrl,
    /// Who the relay is; pinned by the invitation.
    pub relay_identity: PublicKey,
    /// The key of the relay's certificate, where no authority vouches for it.
    pub tls_pin: Option<TlsPin>,
    /// This side's project for the incoming synchronisation.
    pub project: Option<String>,
    /// When the relay's answer was written down, in Unix seconds of this machine.
    pub accepted_at: u64,
    /// Whether this side deactivated the connection.
    pub deactivated: bool,
    /// Whether it is still dialled, and why not.
    pub standing: Standing,
}

/// Whether a connection lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Standing {
    /// It is kept, and its link is dialled.
    Kept,
    /// It was removed here, and the relay has not been told yet: dialled until it has.
    RemovedHere,
    /// The relay refused it for good: no longer dialled, shown until it is removed here as well.
    Ended {
        /// Why, for people.
        why: String,
        /// When, in Unix seconds.
        at: u64,
    },
}

/// Why a file is not a record that this program can use.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or not with the fields of its version.
    #[error("it is damaged; restore it from a backup, or move it away and accept a new invitation")]
    Damaged(#[source] serde_json::Error),
    /// A newer program wrote it.
    #[error(
        "it has version {found}, and this program reads up to version {VERSION}; install the newer program again"
    )]
    Newer {
        /// The version that it has.
        found: u64,
    },
    /// The file of one connection tells of another.
    #[error("it tells of connection {found}; give it its own name back")]
    OtherConnection {
        /// The connection that it tells of.
        found: ConnectionId,
    },
}

/// The part that every version has.
#[derive(Deserialize)]
struct AnyVersion {
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version1 {
    version: u64,
    connection: ConnectionId,
    name: Name,
    public_side: Name,
    private_side: Name,
    mode: ModeWord,
    relay_url: RelayUrl,
    relay_identity: PublicKey,
    tls_pin: Option<TlsPin>,
    project: Option<String>,
    accepted_at: u64,
    deactivated: bool,
    standing: Standing,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeWord {
    Script,
}

impl ConnectionRecord {
    /// The bytes to write.
    ///
    /// # Errors
    /// None in practice: every field has a text form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(&Version1 {
            version: VERSION,
            connection: self.connection,
            name: self.name.clone(),
            public_side: self.public_side.clone(),
            private_side: self.private_side.clone(),
            mode: match self.mode {
                Mode::Script => ModeWord::Script,
            },
            relay_url: self.relay_url.clone(),
            relay_identity: self.relay_identity,
            tls_pin: self.tls_pin,
            project: self.project.clone(),
            accepted_at: self.accepted_at,
            deactivated: self.deactivated,
            standing: self.standing.clone(),
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads what [`Self::to_bytes`] wrote, for the connection whose file it is.
    ///
    /// # Errors
    /// [`RecordError`]: each names its remedy.
    pub fn from_bytes(bytes: &[u8], connection: ConnectionId) -> Result<Self, RecordError> {
        let AnyVersion { version } = serde_json::from_slice(bytes).map_err(RecordError::Damaged)?;
        if version > VERSION {
            return Err(RecordError::Newer { found: version });
        }
        let read: Version1 = serde_json::from_slice(bytes).map_err(RecordError::Damaged)?;
        if read.connection != connection {
            return Err(RecordError::OtherConnection {
                found: read.connection,
            });
        }
        Ok(Self {
            connection: read.connection,
            name: read.name,
            public_side: read.public_side,
            private_side: read.private_side,
            mode: match read.mode {
                ModeWord::Script => Mode::Script,
            },
            relay_url: read.relay_url,
            relay_identity: read.relay_identity,
            tls_pin: read.tls_pin,
            project: read.project,
            accepted_at: read.accepted_at,
            deactivated: read.deactivated,
            standing: read.standing,
        })
    }
}

#[cfg(test)]
pub(in crate::agent) mod tests {
    use super::*;
    use crate::identity::SigningKey;

    pub(in crate::agent) fn example(name: &str) -> ConnectionRecord {
        ConnectionRecord {
            connection: ConnectionId::generate().unwrap(),
            name: name.parse().unwrap(),
            public_side: "acme".parse().unwrap(),
            private_side: "widgets".parse().unwrap(),
            mode: Mode::Script,
            relay_url: "https://relay.example.com:8443".parse().unwrap(),
            relay_identity: SigningKey::generate().unwrap().public_key(),
            tls_pin: None,
            project: Some("SYNC".to_owned()),
            accepted_at: 1_790_000_000,
            deactivated: false,
            standing: Standing::Kept,
        }
    }

    #[test]
    fn a_record_survives_the_disk_in_every_standing() {
        for standing in [
            Standing::Kept,
            Standing::RemovedHere,
            Standing::Ended {
                why: "removed by the public side".to_owned(),
                at: 7,
            },
        ] {
            let record = ConnectionRecord {
                standing,
                ..example("acme_to_widgets")
            };
            let bytes = record.to_bytes().unwrap();
            assert_eq!(
                ConnectionRecord::from_bytes(&bytes, record.connection).unwrap(),
                record
            );
        }
    }

    #[test]
    fn a_newer_record_is_told_apart_from_a_damaged_one() {
        let record = example("acme_to_widgets");
        let text = String::from_utf8(record.to_bytes().unwrap()).unwrap();
        let read = |text: &str| ConnectionRecord::from_bytes(text.as_bytes(), record.connection);

        let newer = text.replace("\"version\": 1", "\"version\": 2, \"colour\": \"green\"");
        assert!(matches!(read(&newer), Err(RecordError::Newer { found: 2 })));
        for damaged in [
            &text[..text.len() / 2],
            "",
            &text.replace("\"project\"", "\"projekt\""),
            &text.replace("\"kept\"", "\"perhaps\""),
        ] {
            assert!(matches!(read(damaged), Err(RecordError::Damaged(_))));
        }
    }

    #[test]
    fn the_record_of_another_connection_is_refused() {
        let bytes = example("acme_to_widgets").to_bytes().unwrap();
        let other = ConnectionId::generate().unwrap();
        assert!(matches!(
            ConnectionRecord::from_bytes(&bytes, other),
            Err(RecordError::OtherConnection { .. })
        ));
    }
}
