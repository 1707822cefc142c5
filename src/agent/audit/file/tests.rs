//! The file under the log: continued where it ends, put aside in time, and nobody else's.

use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::agent::audit::chain::Hash;
use crate::agent::audit::line::{Daemon, Fields};

#[test]
fn a_file_is_continued_where_it_ends() {
    let place = Place::new();
    let (mut log, tail) = place.open();
    assert_eq!((tail, log.begun()), (Tail::Empty, None));
    let (lines, head) = lines(Head::BEGINNING, 3);
    log.append(&lines).unwrap();
    drop(log);
    let (log, tail) = place.open();
    assert_eq!(tail, Tail::Whole(head));
    assert_eq!(log.length(), lines.len() as u64);
    assert_eq!(log.begun(), Some("2026-01-01T00:00:00.000Z"));
    assert_eq!(place.mode(), 0o600);
}

#[test]
fn what_a_crash_tore_is_told_and_kept() {
    for torn in ["{\"v\":1,\"se", "{\"v\":1,\"se\nand\n", "\n"] {
        let place = Place::new();
        let (lines, head) = lines(Head::BEGINNING, 2);
        let bytes = [&lines, torn.as_bytes()].concat();
        place.write(&bytes);
        let (_, tail) = place.open();
        let expected = Torn {
            head,
            bytes: torn.len() as u64,
            hash: Hash::of(torn.as_bytes()),
            is_terminated: torn.ends_with('\n'),
        };
        assert_eq!(tail, Tail::Torn(expected));
        assert_eq!(fs::read(place.file()).unwrap(), bytes);
    }
}

#[test]
fn a_torn_tail_of_more_than_one_window_is_found() {
    let place = Place::new();
    let (lines, head) = lines(Head::BEGINNING, 1);
    let torn = vec![0; 300 * 1024];
    place.write(&[&lines, &torn[..]].concat());
    let (_, Tail::Torn(found)) = place.open() else {
        panic!("not torn");
    };
    assert_eq!((found.head, found.bytes), (head, 300 * 1024));
}

#[test]
fn a_file_that_is_no_log_is_left_alone() {
    let place = Place::new();
    place.write(&vec![b'x'; 5 * 1024 * 1024]);
    assert!(matches!(
        LogFile::open(&place.file()),
        Err(FileError::Foreign(_))
    ));
    fs::remove_file(place.file()).unwrap();
    std::os::unix::fs::symlink("/dev/null", place.file()).unwrap();
    assert!(matches!(
        LogFile::open(&place.file()),
        Err(FileError::NotRegular(_))
    ));
}

#[test]
fn a_file_or_directory_that_lets_others_in_is_not_written_to() {
    let place = Place::new();
    place.write(b"");
    let chmod = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(&place.file(), 0o640);
    assert!(matches!(
        LogFile::open(&place.file()),
        Err(FileError::Exposed { .. })
    ));
    chmod(&place.file(), 0o600);
    chmod(place.0.path(), 0o755);
    assert!(matches!(
        LogFile::open(&place.file()),
        Err(FileError::Directory(_))
    ));
}

#[test]
fn who_is_alone_keeps_the_lock_and_two_take_turns() {
    let place = Place::new();
    let (mut one, _) = place.open();
    let (first, head) = lines(Head::BEGINNING, 1);
    assert_eq!(one.take_turn(false).unwrap(), Turn::Ours);
    one.append(&first).unwrap();
    one.end_turn();
    assert!(
        matches!(LogFile::open(&place.file()), Err(FileError::InUse(_))),
        "it keeps the lock, until it offers it"
    );
    one.offer();
    let (mut other, tail) = place.open();
    assert_eq!(tail, Tail::Whole(head));
    assert_eq!(one.take_turn(false).unwrap(), Turn::Theirs);
    let (second, head) = lines(head, 2);
    assert_eq!(other.take_turn(false).unwrap(), Turn::Ours);
    other.append(&second).unwrap();
    drop(other);
    let after = Turn::After(first.len() as u64, Tail::Whole(head));
    assert_eq!(one.take_turn(false).unwrap(), after);
    // Another was there a moment ago, and may come back.
    one.end_turn();
    place.open();
}

#[test]
fn a_file_that_another_has_put_aside_is_noticed() {
    let place = Place::new();
    let (mut one, _) = place.open();
    let (bytes, head) = lines(Head::BEGINNING, 1);
    one.append(&bytes).unwrap();
    one.offer();
    let (other, _) = place.open();
    drop(other.rotate(head, 5).unwrap());
    assert_eq!(one.take_turn(false).unwrap(), Turn::Elsewhere);
}

#[test]
fn a_chain_goes_on_from_a_line_only_if_the_next_one_says_so() {
    let place = Place::new();
    let (first, head) = lines(Head::BEGINNING, 2);
    let (rest, _) = lines(head, 2);
    place.write(&[first.clone(), rest].concat());
    let (log, _) = place.open();
    let replaced = Head {
        hash: Hash::of(b"another"),
        ..head
    };
    for offset in [0, first.len() as u64] {
        assert!(log.goes_on_from(head, offset).unwrap());
        assert!(!log.goes_on_from(replaced, offset).unwrap());
    }
}

#[test]
fn a_file_that_was_moved_or_removed_is_noticed() {
    let place = Place::new();
    let (log, _) = place.open();
    log.check_place().unwrap();
    fs::rename(place.file(), place.0.path().join("elsewhere")).unwrap();
    assert!(matches!(log.check_place(), Err(FileError::Moved(_))));
    place.write(b"another");
    assert!(matches!(log.check_place(), Err(FileError::Moved(_))));
}

#[test]
fn rotation_keeps_the_chain_and_the_newest_files() {
    let place = Place::new();
    let (mut log, _) = place.open();
    let mut head = Head::BEGINNING;
    let mut removed = Vec::new();
    for _ in 0..4 {
        let (bytes, next) = lines(head, 2);
        head = next;
        log.append(&bytes).unwrap();
        let (rotated, gone) = log.rotate(head, 2).unwrap();
        log = rotated;
        if let Some(doomed) = gone {
            assert!(doomed.files.iter().all(|file| file.exists()), "not yet");
            doomed.remove().unwrap();
            removed.push((doomed.through, doomed.files.len()));
        }
    }
    assert_eq!(removed, [(2, 1), (4, 1)]);
    let names: Vec<_> = files_of(&place.file())
        .unwrap()
        .iter()
        .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let expected = ["a.jsonl.000000000006", "a.jsonl.000000000008", "a.jsonl"];
    assert_eq!(names, expected);
    drop(log);
    // Stopped just after a rotation: the chain goes on from the file put aside.
    let (_, tail) = place.open();
    assert_eq!(tail, Tail::Whole(head));
}

#[test]
fn what_could_not_be_written_is_withdrawn_and_nothing_else() {
    let place = Place::new();
    let (ours, head) = lines(Head::BEGINNING, 2);
    let (failed, _) = lines(head, 3);
    for part in [1, failed.len() / 2, failed.len()] {
        place.write(&[&ours, &failed[..part]].concat());
        let (mut log, _) = place.open();
        let tail = log.withdraw(ours.len() as u64, &failed).unwrap();
        assert_eq!(tail, Tail::Whole(head));
        assert_eq!(fs::read(place.file()).unwrap(), ours);
    }
    let foreign = [&ours[..], b"{somebody's}\n"].concat();
    place.write(&foreign);
    let (mut log, _) = place.open();
    let tail = log.withdraw(ours.len() as u64, &failed).unwrap();
    assert!(matches!(tail, Tail::Torn(_)));
    assert_eq!(fs::read(place.file()).unwrap(), foreign);
}

#[test]
fn rotation_takes_no_other_file_s_place() {
    let place = Place::new();
    let (mut log, _) = place.open();
    let (bytes, head) = lines(Head::BEGINNING, 1);
    let taken = place.0.path().join("a.jsonl.000000000001");
    fs::write(&taken, "somebody's").unwrap();
    log.append(&bytes).unwrap();
    log.rotate(head, 5).unwrap();
    assert_eq!(fs::read(&taken).unwrap(), b"somebody's");
    let namesake = place.0.path().join("a.jsonl.000000000001-1");
    assert_eq!(fs::read(namesake).unwrap(), bytes);
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Self(directory)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("a.jsonl")
    }

    fn open(&self) -> (LogFile, Tail) {
        LogFile::open(&self.file()).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(self.file(), bytes).unwrap();
        fs::set_permissions(self.file(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn mode(&self) -> u32 {
        fs::metadata(self.file()).unwrap().mode() & 0o777
    }
}

/// The next lines of a chain.
fn lines(mut head: Head, count: usize) -> (Vec<u8>, Head) {
    let mut bytes = Vec::new();
    for _ in 0..count {
        let fields = Fields::Start(Daemon {
            software: "test",
            process: 1,
        });
        let time = "2026-01-01T00:00:00.000Z";
        head = head.seal(time, &fields, &mut bytes).unwrap();
    }
    (bytes, head)
}
