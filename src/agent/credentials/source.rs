//! Where one secret comes from, and how a change of it is noticed.
//!
//! A file is looked at when it is needed, at most once a second, and read again when it is another one
//! than before; a credential of systemd is such a file. Nothing is watched while there are no calls.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::CredentialError;
use super::command::Command;
use super::kept::{Opening, Recipe};
use super::renewed::{Now, Renewed};
use crate::agent::config::CredentialSource;
use crate::secret::Secret;

/// How old the look at a file's time stamp may be: a look on each call would be a system call more,
/// and nobody changes a password and expects it to hold within the same second.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The longest value, in bytes: a token is far shorter, and a file that is longer is another file.
pub(super) const MAX_VALUE_BYTES: u64 = 16 * 1024;
/// Where systemd puts the credentials of a service.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where one secret comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Cannot change while the program runs.
    Fixed(Arc<Reading>),
    /// Is looked at again.
    File(WatchedFile),
    /// Is fetched.
    Renewed(Arc<Renewed>),
}

/// A secret as it was read once. Another reading is another secret, perhaps.
#[derive(Debug)]
pub(super) struct Reading {
    secret: Secret<Vec<u8>>,
    origin: Box<str>,
}

#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    seen: Mutex<Seen>,
}

/// What a file held when it was last read.
#[derive(Debug)]
struct Seen {
    reading: Arc<Reading>,
    stamp: Stamp,
    looked: Instant,
}

/// What changes when a file does: written in place, or replaced by another. The time of change tells of a
/// file that was written within one tick of the clock, or whose time stamp was set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Source {
    /// Opens a secret, so that a missing one is told at once.
    pub(super) fn open(
        source: &CredentialSource,
        opening: &mut Opening<'_>,
    ) -> Result<Self, CredentialError> {
        match source {
            CredentialSource::Credential(credential) => {
                let path = systemds(credential)
                    .ok_or_else(|| CredentialError::NoCredentials(credential.clone()))?;
                WatchedFile::open(path).map(Self::File)
            }
            CredentialSource::File(path) => WatchedFile::open(path.clone()).map(Self::File),
            CredentialSource::Environment(variable) => {
                let value = std::env::var(variable)
                    .map_err(|_| CredentialError::NoVariable(variable.clone()))?;
                let secret = Secret::new(value.into_bytes());
                let reading = Reading::new(&secret, variable)?;
                Ok(Self::Fixed(Arc::new(reading)))
            }
            CredentialSource::Command(command) => {
                let program = command.arguments.first().map_or("", String::as_str);
                let what = format!("the output of {program}");
                let recipe = Recipe::Command(command.clone());
                let renewed = opening.renewed(what, recipe, Command::new(command));
                Ok(Self::Renewed(renewed))
            }
        }
    }

    /// The secret as it is now. The same reading as before, unless it has changed.
    pub(super) fn now(&self) -> Result<Now, CredentialError> {
        match self {
            Self::Fixed(reading) => Ok(Now::Ready(Arc::clone(reading))),
            Self::File(file) => file.reading().map(Now::Ready),
            Self::Renewed(renewed) => renewed.now(),
        }
    }

    /// The secret, once it is there. Waits as long as a fetch takes, which has a bound of its own.
    pub(super) async fn reading(&self) -> Result<Arc<Reading>, CredentialError> {
        loop {
            match self.now()? {
                Now::Ready(reading) => return Ok(reading),
                Now::Fetching(mut flight) => flight.landed().await,
            }
        }
    }

    /// What fetches it, if anything does.
    pub(super) const fn renewed(&self) -> Option<&Arc<Renewed>> {
        match self {
            Self::Renewed(renewed) => Some(renewed),
            Self::Fixed(_) | Self::File(_) => None,
        }
    }
}

impl Reading {
    /// Takes a value without the white space around it, such as the line end that editors add.
    pub(super) fn new(value: &Secret<Vec<u8>>, origin: &str) -> Result<Self, CredentialError> {
        let bytes = value.expose().trim_ascii();
        let is_sent_as_it_is = bytes.iter().all(|byte| !byte.is_ascii_control());
        if bytes.is_empty() || bytes.len() as u64 > MAX_VALUE_BYTES || !is_sent_as_it_is {
            return Err(CredentialError::Unusable(origin.to_owned()));
        }
        Ok(Self {
            secret: Secret::new(bytes.to_vec()),
            origin: origin.into(),
        })
    }

    /// The secret.
    pub(super) const fn expose(&self) -> &[u8] {
        self.secret.expose().as_slice()
    }

    /// Where it comes from, for people.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }
}

impl WatchedFile {
    fn open(path: PathBuf) -> Result<Self, CredentialError> {
        let (reading, stamp) = read(&path)?;
        let seen = Mutex::new(Seen {
            reading,
            stamp,
            looked: Instant::now(),
        });
        Ok(Self { path, seen })
    }

    fn reading(&self) -> Result<Arc<Reading>, CredentialError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked.elapsed() >= LOOK_AGAIN_AFTER {
            self.look(&mut seen)?;
        }
        Ok(Arc::clone(&seen.reading))
    }

    /// Reads the file again if it has changed. A failure is not remembered, so that the next call looks again.
    fn look(&self, seen: &mut Seen) -> Result<(), CredentialError> {
        if stamp(&self.path)? != seen.stamp {
            (seen.reading, seen.stamp) = read(&self.path)?;
        }
        seen.looked = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
impl Source {
    /// Makes the next use look at the file.
    pub(super) fn forget_the_last_look(&self) {
        if let Self::File(file) = self {
            let mut seen = file.seen.lock().unwrap();
            seen.looked = Instant::now().checked_sub(LOOK_AGAIN_AFTER).unwrap();
        }
    }
}

/// The file that a secret is in, if it is in one.
pub(super) fn file_of(source: &CredentialSource) -> Option<PathBuf> {
    match source {
        CredentialSource::Credential(credential) => systemds(credential),
        CredentialSource::File(path) => Some(path.clone()),
        CredentialSource::Environment(_) | CredentialSource::Command(_) => None,
    }
}

/// Where a credential of systemd is, if systemd gave any.
fn systemds(credential: &str) -> Option<PathBuf> {
    let directory = std::env::var_os(CREDENTIALS_DIRECTORY)?;
    Some(Path::new(&directory).join(credential))
}

fn stamp(path: &Path) -> Result<Stamp, CredentialError> {
    let metadata = fs::metadata(path).map_err(|source| unreadable(path, source))?;
    Ok(Stamp {
        file: (metadata.dev(), metadata.ino()),
        length: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// Reads a value. The stamp is taken before, so that a change in between is seen the next time.
fn read(path: &Path) -> Result<(Arc<Reading>, Stamp), CredentialError> {
    let stamp = stamp(path)?;
    let mut bytes = Vec::new();
    fs::File::open(path)
        // White space around the value is not counted; a file that is longer even so is another file.
        .and_then(|file| file.take(2 * MAX_VALUE_BYTES).read_to_end(&mut bytes))
        .map_err(|source| unreadable(path, source))?;
    let reading = Reading::new(&Secret::new(bytes), &path.display().to_string())?;
    Ok((Arc::new(reading), stamp))
}

fn unreadable(path: &Path, source: std::io::Error) -> CredentialError {
    CredentialError::Unreadable {
        path: path.to_owned(),
        source,
    }
}
