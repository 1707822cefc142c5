//! Whether any of some files has changed, by inotify: nothing wakes the agent up while nobody writes.
//!
//! Directories are watched, since files are replaced by renaming others over them and links are turned; then the
//! files themselves are looked at. Tells that something changed, never what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout_at};

/// Files are looked at once nothing has happened for so long: editors and package managers write in several steps.
const QUIET: Duration = Duration::from_millis(300);
/// They are looked at at the latest so long after the first thing that happened.
const AT_THE_LATEST: Duration = Duration::from_secs(3);

/// Bytes of events that are read at once: a dozen of the longest.
const EVENTS_AT_ONCE: usize = 4096;

/// Some files, with how they were when they were last looked at.
pub(super) struct FileWatch {
    inotify: Inotify,
    /// The same once more, in the form in which the runtime reads it.
    events: Receiver,
    directories: BTreeMap<PathBuf, WatchDescriptor>,
    files: BTreeMap<PathBuf, Option<Look>>,
    /// Something happened since the files were last looked at.
    has_happened: bool,
}

/// What differs when a file's content or access has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    length: u64,
    /// Of the last change of any kind, in seconds and nanoseconds.
    changed: (i64, i64),
}

impl FileWatch {
    /// Watches these files, which need not be there. Must be called within a runtime.
    ///
    /// # Errors
    /// When the system has no more watches to give.
    pub(super) fn new(files: Vec<PathBuf>) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // No pipe, but read like one: there is no other safe way to wait for a descriptor.
        let events = Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        let mut watch = Self {
            inotify,
            events,
            directories: BTreeMap::new(),
            files: BTreeMap::new(),
            has_happened: false,
        };
        watch.look_at(files);
        Ok(watch)
    }

    /// Watches these files from now on. What was watched before keeps its last look, so that no change between
    /// two calls is missed.
    pub(super) fn look_at(&mut self, files: Vec<PathBuf>) {
        let before = std::mem::take(&mut self.files);
        let mut directories = BTreeSet::new();
        for file in files {
            directories.extend(directories_of(&file));
            let look = match before.get(&file) {
                Some(look) => *look,
                None => Look::at(&file),
            };
            self.files.insert(file, look);
        }
        let inotify = &self.inotify;
        self.directories.retain(|directory, descriptor| {
            let stays = directories.contains(directory);
            if !stays {
                // One whose directory is gone has gone with it.
                let _ = inotify.rm_watch(*descriptor);
            }
            stays
        });
        self.watch(directories);
    }

    fn watch(&mut self, directories: BTreeSet<PathBuf>) {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        for directory in directories {
            // A directory that is not there yet shows in the one above it. The same one twice is one watch.
            match self.inotify.add_watch(&directory, flags) {
                Ok(descriptor) => {
                    self.directories.insert(directory, descriptor);
                }
                Err(error) => {
                    tracing::debug!(directory = %directory.display(), %error, "a directory is not watched");
                }
            }
        }
    }

    /// Waits until a file has changed since it was last looked at, and is quiet again. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        loop {
            // It stays noted should nobody wait any more.
            if !self.has_happened {
                if self.happened().await.is_err() {
                    return std::future::pending().await;
                }
                self.has_happened = true;
            }
            let latest = Instant::now() + AT_THE_LATEST;
            while timeout_at(latest.min(Instant::now() + QUIET), self.happened())
                .await
                .is_ok_and(|happened| happened.is_ok())
                && Instant::now() < latest
            {}
            self.has_happened = false;
            if self.differs() {
                return;
            }
        }
    }

    /// Waits until something happens in a directory; what, does not matter.
    async fn happened(&mut self) -> io::Result<()> {
        let mut events = [0; EVENTS_AT_ONCE];
        match self.events.read(&mut events).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Looks at every file, and notes how it is now.
    fn differs(&mut self) -> bool {
        // A directory that is new, or is another one of the same name, is watched from now on.
        let directories = self.files.keys().flat_map(|file| directories_of(file));
        let directories = directories.collect();
        self.watch(directories);
        let mut differs = false;
        for (file, look) in &mut self.files {
            let now = Look::at(file);
            differs |= now != *look;
            *look = now;
        }
        differs
    }
}

impl Look {
    /// How a file is now; nothing when it is not there.
    fn at(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Where a change of a file shows: its directory, and itself if it is one; of a link, also where it leads.
fn directories_of(file: &Path) -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = file.parent().map(Path::to_owned).into_iter().collect();
    if file.is_dir() {
        directories.push(file.to_owned());
    }
    if let Ok(target) = fs::canonicalize(file) {
        directories.extend(target.parent().map(Path::to_owned));
    }
    directories
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    /// Watches `names` of a directory, does something, and says whether that was noticed. What is not noticed is
    /// told from what comes late by a change that is.
    async fn notices(names: &[&str], before: impl FnOnce(&Path), act: impl FnOnce(&Path)) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        before(at);
        let sentinel = at.join("sentinel");
        let mut files: Vec<PathBuf> = names.iter().map(|name| at.join(name)).collect();
        files.push(sentinel.clone());
        let mut watch = FileWatch::new(files.clone()).unwrap();
        act(at);
        let differs_by = |watch: &FileWatch| {
            files
                .iter()
                .any(|file| *file != sentinel && Look::at(file) != watch.files[file])
        };
        let noticed = differs_by(&watch);
        if !noticed {
            fs::write(&sentinel, "x").unwrap();
        }
        tokio::time::timeout(DEADLINE, watch.changed())
            .await
            .unwrap();
        noticed
    }

    #[tokio::test]
    async fn writing_replacing_removing_and_allowing_are_changes() {
        let write = |name: &'static str, text: &'static str| {
            move |at: &Path| fs::write(at.join(name), text).unwrap()
        };
        assert!(notices(&["a"], write("a", "1"), write("a", "22")).await);
        assert!(notices(&["a"], |_| (), write("a", "1")).await);
        let rename = |at: &Path| {
            fs::write(at.join("new"), "1").unwrap();
            fs::rename(at.join("new"), at.join("a")).unwrap();
        };
        assert!(notices(&["a"], write("a", "1"), rename).await);
        assert!(
            notices(&["a"], write("a", "1"), |at| fs::remove_file(at.join("a"))
                .unwrap())
            .await
        );
    }

    #[tokio::test]
    async fn a_link_that_is_turned_and_a_file_in_a_watched_directory_are_changes() {
        let links = |at: &Path| {
            fs::write(at.join("one"), "1").unwrap();
            fs::write(at.join("two"), "1").unwrap();
            symlink("one", at.join("a")).unwrap();
        };
        let turn = |at: &Path| {
            symlink("two", at.join("next")).unwrap();
            fs::rename(at.join("next"), at.join("a")).unwrap();
        };
        assert!(notices(&["a"], links, turn).await);
        let make = |at: &Path| fs::create_dir(at.join("a.d")).unwrap();
        let fill = |at: &Path| fs::write(at.join("a.d/1.toml"), "").unwrap();
        assert!(notices(&["a.d"], make, fill).await);
    }

    #[tokio::test]
    async fn what_happens_to_other_files_is_no_change() {
        let other = |at: &Path| fs::write(at.join("other"), "1").unwrap();
        assert!(!notices(&["a"], |_| (), other).await);
    }
}
