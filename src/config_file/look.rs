//! How files are, so that a change of one can be told: taken before a file is read, never after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Some files, each with how it was when it was looked at; nothing where it was not there.
pub type Looks = BTreeMap<PathBuf, Option<Look>>;

/// What differs when a file's content or access has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    device: u64,
    inode: u64,
    length: u64,
    /// Of the last change of any kind, in seconds and nanoseconds.
    changed: (i64, i64),
}

impl Look {
    /// How a file is now; nothing when it is not there.
    #[must_use]
    pub fn at(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// How each of these files is now.
    #[must_use]
    pub fn at_each(files: impl IntoIterator<Item = PathBuf>) -> Looks {
        let look = |file: PathBuf| {
            let look = Self::at(&file);
            (file, look)
        };
        files.into_iter().map(look).collect()
    }
}
