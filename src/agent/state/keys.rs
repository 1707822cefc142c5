//! The identity keys of a connection on the disk: the current one, the next, and the one before.
//!
//! Which of them does what is decided by `protocol::rotation`; here each of its steps is one change of one
//! file, so that a crash leaves the state before the step or after it. Of every key the time of its file
//! is its age: it survives a rename, and a backup that keeps times.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{StateDirectory, StateError};
use crate::atomic_file;
use crate::identity::key_file;
use crate::identity::{ConnectionId, PublicKey, SigningKey};
use crate::protocol::handshake::Transcript;
use crate::protocol::rotation::{AgentKeys, AgentStep, RotateMessage};

/// A key, and since when it is there.
#[derive(Debug)]
pub struct HeldKey {
    /// The key.
    pub key: SigningKey,
    /// When its file was written.
    pub made_at: SystemTime,
}

/// All keys of a connection.
#[derive(Debug)]
pub struct HeldKeys {
    /// The one in use.
    pub current: HeldKey,
    /// The one that is to take its place.
    pub next: Option<HeldKey>,
    /// The one before.
    pub previous: Option<HeldKey>,
}

/// What is left to do for a rotation, once what can be done alone is done.
#[derive(Debug)]
pub enum RotationStep {
    /// Nothing.
    Nothing,
    /// Tell the relay.
    Announce(Box<RotateMessage>),
    /// The key with which the link was made is current now.
    Promoted,
}

impl StateDirectory {
    /// The key to prove to a relay that has refused these: the current one, then the next, then the one before.
    /// `None` when it has refused all that there are.
    ///
    /// # Errors
    /// [`StateError::Key`], [`StateError::KeyMissing`].
    pub fn key_to_prove(
        &self,
        connection: ConnectionId,
        refused: &[PublicKey],
    ) -> Result<Option<HeldKey>, StateError> {
        let current = self.held(&self.key_path(connection))?;
        let current = current.ok_or_else(|| StateError::KeyMissing {
            path: self.key_path(connection),
        })?;
        let is_refused = |held: &HeldKey| refused.contains(&held.key.public_key());
        if !is_refused(&current) {
            return Ok(Some(current));
        }
        for path in [
            self.next_key_path(connection),
            self.previous_key_path(connection),
        ] {
            let held = self.held(&path)?.filter(|held| !is_refused(held));
            if held.is_some() {
                return Ok(held);
            }
        }
        Ok(None)
    }

    /// Does what a rotation needs that can be done without the relay, on a link that was made with `proven`.
    /// `is_wanted`: a new key is due or asked for.
    ///
    /// # Errors
    /// [`StateError::Key`], [`StateError::KeyMissing`], [`StateError::File`].
    pub fn rotation_step(
        &self,
        connection: ConnectionId,
        transcript: &Transcript,
        proven: PublicKey,
        is_wanted: bool,
    ) -> Result<RotationStep, StateError> {
        let current = self.key(connection)?;
        let mut next = self.load_key(&self.next_key_path(connection))?;
        let previous = self.load_key(&self.previous_key_path(connection))?;
        let public = |key: &Option<SigningKey>| key.as_ref().map(SigningKey::public_key);
        let keys = |next: &Option<SigningKey>| AgentKeys {
            current: current.public_key(),
            next: public(next),
            previous: public(&previous),
        };
        let mut step = keys(&next).after_link(proven, is_wanted);
        if step == AgentStep::MakeNext {
            let path = self.next_key_path(connection);
            next = Some(key_file::load_or_create(&path).map_err(StateError::Key)?);
            step = keys(&next).after_link(proven, is_wanted);
        }
        match step {
            AgentStep::Nothing | AgentStep::MakeNext => Ok(RotationStep::Nothing),
            AgentStep::Promote => {
                self.promote_next_key(connection)?;
                Ok(RotationStep::Promoted)
            }
            AgentStep::Announce { by, next: to } => {
                let of = |wanted: PublicKey| {
                    [Some(&current), next.as_ref(), previous.as_ref()]
                        .into_iter()
                        .flatten()
                        .find(|key| key.public_key() == wanted)
                };
                // A link that was made with a key which is gone from the disk: the next link knows better.
                let (Some(by), Some(to)) = (of(by), of(to)) else {
                    return Ok(RotationStep::Nothing);
                };
                let message = RotateMessage::new(connection, transcript, by, to);
                Ok(RotationStep::Announce(Box::new(message)))
            }
        }
    }

    /// The relay accepts `announced` from now on.
    ///
    /// # Errors
    /// As [`Self::rotation_step`]; repeating it does no harm.
    pub fn key_confirmed(
        &self,
        connection: ConnectionId,
        announced: PublicKey,
    ) -> Result<(), StateError> {
        let next = self.load_key(&self.next_key_path(connection))?;
        if next.is_some_and(|next| next.public_key() == announced) {
            self.promote_next_key(connection)?;
        }
        Ok(())
    }

    /// The next key becomes current, and the current one the previous. First the copy, then the step that
    /// counts: between the two nothing has changed.
    ///
    /// # Errors
    /// [`StateError::Key`], [`StateError::KeyMissing`], [`StateError::File`].
    pub fn promote_next_key(&self, connection: ConnectionId) -> Result<(), StateError> {
        let current = self.key(connection)?;
        key_file::save(&self.previous_key_path(connection), &current).map_err(StateError::Key)?;
        let next = self.next_key_path(connection);
        atomic_file::rename(&next, &self.key_path(connection)).map_err(StateError::File)
    }

    /// Another key with which to accept a connection whose key the relay accepts no more: already on disk, and
    /// not in use before it is promoted.
    ///
    /// # Errors
    /// [`StateError::Key`].
    pub fn next_key_for_accepting(
        &self,
        connection: ConnectionId,
    ) -> Result<SigningKey, StateError> {
        let path = self.next_key_path(connection);
        key_file::load_or_create(&path).map_err(StateError::Key)
    }

    /// The current key and its age.
    ///
    /// # Errors
    /// [`StateError::Key`], [`StateError::KeyMissing`].
    pub fn current_key(&self, connection: ConnectionId) -> Result<HeldKey, StateError> {
        let path = self.key_path(connection);
        self.held(&path)?.ok_or(StateError::KeyMissing { path })
    }

    /// The current key, where there is one.
    ///
    /// # Errors
    /// [`StateError::Key`].
    pub fn current_key_if_any(
        &self,
        connection: ConnectionId,
    ) -> Result<Option<SigningKey>, StateError> {
        self.load_key(&self.key_path(connection))
    }

    /// All keys of a connection.
    ///
    /// # Errors
    /// [`StateError::Key`], [`StateError::KeyMissing`].
    pub fn all_keys(&self, connection: ConnectionId) -> Result<HeldKeys, StateError> {
        Ok(HeldKeys {
            current: self.current_key(connection)?,
            next: self.held(&self.next_key_path(connection))?,
            previous: self.held(&self.previous_key_path(connection))?,
        })
    }

    /// Writes all keys of a connection, each as old as it is.
    ///
    /// # Errors
    /// [`StateError::Key`], [`StateError::Open`].
    pub fn put_keys(&self, connection: ConnectionId, keys: &HeldKeys) -> Result<(), StateError> {
        let held = [
            Some(&keys.current),
            keys.next.as_ref(),
            keys.previous.as_ref(),
        ];
        for (path, held) in self.key_paths(connection).iter().zip(held) {
            let Some(held) = held else {
                continue;
            };
            key_file::save(path, &held.key).map_err(StateError::Key)?;
            let aged = File::options()
                .write(true)
                .open(path)
                .and_then(|file| file.set_modified(held.made_at));
            aged.map_err(|source| StateError::Open {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Where the keys of a connection are: current, next, previous.
    pub(super) fn key_paths(&self, connection: ConnectionId) -> [PathBuf; 3] {
        [
            self.key_path(connection),
            self.next_key_path(connection),
            self.previous_key_path(connection),
        ]
    }

    fn held(&self, path: &Path) -> Result<Option<HeldKey>, StateError> {
        let Some(key) = self.load_key(path)? else {
            return Ok(None);
        };
        let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
        // A file system without times: as old as can be, so that it is rotated.
        let made_at = modified.unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Some(HeldKey { key, made_at }))
    }

    fn load_key(&self, path: &Path) -> Result<Option<SigningKey>, StateError> {
        key_file::load(path).map_err(StateError::Key)
    }

    fn next_key_path(&self, connection: ConnectionId) -> PathBuf {
        self.connections.join(format!("{connection}.next.key"))
    }

    fn previous_key_path(&self, connection: ConnectionId) -> PathBuf {
        self.connections.join(format!("{connection}.previous.key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::state::tests::example;

    const LINK: Transcript = Transcript::from_bytes([9; 32]);

    struct Place {
        _directory: tempfile::TempDir,
        state: StateDirectory,
        connection: ConnectionId,
        first: PublicKey,
    }

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&directory.path().join("state")).unwrap();
        let connection = example("one").connection;
        let first = state.key_for_accepting(connection).unwrap().public_key();
        Place {
            _directory: directory,
            state,
            connection,
            first,
        }
    }

    fn announced(step: RotationStep) -> RotateMessage {
        let RotationStep::Announce(message) = step else {
            panic!("{step:?}");
        };
        *message
    }

    #[test]
    fn a_rotation_is_one_key_beside_the_other_and_then_in_its_place() {
        let Place {
            state,
            connection,
            first,
            ..
        } = &place();
        let step = |proven, wanted| state.rotation_step(*connection, &LINK, proven, wanted);
        assert!(matches!(
            step(*first, false).unwrap(),
            RotationStep::Nothing
        ));
        let message = announced(step(*first, true).unwrap());
        // Begun, it is gone on with, whether or not it is wanted still, and with the same key.
        assert_eq!(announced(step(*first, false).unwrap()), message);
        assert_eq!(state.key(*connection).unwrap().public_key(), *first);

        for _ in 0..2 {
            state.key_confirmed(*connection, message.next).unwrap();
            let current = state.current_key(*connection).unwrap();
            assert_eq!(current.key.public_key(), message.next);
        }
        assert!(matches!(
            step(message.next, false).unwrap(),
            RotationStep::Nothing
        ));
        // A relay that knows the former key only is told again.
        let prove = |refused: &[PublicKey]| {
            let held = state.key_to_prove(*connection, refused).unwrap();
            held.map(|held| held.key.public_key())
        };
        assert_eq!(prove(&[]), Some(message.next));
        assert_eq!(prove(&[message.next]), Some(*first));
        assert_eq!(prove(&[message.next, *first]), None);
        let again = announced(step(*first, false).unwrap());
        assert_eq!((again.current, again.next), (*first, message.next));
    }

    #[test]
    fn a_link_made_with_the_next_key_makes_it_current() {
        let Place {
            state,
            connection,
            first,
            ..
        } = &place();
        let next = state.next_key_for_accepting(*connection).unwrap();
        let proven = next.public_key();
        let held = state.key_to_prove(*connection, &[*first]).unwrap();
        assert_eq!(held.unwrap().key.public_key(), proven);
        let step = state.rotation_step(*connection, &LINK, proven, false);
        assert!(matches!(step.unwrap(), RotationStep::Promoted));
        assert_eq!(state.key(*connection).unwrap().public_key(), proven);
    }

    #[test]
    fn a_crash_before_the_step_that_counts_changes_nothing() {
        let Place {
            state,
            connection,
            first,
            ..
        } = &place();
        let message = announced(
            state
                .rotation_step(*connection, &LINK, *first, true)
                .unwrap(),
        );
        // The copy was made, and the rename was not.
        let current = state.key(*connection).unwrap();
        key_file::save(&state.previous_key_path(*connection), &current).unwrap();
        assert_eq!(
            announced(
                state
                    .rotation_step(*connection, &LINK, *first, false)
                    .unwrap()
            ),
            message
        );
        state.key_confirmed(*connection, message.next).unwrap();
        assert_eq!(state.key(*connection).unwrap().public_key(), message.next);
    }
}
