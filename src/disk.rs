//! How much room a file system has left, so that somebody hears of it before nothing can be written.
//!
//! Reads what the kernel has in memory; never writes, and never looks into a directory.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

/// Nearly full is a file system with less than a twentieth left …
const SHORT_PART: u64 = 20;
/// … and less than this: of a large disk a twentieth is plenty. Two million calls' lines in the audit log.
const SHORT_BYTES: u64 = 1024 * 1024 * 1024;

/// A directory that the program writes to, and the room there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The directory.
    pub directory: PathBuf,
    /// What the program may still write, in bytes.
    pub free: u64,
    /// The size of the file system, in bytes.
    pub size: u64,
}

impl Room {
    /// Of the file system that a directory is on.
    ///
    /// # Errors
    /// What the system says: it is not there.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let found = statvfs(directory)?;
        let unit = found.fragment_size();
        Ok(Self {
            directory: directory.to_owned(),
            free: found.blocks_available().saturating_mul(unit),
            size: found.blocks().saturating_mul(unit),
        })
    }

    /// Of the file systems of some directories, each directory once; of those that cannot be looked at, nothing.
    pub fn of_all<'a>(directories: impl IntoIterator<Item = &'a Path>) -> Vec<Self> {
        let mut rooms: Vec<Self> = Vec::new();
        for directory in directories {
            let is_known = rooms.iter().any(|room| room.directory == directory);
            if let Some(room) = Self::of(directory).ok().filter(|_| !is_known) {
                rooms.push(room);
            }
        }
        rooms
    }

    /// Whether somebody should make room soon.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.free < self.size / SHORT_PART && self.free < SHORT_BYTES
    }

    /// What is left, in words: `310 MiB of 40 GiB are left`.
    #[must_use]
    pub fn left(&self) -> String {
        format!(
            "{} of {} are left",
            in_words(self.free),
            in_words(self.size)
        )
    }
}

/// A number of bytes in the largest unit of which there are some.
fn in_words(bytes: u64) -> String {
    const KIB: u64 = 1024;
    for (unit, name) in [(KIB * KIB * KIB, "GiB"), (KIB * KIB, "MiB"), (KIB, "KiB")] {
        if bytes >= unit {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1024 * 1024 * 1024;

    fn room(free: u64, size: u64) -> Room {
        Room {
            directory: PathBuf::from("/d"),
            free,
            size,
        }
    }

    #[test]
    fn a_disk_is_nearly_full_when_little_is_left_by_its_size_and_by_what_is_written() {
        for (free, size, is_short) in [
            (GIB / 4, 40 * GIB, true),
            (3 * GIB, 100 * GIB, false),
            (GIB / 4, GIB, false),
            (0, 64 * 1024, true),
            (2 * GIB, 10_000 * GIB, false),
        ] {
            assert_eq!(room(free, size).is_short(), is_short, "{free} of {size}");
        }
        assert_eq!(room(GIB / 4, 40 * GIB).left(), "256 MiB of 40 GiB are left");
        assert_eq!(room(12, 2048).left(), "12 bytes of 2 KiB are left");
    }

    #[test]
    fn the_room_is_that_of_a_file_system_there_is_and_each_directory_is_told_once() {
        let here = std::env::temp_dir();
        let nowhere = here.join("there is no such directory");
        let rooms = Room::of_all([here.as_path(), &nowhere, &here]);
        assert_eq!(rooms.len(), 1);
        assert!(rooms[0].size >= rooms[0].free && rooms[0].size > 0);
    }
}
