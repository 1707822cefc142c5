//! How much room a file system has left, so that somebody hears of it before nothing can be written.
//!
//! Asks for what the kernel has in memory; never writes, and never looks into a directory. [`Disks`] asks without
//! holding up who wants to know.

mod disks;

use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};

pub use self::disks::{Disks, Seen, Silent};

/// Nearly full is a file system with less than a twentieth left …
const SHORT_PART: u64 = 20;
/// … and less than this: of a large disk a twentieth is plenty. Two million calls' lines in the audit log.
const SHORT_BYTES: u64 = 1024 * 1024 * 1024;

/// A directory that the program writes to, and the room there is. Part of the stable status formats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// The directory.
    pub directory: String,
    /// What the program may still write there, in bytes.
    pub free_bytes: u64,
    /// The size of its file system, in bytes.
    pub size_bytes: u64,
}

impl Room {
    /// Of the file system that a directory is on. Waits for as long as that does not answer, which for one on a
    /// network may be without end.
    ///
    /// # Errors
    /// What the system says: it is not there.
    fn of(directory: &Path) -> io::Result<Self> {
        let found = statvfs(directory)?;
        let unit = found.fragment_size();
        Ok(Self {
            directory: directory.display().to_string(),
            free_bytes: found.blocks_available().saturating_mul(unit),
            size_bytes: found.blocks().saturating_mul(unit),
        })
    }

    /// Whether somebody should make room soon.
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.free_bytes < self.size_bytes / SHORT_PART && self.free_bytes < SHORT_BYTES
    }

    /// What is left, in words: `310 MiB of 40 GiB are left`.
    #[must_use]
    pub fn left(&self) -> String {
        format!(
            "{} of {} are left",
            in_words(self.free_bytes),
            in_words(self.size_bytes)
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

    fn room(free_bytes: u64, size_bytes: u64) -> Room {
        Room {
            directory: "/d".to_owned(),
            free_bytes,
            size_bytes,
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
    fn the_room_is_that_of_a_file_system_there_is() {
        let here = std::env::temp_dir();
        let room = Room::of(&here).unwrap();
        assert!(room.size_bytes >= room.free_bytes && room.size_bytes > 0);
        assert!(Room::of(&here.join("there is no such directory")).is_err());
    }
}
