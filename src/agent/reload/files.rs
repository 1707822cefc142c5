//! Whether any of some files has changed, by inotify: nothing wakes the agent up while nobody writes.
//!
//! Directories are watched, since files are replaced by renaming others over them and links are turned; then the
//! files themselves are looked at. Tells that something changed, never what.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::config_file::{Look, Looks};

/// Files are looked at once nothing has happened for so long: editors and package managers write in several steps.
const QUIET: Duration = Duration::from_millis(300);
/// They are looked at at the latest so long after the first thing that happened.
const AT_THE_LATEST: Duration = Duration::from_secs(3);

/// Bytes of events that are read at once: a dozen of the longest.
const EVENTS_AT_ONCE: usize = 4096;
/// Reads in one go; what is left after them is read in the next. More than a full queue of the system's takes.
const MOST_READS: usize = 1024;

/// Some files, with how they were when they were last looked at.
pub(super) struct FileWatch {
    inotify: Inotify,
    /// The same once more, in the form in which the runtime reads it.
    events: Receiver,
    directories: BTreeMap<PathBuf, WatchDescriptor>,
    files: Looks,
    /// Something may have happened since the files were last looked at.
    has_happened: bool,
}

impl FileWatch {
    /// Watches these files, which need not be there, for a change since they were looked at. Must be called within a
    /// runtime.
    ///
    /// # Errors
    /// When the system has no more watches to give.
    pub(super) fn new(files: Looks) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // No pipe, but read like one: there is no other safe way to wait for a descriptor.
        let events = Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        let mut watch = Self {
            inotify,
            events,
            directories: BTreeMap::new(),
            files: Looks::new(),
            has_happened: false,
        };
        watch.look_at(files);
        Ok(watch)
    }

    /// Watches these files from now on, for a change since they were looked at.
    pub(super) fn look_at(&mut self, files: Looks) {
        self.files = files;
        // They may have changed before they were watched.
        self.has_happened = true;
        let directories = self.directories_now();
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

    /// Where a change of any of the files shows now.
    fn directories_now(&self) -> BTreeSet<PathBuf> {
        let files = self.files.keys();
        files.flat_map(|file| directories_of(file)).collect()
    }

    fn watch(&mut self, mut directories: BTreeSet<PathBuf>) {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        loop {
            for directory in &directories {
                // The same one twice is one watch.
                match self.inotify.add_watch(directory, flags) {
                    Ok(descriptor) => {
                        self.directories.insert(directory.clone(), descriptor);
                    }
                    Err(error) => {
                        tracing::debug!(directory = %directory.display(), %error, "a directory is not watched");
                    }
                }
            }
            // One that was made meanwhile shows in none of them; rarely more than once.
            let now = self.directories_now();
            if now == directories {
                return;
            }
            directories = now;
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

    /// Waits until something happens in a directory; what, does not matter, nor whether the system lost count of it.
    /// Cancel-safe.
    async fn happened(&self) -> io::Result<()> {
        self.events.readable().await?;
        let mut events = [0; EVENTS_AT_ONCE];
        // To the last one: an event that is like the last one in the queue wakes nobody up. A read that is not full says
        // nothing, since the next event may be too long for the rest.
        for _ in 0..MOST_READS {
            match self.events.try_read(&mut events) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks at every file, and notes how it is now.
    fn differs(&mut self) -> bool {
        // A directory that is new, or is another one of the same name, is watched from now on.
        self.watch(self.directories_now());
        let mut differs = false;
        for (file, look) in &mut self.files {
            let now = Look::at(file);
            differs |= now != *look;
            *look = now;
        }
        differs
    }
}

/// Where a change of a file shows: its directory, or what is there of the way to it, and itself if it is one; of a
/// link, also where it leads.
fn directories_of(file: &Path) -> Vec<PathBuf> {
    let above = file.ancestors().skip(1).find(|above| above.is_dir());
    let mut directories: Vec<PathBuf> = above.map(Path::to_owned).into_iter().collect();
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

    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(120);

    /// Watches `names` of a directory, does something, and says whether that was noticed. What is not noticed is
    /// told from what comes late by a change that is.
    async fn notices(names: &[&str], before: impl FnOnce(&Path), act: impl FnOnce(&Path)) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        before(at);
        let sentinel = at.join("sentinel");
        let mut files: Vec<PathBuf> = names.iter().map(|name| at.join(name)).collect();
        files.push(sentinel.clone());
        let mut watch = FileWatch::new(Look::at_each(files.clone())).unwrap();
        // What is noticed is to be noticed by what happens.
        watch.has_happened = false;
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
        timeout(DEADLINE, watch.changed()).await.unwrap();
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

    #[tokio::test]
    async fn a_change_between_the_look_and_the_watch_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        fs::write(&file, "1").unwrap();
        let looks = Look::at_each([file.clone()]);
        fs::write(&file, "22").unwrap();
        let mut watch = FileWatch::new(looks).unwrap();
        timeout(DEADLINE, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_whose_directories_are_not_there_yet_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("b/c/a");
        let mut watch = FileWatch::new(Look::at_each([file.clone()])).unwrap();
        watch.has_happened = false;
        fs::create_dir(directory.path().join("b")).unwrap();
        let still_nothing = timeout(2 * QUIET, watch.changed()).await;
        assert!(still_nothing.is_err());
        fs::create_dir(directory.path().join("b/c")).unwrap();
        fs::write(&file, "1").unwrap();
        timeout(DEADLINE, watch.changed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_after_more_events_than_one_read_takes_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        fs::write(&file, "1").unwrap();
        let mut watch = FileWatch::new(Look::at_each([file.clone()])).unwrap();
        watch.has_happened = false;
        for number in 0..200 {
            // Long enough that no whole number of events fills a read.
            let name = format!("another-file-of-the-number-{number:04}");
            fs::write(directory.path().join(name), "1").unwrap();
        }
        // The last event in the queue, and like the one that follows: the system joins the two while it is unread.
        fs::write(&file, "22").unwrap();
        timeout(DEADLINE, watch.changed()).await.unwrap();
        fs::write(&file, "333").unwrap();
        timeout(DEADLINE, watch.changed()).await.unwrap();
    }
}
