//! A journal of a test's own: takes what daemons send to the system's, in a mount namespace where it is the system's.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::net::UnixDatagram;
use tokio_util::task::AbortOnDropHandle;

use super::program::{Daemon, run};
use super::wait_until;

/// Makes the directory that is its first argument the journal's, and becomes the program that follows.
const IN_ITS_PLACE: &str = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                            mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";
const UNSHARE: &str = "/usr/bin/unshare";
/// Longer than any entry of ours.
const MAX_ENTRY: usize = 256 * 1024;

/// A journal, until it is dropped.
pub(crate) struct Journal {
    directory: PathBuf,
    entries: Arc<Mutex<Vec<Vec<u8>>>>,
    _reading: AbortOnDropHandle<()>,
}

impl Journal {
    /// One in this directory; nothing, and loudly, where the machine lets nobody make one.
    pub(crate) async fn new(directory: &Path) -> Option<Self> {
        let mut probe = arguments(directory);
        probe.push("/bin/true".to_owned());
        let probe: Vec<&str> = probe.iter().map(String::as_str).collect();
        if !Path::new(UNSHARE).exists() || run(UNSHARE, &probe).await.code != 0 {
            eprintln!(
                "SKIPPED: no mount namespace can be made here, so nothing is sent to a journal"
            );
            return None;
        }
        let socket = UnixDatagram::bind(directory.join("socket")).unwrap();
        let entries = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&entries);
        let reading = tokio::spawn(async move {
            let mut entry = vec![0; MAX_ENTRY];
            loop {
                let length = socket.recv(&mut entry).await.unwrap();
                taken.lock().unwrap().push(entry[..length].to_vec());
            }
        });
        Some(Self {
            directory: directory.to_owned(),
            entries,
            _reading: AbortOnDropHandle::new(reading),
        })
    }

    /// Starts a daemon that has this journal.
    pub(crate) fn daemon(
        &self,
        program: &'static str,
        more: &[&str],
        log: &Path,
        environment: &[(&str, &str)],
    ) -> Daemon {
        let mut all = arguments(&self.directory);
        all.push(program.to_owned());
        all.extend(more.iter().map(|&argument| argument.to_owned()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Daemon::start_with(UNSHARE, &all, log, environment)
    }

    /// Every entry so far, as it was sent.
    pub(crate) fn entries(&self) -> Vec<Vec<u8>> {
        self.entries.lock().unwrap().clone()
    }

    /// Waits for an entry whose message has this text; returns the first with its fields.
    pub(crate) async fn until_said(&self, message: &str) -> Entry {
        let mut found = None;
        wait_until(message, async || {
            let entries = self.entries();
            let read = entries.iter().map(|entry| Entry::read(entry));
            found = read
                .into_iter()
                .find(|entry| entry.field("MESSAGE").contains(message));
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}

/// One entry: names and values.
#[derive(Debug)]
pub(crate) struct Entry(Vec<(String, String)>);

impl Entry {
    /// Reads the journal's own protocol: `NAME=value`, or the name, the value's length in eight bytes, and the value.
    fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
            let line = std::str::from_utf8(&bytes[..end]).unwrap();
            bytes = &bytes[end + 1..];
            if let Some((name, value)) = line.split_once('=') {
                fields.push((name.to_owned(), value.to_owned()));
                continue;
            }
            let (length, rest) = bytes.split_at(8);
            let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
            let value = String::from_utf8(rest[..length].to_vec()).unwrap();
            fields.push((line.to_owned(), value));
            bytes = &rest[length + 1..];
        }
        Self(fields)
    }

    /// A field's value, or the empty text.
    pub(crate) fn field(&self, name: &str) -> &str {
        let mut fields = self.0.iter();
        fields
            .find(|(other, _)| other == name)
            .map_or("", |(_, value)| value)
    }
}

/// Of `unshare`, up to the program.
fn arguments(directory: &Path) -> Vec<String> {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let as_root = (!is_root).then_some("--map-root-user");
    let directory = directory.to_str().unwrap();
    let all = as_root
        .into_iter()
        .chain(["--mount", "/bin/sh", "-c", IN_ITS_PLACE, directory]);
    all.map(str::to_owned).collect()
}
