//! The files that were put aside: `audit.jsonl.000000012345` holds the lines up to number 12345.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::tail::{self, Tail};
use super::{FileError, directory_of};
use crate::agent::audit::chain::Head;

/// Digits of the number in a name, so that names sort as their numbers do for longer than any log lives.
const DIGITS: usize = 12;

/// Files of a former chain whose numbers a new chain comes to again, each with `-1`, `-2` and so on.
const NAMESAKES: usize = 99;

/// Files that are to be removed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::agent::audit) struct Doomed {
    /// The last of their lines.
    pub through: u64,
    /// The files, the oldest first.
    pub files: Vec<PathBuf>,
}

/// Every file of a log that is there, in the order of its lines: those put aside, then the log itself.
///
/// # Errors
/// When the directory cannot be read.
pub fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<_> = numbered(path)?.into_iter().map(|(_, file)| file).collect();
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// The head of the chain at the end of the latest file that was put aside.
pub(super) fn last_head(path: &Path) -> Result<Option<Head>, FileError> {
    let numbered = numbered(path).map_err(FileError::io("list the files beside", path))?;
    let Some((_, latest)) = numbered.last() else {
        return Ok(None);
    };
    let file = File::open(latest).map_err(FileError::io("open", latest))?;
    let length = file.metadata().map(|metadata| metadata.len());
    let length = length.map_err(FileError::io("look at", latest))?;
    let tail = tail::read(&file, length).map_err(FileError::io("read", latest))?;
    Ok(match tail {
        Tail::Whole(head) => Some(head),
        Tail::Torn(torn) => Some(torn.head),
        Tail::Empty => None,
        Tail::Foreign => return Err(FileError::Foreign(latest.clone())),
    })
}

/// Gives the log the name of those put aside. Never takes the place of another file.
pub(super) fn put_aside(path: &Path, head: Head) -> Result<(), FileError> {
    let taken = io::Error::from(io::ErrorKind::AlreadyExists);
    let mut put = Err(taken);
    for namesake in 0..=NAMESAKES {
        let mut target = path.as_os_str().to_owned();
        target.push(match namesake {
            0 => format!(".{:0DIGITS$}", head.sequence),
            _ => format!(".{:0DIGITS$}-{namesake}", head.sequence),
        });
        // A link, since it fails where something has that name, which a renaming would replace.
        put = fs::hard_link(path, &target);
        match &put {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(()) | Err(_) => break,
        }
        if is_same(path, Path::new(&target)) {
            // A former try came so far, and no further.
            put = Ok(());
            break;
        }
    }
    put.and_then(|()| fs::remove_file(path))
        .map_err(FileError::io("rotate", path))
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

/// The oldest, without which `keep` remain.
pub(super) fn oldest(path: &Path, keep: usize) -> Result<Option<Doomed>, FileError> {
    let numbered = numbered(path).map_err(FileError::io("list the files beside", path))?;
    let count = numbered.len().saturating_sub(keep);
    let mut oldest = numbered;
    oldest.truncate(count);
    Ok(oldest
        .last()
        .map(|(through, _)| *through)
        .map(|through| Doomed {
            through,
            files: oldest.into_iter().map(|(_, file)| file).collect(),
        }))
}

impl Doomed {
    /// Removes them, the oldest first. One that cannot be removed is counted again at the next rotation.
    ///
    /// # Errors
    /// When the system refuses.
    pub(in crate::agent::audit) fn remove(&self) -> Result<(), FileError> {
        for file in &self.files {
            match fs::remove_file(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(FileError::io("remove", file))?,
            }
        }
        Ok(())
    }
}

/// The files put aside, with the number of the last line of each, the oldest first.
fn numbered(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory_of(path))? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|entry| {
            let digits = entry.strip_prefix(name)?.strip_prefix('.')?;
            let (digits, namesake) = digits.split_once('-').unwrap_or((digits, "0"));
            let is_number = |text: &str| text.bytes().all(|it| it.is_ascii_digit());
            let is_ours = digits.len() >= DIGITS && is_number(digits) && is_number(namesake);
            is_ours.then(|| digits.parse().ok()).flatten()
        });
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}
