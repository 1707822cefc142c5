//! Looks at the file systems that a program writes to, without ever waiting for one that does not answer.
//!
//! Each look is on a thread of its own, which ends with it; a file system whose look is still under way is not looked
//! at again. So a dead one costs one thread, and who asks a bounded time once.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Room;

/// How long a look may take before the disk is said not to answer. The kernel has the figures of a local disk in memory;
/// a file server that is well answers within milliseconds, one that fails over within seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// The file systems that some directories are on.
pub struct Disks {
    disks: Vec<Disk>,
    look: Arc<Looking>,
}

/// How a directory's file system is looked at; may never return.
type Looking = dyn Fn(&Path) -> io::Result<Room> + Send + Sync;

/// What a look at all of them showed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Those that answered.
    pub rooms: Vec<Room>,
    /// Those that did not.
    pub silent: Vec<Silent>,
}

/// A directory whose file system cannot be looked at. Part of the stable status formats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silent {
    /// The directory.
    pub directory: String,
    /// Since when, as far as is known.
    pub since: String,
    /// What the system says.
    pub why: String,
}

struct Disk {
    directory: PathBuf,
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the look that is under way began.
    began: Option<(Instant, SystemTime)>,
    /// What the last one that ended showed.
    found: Option<Result<Room, Failed>>,
}

#[derive(Debug, Clone)]
struct Failed {
    since: SystemTime,
    why: String,
}

impl Disks {
    /// Of these directories, each once.
    #[must_use]
    pub fn of(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::looked_at_by(directories, Room::of)
    }

    /// The same, looked at in another way.
    fn looked_at_by(
        directories: impl IntoIterator<Item = PathBuf>,
        look: impl Fn(&Path) -> io::Result<Room> + Send + Sync + 'static,
    ) -> Self {
        let mut disks: Vec<Disk> = Vec::new();
        for directory in directories {
            if disks.iter().all(|disk| disk.directory != directory) {
                let (state, _) = watch::channel(State::default());
                disks.push(Disk { directory, state });
            }
        }
        Self {
            disks,
            look: Arc::new(look),
        }
    }

    /// Looks at all of them. Who asks while a look is under way shares its result. Cancel-safe: a look that nobody
    /// waits for any more is finished all the same.
    pub async fn look(&self) -> Seen {
        for disk in &self.disks {
            self.begin(disk);
        }
        let mut seen = Seen::default();
        for disk in &self.disks {
            match disk.found().await {
                Ok(room) => seen.rooms.push(room),
                Err(failed) => seen.silent.push(Silent {
                    directory: disk.directory.display().to_string(),
                    since: humantime::format_rfc3339_seconds(failed.since).to_string(),
                    why: failed.why,
                }),
            }
        }
        seen
    }

    fn begin(&self, disk: &Disk) {
        let begins = disk.state.send_if_modified(|state| {
            let begins = state.began.is_none();
            if begins {
                state.began = Some((Instant::now(), SystemTime::now()));
            }
            begins
        });
        if begins {
            let (look, directory) = (Arc::clone(&self.look), disk.directory.clone());
            let state = disk.state.clone();
            // Not one of the runtime's, which would wait ten seconds for more to do, and for ever where something is the
            // matter and is looked after every five.
            let looking = thread::Builder::new().name("disk".to_owned());
            let begun = looking.spawn(move || {
                let found = look(&directory);
                state.send_modify(|state| state.take(found));
            });
            if let Err(error) = begun {
                disk.state.send_modify(|state| state.take(Err(error)));
            }
        }
    }
}

impl fmt::Debug for Disks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directories = self.disks.iter().map(|disk| &disk.directory);
        f.debug_list().entries(directories).finish()
    }
}

impl Disk {
    /// What the look that is under way shows, if it ends in time; one that should have ended long ago is not waited for.
    async fn found(&self) -> Result<Room, Failed> {
        let mut states = self.state.subscribe();
        let began = self.state.borrow().began;
        if let Some((began, since)) = began {
            let ended = states.wait_for(|state| state.began.is_none());
            if timeout_at(began + ANSWERS_WITHIN, ended).await.is_err() {
                return Err(Failed {
                    since,
                    why: "it does not say how much room it has".to_owned(),
                });
            }
        }
        let state = self.state.borrow();
        match &state.found {
            Some(found) => found.clone(),
            // There is always one once a look has ended.
            None => Err(Failed {
                since: SystemTime::now(),
                why: "it was not looked at".to_owned(),
            }),
        }
    }
}

impl State {
    fn take(&mut self, found: io::Result<Room>) {
        self.began = None;
        let failing_since = match &self.found {
            Some(Err(failed)) => Some(failed.since),
            Some(Ok(_)) | None => None,
        };
        self.found = Some(found.map_err(|error| Failed {
            since: failing_since.unwrap_or_else(SystemTime::now),
            why: error.to_string(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    fn room(directory: &Path) -> Room {
        Room {
            directory: directory.display().to_string(),
            free_bytes: 1,
            size_bytes: 2,
        }
    }

    #[tokio::test]
    async fn each_directory_is_told_once_and_one_that_is_not_there_with_the_reason() {
        let here = std::env::temp_dir();
        let nowhere = here.join("there is no such directory");
        let disks = Disks::of([here.clone(), nowhere.clone(), here.clone()]);
        let first = disks.look().await;
        let [room] = first.rooms.as_slice() else {
            panic!("{first:?}")
        };
        assert_eq!(room.directory, here.display().to_string());
        let [silent] = first.silent.as_slice() else {
            panic!("{first:?}")
        };
        assert_eq!(silent.directory, nowhere.display().to_string());
        assert!(silent.why.contains("No such file"), "{silent:?}");
        // Since the first look that failed.
        let mut state = disks.disks[1].state.subscribe();
        state.mark_unchanged();
        disks.disks[1].state.send_modify(|state| {
            let since = SystemTime::UNIX_EPOCH;
            let why = String::new();
            state.found = Some(Err(Failed { since, why }));
        });
        let later = disks.look().await;
        assert_eq!(later.silent[0].since, "1970-01-01T00:00:00Z");
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_holds_up_nobody_is_asked_once_and_hides_no_other() {
        let (answer, answers) = mpsc::channel::<()>();
        let answers = Mutex::new(answers);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let disks = Disks::looked_at_by(
            [PathBuf::from("/dead"), PathBuf::from("/well")],
            move |directory| {
                if directory == Path::new("/dead") {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let _ = answers.lock().unwrap().recv_timeout(DEADLINE);
                }
                Ok(room(directory))
            },
        );
        for _ in 0..3 {
            let seen = tokio::time::timeout(DEADLINE / 2, disks.look());
            let seen = seen.await.unwrap();
            assert_eq!(seen.rooms, [room(Path::new("/well"))]);
            assert_eq!(seen.silent.len(), 1);
            assert_eq!(seen.silent[0].directory, "/dead");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        // From now on it answers at once.
        drop(answer);
        let comes_back = async {
            while !disks.look().await.silent.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE / 2, comes_back)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn who_asks_while_a_look_is_under_way_shares_it() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let (answer, answers) = mpsc::channel::<()>();
        let answers = Mutex::new(answers);
        let disks = Disks::looked_at_by([PathBuf::from("/d")], move |directory| {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = answers.lock().unwrap().recv_timeout(DEADLINE);
            Ok(room(directory))
        });
        let later = async {
            // Both have asked by now: they are polled in this order.
            answer.send(()).unwrap();
        };
        let (one, two, ()) = tokio::join!(disks.look(), disks.look(), later);
        assert_eq!((one.rooms.len(), &one), (1, &two));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
