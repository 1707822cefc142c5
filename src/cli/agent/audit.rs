//! `agent audit verify`: whether the audit log is whole. Works without the daemon, and on copies.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Place;
use crate::agent::audit::{Finding, Verified, Verifier, files_of};
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::{print, print_json};
use crate::error_chain::chain;

/// A line that the daemon is writing at this moment is whole so soon after.
const WRITING: Duration = Duration::from_millis(200);
/// Looks at a last line that is not finished, before it is taken for torn.
const LOOKS: usize = 5;
/// Looks at files of which the daemon puts one aside, or removes one, meanwhile: more often than anybody rotates.
const LISTINGS: usize = 50;

/// `agent audit …`.
#[derive(Debug, Subcommand)]
pub(super) enum Audit {
    /// Check that no line of the audit log was changed, cut out or lost
    Verify(Verify),
}

/// `agent audit verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Files of one log, in any order [default: the configured file and all that were put aside]
    files: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) async fn carry_out(self, place: &Place) -> Result<(), Failure> {
        match self {
            Self::Verify(verify) => verify.carry_out(place).await,
        }
    }
}

impl Verify {
    async fn carry_out(self, place: &Place) -> Result<(), Failure> {
        let is_complete = self.files.is_empty();
        let list = || match is_complete {
            true => configured(place),
            false => in_order(&self.files),
        };
        let (found, files) = look(list, is_complete).await?;
        match found {
            Err((file, finding)) => Err(failure(&file, &finding)),
            Ok(verified) if self.json => print_json(&json(&verified, files)),
            Ok(verified) => {
                print(&describe(&verified, files));
                Ok(())
            }
        }
    }
}

/// What is found in the listed files, and how many they are. The daemon may be caught in the middle of a line, or of
/// putting a file aside: nothing is told of files that are others a moment later.
async fn look(
    mut list: impl FnMut() -> Result<Vec<PathBuf>, Failure>,
    is_complete: bool,
) -> Result<(Result<Verified, (PathBuf, Finding)>, usize), Failure> {
    let (mut looks, mut listings) = (0, 0);
    let mut files = identified(list()?);
    loop {
        let found = verify(&files, is_complete);
        let Err((_, finding)) = &found else {
            return Ok((found, files.len()));
        };
        tokio::time::sleep(WRITING).await;
        let now = identified(list()?);
        listings += 1;
        looks += 1;
        let is_changing = now != files && listings < LISTINGS;
        let is_written = matches!(finding, Finding::Unfinished { .. }) && looks < LOOKS;
        if !is_changing && !is_written {
            return Ok((found, files.len()));
        }
        files = now;
    }
}

/// Files with what tells each from another of the same name.
fn identified(files: Vec<PathBuf>) -> Vec<(PathBuf, Option<(u64, u64)>)> {
    let identity = |file: &PathBuf| {
        let metadata = fs::metadata(file).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    files
        .into_iter()
        .map(|file| {
            let identity = identity(&file);
            (file, identity)
        })
        .collect()
}

/// Every file of the configured log.
fn configured(place: &Place) -> Result<Vec<PathBuf>, Failure> {
    let file = place.read_config()?.audit.file;
    let unreadable = |error| failure(&file, &Finding::Io(error));
    let files = files_of(&file).map_err(unreadable)?;
    match files.is_empty() {
        true => Err(failure(&file, &Finding::Empty)),
        false => Ok(files),
    }
}

/// The files by the numbers of their first lines.
fn in_order(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut numbered = Vec::new();
    for file in files {
        let unreadable = |error| failure(file, &Finding::Io(error));
        let lines = BufReader::new(File::open(file).map_err(unreadable)?);
        let first = Verifier::first_of(lines).map_err(unreadable)?;
        numbered.push((first, file.clone()));
    }
    numbered.sort();
    Ok(numbered.into_iter().map(|(_, file)| file).collect())
}

/// Follows the chain through all files.
fn verify(
    files: &[(PathBuf, Option<(u64, u64)>)],
    is_complete: bool,
) -> Result<Verified, (PathBuf, Finding)> {
    let mut verifier = Verifier::default();
    for (file, _) in files {
        let opened = File::open(file).map_err(Finding::Io);
        let followed = opened.and_then(|opened| verifier.file(BufReader::new(opened)));
        followed.map_err(|finding| (file.clone(), finding))?;
    }
    let first = files.first().map(|(file, _)| file.clone());
    verifier
        .finish(is_complete)
        .map_err(|finding| (first.unwrap_or_default(), finding))
}

fn failure(file: &Path, finding: &Finding) -> Failure {
    let (code, remedy) = match finding {
        Finding::Io(_) => (
            ExitCode::Unavailable,
            "Run it as the agent's user or as root, or on a copy.",
        ),
        Finding::Flawed { .. }
        | Finding::Unfinished { .. }
        | Finding::Gap { .. }
        | Finding::Broken { .. }
        | Finding::BeginningMissing { .. }
        | Finding::Empty => (
            ExitCode::BadData,
            "Keep the files as they are, and compare them with copies, with the journal, or with heads that were noted elsewhere.",
        ),
    };
    Failure::new(
        code,
        format!("{}: {}", file.display(), chain(finding)),
        remedy,
    )
}

fn describe(verified: &Verified, files: usize) -> String {
    let Verified {
        head,
        first,
        lines: _,
        pruned,
        torn,
    } = verified;
    let mut text = format!(
        "The log is whole: lines {first} to {} in {files} {}.\n",
        head.sequence,
        if files == 1 { "file" } else { "files" }
    );
    match pruned {
        Some(through) if through + 1 == *first => {
            text.push_str(&format!(
                "Rotation removed lines 1 to {through}, as the log itself says.\n"
            ));
        }
        _ if *first > 1 => {
            text.push_str(&format!(
                "Lines 1 to {} are not in these files.\n",
                first - 1
            ));
        }
        _ => {}
    }
    if *torn > 0 {
        text.push_str(&format!(
            "A crash left something that is no line at {torn} {}; it is there still, and the log tells of it.\n",
            if *torn == 1 { "place" } else { "places" }
        ));
    }
    text.push_str(&format!(
        "Head: line {}, hash {}\n",
        head.sequence, head.hash
    ));
    text.push_str(
        "Lines cut off the end do not show here: the head must be that of `agent status`, or later than the last one noted elsewhere.\n",
    );
    text
}

fn json(verified: &Verified, files: usize) -> serde_json::Value {
    serde_json::json!({
        "first": verified.first,
        "lines": verified.lines,
        "files": files,
        "pruned_through": verified.pruned,
        "torn": verified.torn,
        "line": verified.head.sequence,
        "hash": verified.head.hash.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../../tests/vectors/audit/chain.jsonl");

    #[tokio::test]
    async fn a_rotation_in_the_middle_of_a_look_is_no_gap() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("a.jsonl");
        let aside = directory.path().join("a.jsonl.000000000004");
        // Line 6 says that those up to the third were removed.
        let (end, _) = GOLDEN.match_indices('\n').nth(3).unwrap();
        let (first, rest) = GOLDEN.split_at(end + 1);
        fs::write(&log, first).unwrap();
        let mut has_rotated = false;
        let list = || {
            let files = files_of(&log).unwrap();
            if !std::mem::replace(&mut has_rotated, true) {
                fs::rename(&log, &aside).unwrap();
                fs::write(&log, rest).unwrap();
            }
            Ok(files)
        };
        let (found, files) = look(list, true).await.unwrap();
        assert_eq!((found.unwrap().lines, files), (8, 2));
    }

    #[tokio::test]
    async fn a_gap_that_stays_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("a.jsonl");
        let mut lines: Vec<_> = GOLDEN.lines().collect();
        lines.remove(1);
        fs::write(&log, lines.join("\n") + "\n").unwrap();
        let (found, _) = look(|| Ok(files_of(&log).unwrap()), true).await.unwrap();
        assert!(matches!(found, Err((_, Finding::Gap { line: 2, .. }))));
    }
}
