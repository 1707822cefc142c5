//! Connections and their keys on the way to another machine: a file, encrypted with a passphrase.
//!
//! Whoever has file and passphrase has the connections. What is read is checked whole before anything is
//! written; what is written is for the daemon's user alone. A connection is never overwritten. The form
//! of the file is in [`envelope`], what is in it in [`content`].

pub mod content;
pub mod envelope;

use std::time::SystemTime;

use self::content::{Content, ContentError};
use self::envelope::EnvelopeError;
use crate::agent::state::{self, Machine, StateDirectory, StateError};
use crate::name::Name;
use crate::secret::Secret;

/// Why connections were not put into a file, or not taken out of it.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The state directory.
    #[error(transparent)]
    State(StateError),
    /// The file, or the passphrase.
    #[error(transparent)]
    Envelope(EnvelopeError),
    /// What is in the file.
    #[error("the export cannot be used")]
    Content(#[source] ContentError),
    /// There is nothing to hand over.
    #[error("there is no connection to export")]
    Nothing,
    /// A record or key here is damaged: what is handed over is whole.
    #[error("a connection cannot be exported")]
    Damaged(#[source] StateError),
    /// One is here already, with other keys, or another of the same name.
    #[error("the connection {0} is here already")]
    Exists(Name),
}

/// All connections of the state directory as an encrypted file, and their names.
///
/// # Errors
/// [`TransferError`]; nothing is changed in any case.
pub fn export(
    state: &StateDirectory,
    passphrase: &Secret<String>,
) -> Result<(Vec<u8>, Vec<Name>), TransferError> {
    let content = Content::of(state, state::unix_seconds(SystemTime::now()))?;
    let names = content.names();
    if names.is_empty() {
        return Err(TransferError::Nothing);
    }
    let plain = content.to_bytes().map_err(TransferError::Content)?;
    let file = envelope::seal(&plain, passphrase).map_err(TransferError::Envelope)?;
    Ok((file, names))
}

/// Takes the connections of a file in, and binds the state to `machine`. Repeating what was broken off goes
/// on with it.
///
/// # Errors
/// [`TransferError`]; nothing is then changed but for a failure of the disk.
pub fn import(
    state: &StateDirectory,
    file: &[u8],
    passphrase: &Secret<String>,
    machine: Option<Machine>,
) -> Result<Vec<Name>, TransferError> {
    let plain = envelope::open(file, passphrase).map_err(TransferError::Envelope)?;
    let content = Content::from_bytes(&plain).map_err(TransferError::Content)?;
    content.check_against(state)?;
    content.write(state).map_err(TransferError::State)?;
    state.adopt(machine).map_err(TransferError::State)?;
    Ok(content.names())
}

#[cfg(test)]
mod tests;
