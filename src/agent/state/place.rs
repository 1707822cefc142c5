//! Where the state belongs: the machine that it is bound to, and whether it was handed over to another.
//!
//! Two files in the state directory, written atomically, 0600, no secrets:
//!
//! ```text
//! machine     { "version": 1, "machine": "base64url of SHA-256 over a domain and /etc/machine-id" }
//! exported    { "version": 1, "at": 1790000000 }
//! ```
//!
//! A copy that the machine id gives away does not run beside its original by accident. It is no protection
//! against a thief: the relay is, which refuses the second of two.

use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{FILE_MODE, StateDirectory, StateError};
use crate::atomic_file;
use crate::identity::{from_base64, to_base64};

/// What systemd's machine-id(5) asks for: the id itself is not to be shown around, so it is hashed with what it
/// is used for.
const DOMAIN: &[u8] = b"relay-agent machine v1\0";
/// Where the machine's id is.
const MACHINE_ID: &str = "/etc/machine-id";
/// What a container's engine leaves in its file system. Ids come and go with containers, and the volume that has
/// the state stays.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// 32 hexadecimal digits (machine-id(5)).
const MACHINE_ID_LENGTH: usize = 32;
/// Both files have less than a hundred bytes.
const MAX_LENGTH: usize = 1024;
/// The version of both files.
const VERSION: u64 = 1;

/// Names a machine, without showing its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine([u8; 32]);

#[derive(Serialize, Deserialize)]
struct MachineFile {
    version: u64,
    machine: String,
}

#[derive(Serialize, Deserialize)]
struct ExportedFile {
    version: u64,
    at: u64,
}

impl Machine {
    /// This machine; nothing where there is no proper id.
    #[must_use]
    pub fn this() -> Option<Self> {
        Self::of(fs::read_to_string(MACHINE_ID).ok()?.trim())
    }

    /// Whether this is a container rather than a machine.
    #[must_use]
    pub fn is_container() -> bool {
        CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists())
    }

    /// The machine with this id.
    pub(super) fn of(id: &str) -> Option<Self> {
        let is_id =
            id.len() == MACHINE_ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return None;
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &[DOMAIN, id.as_bytes()].concat()).as_ref());
        Some(Self(bytes))
    }
}

impl StateDirectory {
    /// Checks that the state may be used here, and binds it to `machine` where it is bound to none.
    ///
    /// # Errors
    /// [`StateError::Exported`], [`StateError::OtherMachine`], [`StateError::Place`], [`StateError::File`].
    pub fn check_place(&self, machine: Option<Machine>) -> Result<(), StateError> {
        if let Some(at) = self.exported_at()? {
            return Err(StateError::Exported { at });
        }
        let Some(machine) = machine else {
            return Ok(());
        };
        match self.bound_to()? {
            None => self.bind_to(machine),
            Some(bound) if bound == machine => Ok(()),
            Some(_) => Err(StateError::OtherMachine),
        }
    }

    /// The state belongs here from now on, whatever was before.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn adopt(&self, machine: Option<Machine>) -> Result<(), StateError> {
        match machine {
            Some(machine) => self.bind_to(machine)?,
            None => atomic_file::remove(&self.machine_path()).map_err(StateError::File)?,
        }
        atomic_file::remove(&self.exported_path()).map_err(StateError::File)
    }

    /// The state was handed over to another machine: no agent runs with it here.
    ///
    /// # Errors
    /// [`StateError::File`].
    pub fn mark_exported(&self, at: u64) -> Result<(), StateError> {
        let version = VERSION;
        self.put(&self.exported_path(), &ExportedFile { version, at })
    }

    /// When the state was handed over to another machine, in Unix seconds.
    ///
    /// # Errors
    /// [`StateError::File`], [`StateError::Place`].
    pub fn exported_at(&self) -> Result<Option<u64>, StateError> {
        let read: Option<ExportedFile> = self.get(&self.exported_path())?;
        Ok(read.map(|file| file.at))
    }

    fn bound_to(&self) -> Result<Option<Machine>, StateError> {
        let path = self.machine_path();
        let read: Option<MachineFile> = self.get(&path)?;
        let machine = read.map(|file| from_base64(&file.machine).map(Machine));
        match machine {
            Some(None) => Err(StateError::Place { path }),
            Some(known) => Ok(known),
            None => Ok(None),
        }
    }

    fn bind_to(&self, machine: Machine) -> Result<(), StateError> {
        let file = MachineFile {
            version: VERSION,
            machine: to_base64(&machine.0),
        };
        self.put(&self.machine_path(), &file)
    }

    fn put<T: Serialize>(&self, path: &Path, content: &T) -> Result<(), StateError> {
        let mut bytes = serde_json::to_vec(content).map_err(StateError::Encode)?;
        bytes.push(b'\n');
        atomic_file::write(path, &bytes, FILE_MODE).map_err(StateError::File)
    }

    fn get<T: for<'a> Deserialize<'a>>(&self, path: &Path) -> Result<Option<T>, StateError> {
        let Some(bytes) = atomic_file::read(path, MAX_LENGTH).map_err(StateError::File)? else {
            return Ok(None);
        };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|_| StateError::Place {
            path: path.to_owned(),
        })
    }

    fn machine_path(&self) -> PathBuf {
        self.path.join("machine")
    }

    fn exported_path(&self) -> PathBuf {
        self.path.join("exported")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(digit: &str) -> Option<Machine> {
        Some(Machine::of(&digit.repeat(32)).unwrap())
    }

    #[test]
    fn state_is_bound_to_its_first_machine_until_it_is_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&directory.path().join("state")).unwrap();
        let check = |machine| state.check_place(machine);
        // Where machines have no id, nothing is bound and nothing is refused.
        assert!(check(None).is_ok() && !state.machine_path().exists());
        assert!(check(machine("a")).is_ok() && check(machine("a")).is_ok());
        assert!(check(None).is_ok());
        let refused = check(machine("b")).unwrap_err();
        assert!(matches!(refused, StateError::OtherMachine));
        assert!(check(machine("a")).is_ok(), "a refusal changes nothing");
        state.adopt(machine("b")).unwrap();
        assert!(check(machine("b")).is_ok() && check(machine("a")).is_err());
        let text = fs::read_to_string(state.machine_path()).unwrap();
        assert!(!text.contains(&"b".repeat(32)), "{text}");
    }

    #[test]
    fn state_that_was_exported_is_refused_until_it_is_adopted() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&directory.path().join("state")).unwrap();
        state.mark_exported(7).unwrap();
        let refused = state.check_place(None).unwrap_err();
        assert!(matches!(refused, StateError::Exported { at: 7 }));
        state.adopt(None).unwrap();
        assert!(state.check_place(None).is_ok());
    }

    #[test]
    fn what_is_no_machine_id_names_no_machine() {
        for id in ["", "uninitialized", &"g".repeat(32), &"a".repeat(31)] {
            assert!(Machine::of(id).is_none(), "{id}");
        }
    }

    #[test]
    fn a_damaged_mark_is_told_and_not_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(&directory.path().join("state")).unwrap();
        for path in [state.machine_path(), state.exported_path()] {
            fs::write(&path, "{").unwrap();
            let refused = state.check_place(machine("a")).unwrap_err();
            assert!(matches!(refused, StateError::Place { .. }));
            fs::remove_file(path).unwrap();
        }
    }
}
