//! The only place that opens the agent's secrets: headers that the configuration sets on calls.
//!
//! Takes a [`Permitted`], so a secret goes nowhere but to what a rule allows. Values come from
//! systemd credentials, files or the environment; files are read again when they change. No value
//! is ever part of an error, a log line or an answer to the public side.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::config::{CredentialSource, UpstreamConfig};
use super::policy::Permitted;
use crate::secret::Secret;

/// How old the look at a file's time stamp may be: a look on each call would be a system call more,
/// and nobody changes a password and expects it to hold within the same second.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The longest value, in bytes: a token is far shorter, and a file that is longer is another file.
const MAX_VALUE_BYTES: u64 = 16 * 1024;
/// Where systemd puts the credentials of a service.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The headers that the agent sets on calls, for each upstream.
#[derive(Debug, Default)]
pub struct Credentials {
    upstreams: BTreeMap<Box<str>, Vec<SetHeader>>,
}

/// Why a header has no value. Says where the value was looked for, never what was found.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The program was not started by systemd with credentials.
    #[error("credential {0:?} is named, but systemd gave no {CREDENTIALS_DIRECTORY}")]
    NoCredentials(String),
    /// The environment variable is not set, or is not text.
    #[error("the environment variable {0:?} is not set")]
    NoVariable(String),
    /// The file cannot be read.
    #[error("{path} cannot be read", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The value is empty, too long, or has characters that no header can have.
    #[error("the value in {0} cannot be a header: it is empty, too long or has control characters")]
    NotAHeader(String),
}

#[derive(Debug)]
struct SetHeader {
    name: HeaderName,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Cannot change while the program runs.
    Fixed(HeaderValue),
    File(WatchedFile),
}

#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    seen: Mutex<Seen>,
}

/// What a file held when it was last read. The value is marked as sensitive, so it prints nothing.
#[derive(Debug)]
struct Seen {
    value: HeaderValue,
    stamp: Stamp,
    looked: Instant,
}

/// What changes when a file does: written in place, or replaced by another.
type Stamp = (Option<SystemTime>, u64);

impl Credentials {
    /// Opens every secret that the configuration names, so that a missing one is told at start.
    ///
    /// # Errors
    /// The first value that is not to be had.
    pub fn open(upstreams: &[UpstreamConfig]) -> Result<Self, CredentialError> {
        let open = |upstream: &UpstreamConfig| {
            let headers = upstream
                .set_headers
                .iter()
                .map(|(name, source)| SetHeader::open(name, source))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((upstream.name.as_str().into(), headers))
        };
        let upstreams = upstreams.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { upstreams })
    }

    /// Sets the upstream's headers on a permitted call; the caller's own of the same names are gone then.
    ///
    /// # Errors
    /// When a file that changed can no longer be used. The call must not be sent without it.
    pub fn apply(
        &self,
        permitted: &Permitted,
        headers: &mut HeaderMap,
    ) -> Result<(), CredentialError> {
        let set = self.upstreams.get(permitted.upstream());
        for header in set.into_iter().flatten() {
            headers.insert(&header.name, header.value()?);
        }
        Ok(())
    }
}

impl SetHeader {
    fn open(name: &HeaderName, source: &CredentialSource) -> Result<Self, CredentialError> {
        let source = match source {
            CredentialSource::Credential(credential) => {
                let directory = std::env::var_os(CREDENTIALS_DIRECTORY)
                    .ok_or_else(|| CredentialError::NoCredentials(credential.clone()))?;
                Source::File(WatchedFile::open(Path::new(&directory).join(credential))?)
            }
            CredentialSource::File(path) => Source::File(WatchedFile::open(path.clone())?),
            CredentialSource::Environment(variable) => {
                let value = std::env::var(variable)
                    .map_err(|_| CredentialError::NoVariable(variable.clone()))?;
                let secret = Secret::new(value.into_bytes());
                Source::Fixed(header_value(&secret, variable)?)
            }
        };
        let name = name.clone();
        Ok(Self { name, source })
    }

    fn value(&self) -> Result<HeaderValue, CredentialError> {
        match &self.source {
            Source::Fixed(value) => Ok(value.clone()),
            Source::File(file) => file.value(),
        }
    }
}

impl WatchedFile {
    fn open(path: PathBuf) -> Result<Self, CredentialError> {
        let (value, stamp) = read(&path)?;
        let looked = Instant::now();
        let seen = Mutex::new(Seen {
            value,
            stamp,
            looked,
        });
        Ok(Self { path, seen })
    }

    fn value(&self) -> Result<HeaderValue, CredentialError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked.elapsed() >= LOOK_AGAIN_AFTER {
            self.look(&mut seen)?;
        }
        Ok(seen.value.clone())
    }

    /// Reads the file again if it has changed. A failure is not remembered, so that the next call looks again.
    fn look(&self, seen: &mut Seen) -> Result<(), CredentialError> {
        if stamp(&self.path)? != seen.stamp {
            (seen.value, seen.stamp) = read(&self.path)?;
        }
        seen.looked = Instant::now();
        Ok(())
    }
}

fn stamp(path: &Path) -> Result<Stamp, CredentialError> {
    let metadata = fs::metadata(path).map_err(|source| CredentialError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    Ok((metadata.modified().ok(), metadata.len()))
}

/// Reads a value. The stamp is taken before, so that a change in between is seen the next time.
fn read(path: &Path) -> Result<(HeaderValue, Stamp), CredentialError> {
    let stamp = stamp(path)?;
    let shown = path.display().to_string();
    if stamp.1 > MAX_VALUE_BYTES {
        return Err(CredentialError::NotAHeader(shown));
    }
    let bytes = fs::read(path).map_err(|source| CredentialError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let value = header_value(&Secret::new(bytes), &shown)?;
    Ok((value, stamp))
}

/// The header value that a secret stands for, without the line end that editors add.
fn header_value(secret: &Secret<Vec<u8>>, origin: &str) -> Result<HeaderValue, CredentialError> {
    let bytes = secret.expose().trim_ascii();
    let refused = || CredentialError::NotAHeader(origin.to_owned());
    if bytes.is_empty() {
        return Err(refused());
    }
    let mut value = HeaderValue::from_bytes(bytes).map_err(|_| refused())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::super::policy::{Asked, Policy, Rule, decide};
    use super::*;

    #[test]
    fn a_header_that_is_set_here_replaces_the_callers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "Bearer secret-1\n").unwrap();
        let credentials = credentials(CredentialSource::File(path)).unwrap();
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, "Basic a".parse().unwrap());
        headers.append(AUTHORIZATION, "Basic b".parse().unwrap());
        credentials.apply(&permitted(), &mut headers).unwrap();
        let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
        assert_eq!(values, ["Bearer secret-1"]);
        assert!(!format!("{headers:?} {credentials:?}").contains("secret-1"));
    }

    #[test]
    fn a_file_that_changed_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "first").unwrap();
        let credentials = credentials(CredentialSource::File(path.clone())).unwrap();
        assert_eq!(value(&credentials).unwrap(), "first");
        fs::write(&path, "the second").unwrap();
        forget_the_last_look(&credentials);
        assert_eq!(value(&credentials).unwrap(), "the second");
        fs::remove_file(&path).unwrap();
        forget_the_last_look(&credentials);
        assert!(matches!(
            value(&credentials),
            Err(CredentialError::Unreadable { .. })
        ));
    }

    #[test]
    fn what_cannot_be_a_header_is_refused_without_being_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for bytes in [&b""[..], b" \n", b"se\ncret", b"se\0cret", &[b'x'; 20_000]] {
            fs::write(&path, bytes).unwrap();
            let error = credentials(CredentialSource::File(path.clone())).unwrap_err();
            assert!(matches!(error, CredentialError::NotAHeader(_)));
            assert!(!error.to_string().contains("cret"));
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let named = |source| credentials(source).unwrap_err().to_string();
        assert_eq!(
            named(CredentialSource::File("/nowhere/token".into())),
            "/nowhere/token cannot be read"
        );
        assert_eq!(
            named(CredentialSource::Environment("RELAY_TEST_UNSET".into())),
            "the environment variable \"RELAY_TEST_UNSET\" is not set"
        );
    }

    #[test]
    fn a_value_from_the_environment_is_used() {
        let credentials = credentials(CredentialSource::Environment("PATH".into())).unwrap();
        assert_eq!(
            value(&credentials).unwrap(),
            std::env::var("PATH").unwrap().as_str()
        );
    }

    fn credentials(source: CredentialSource) -> Result<Credentials, CredentialError> {
        Credentials::open(&[UpstreamConfig {
            name: "jira".parse().unwrap(),
            url: "http://localhost".parse().unwrap(),
            ca_file: None,
            set_headers: vec![(AUTHORIZATION, source)],
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            max_in_flight: 1,
            rules: Vec::new(),
        }])
    }

    fn permitted() -> Permitted {
        let rule = Rule::parse(&["GET"], "/").unwrap();
        let policy = Policy::new([("jira".parse().unwrap(), vec![rule])]);
        let path = "/".parse().unwrap();
        decide(&policy, &Asked::get("jira", &path)).unwrap()
    }

    fn value(credentials: &Credentials) -> Result<HeaderValue, CredentialError> {
        let mut headers = HeaderMap::new();
        credentials.apply(&permitted(), &mut headers)?;
        Ok(headers.remove(AUTHORIZATION).unwrap())
    }

    fn forget_the_last_look(credentials: &Credentials) {
        for header in credentials.upstreams.values().flatten() {
            if let Source::File(file) = &header.source {
                let mut seen = file.seen.lock().unwrap();
                seen.looked = Instant::now().checked_sub(LOOK_AGAIN_AFTER).unwrap();
            }
        }
    }
}
