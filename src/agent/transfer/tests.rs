//! Connections from one state directory to another, and what is refused on the way.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::agent::state::tests::example;

/// A state directory of its own.
struct Place {
    directory: tempfile::TempDir,
    state: StateDirectory,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let state = StateDirectory::open(&directory.path().join("state")).unwrap();
    Place { directory, state }
}

fn passphrase() -> Secret<String> {
    Secret::new("a long enough phrase".to_owned())
}

/// A place with two connections, one of them in the middle of a rotation.
fn filled() -> Place {
    let place = place();
    for name in ["one", "two"] {
        let record = example(name);
        place.state.key_for_accepting(record.connection).unwrap();
        if name == "two" {
            place
                .state
                .next_key_for_accepting(record.connection)
                .unwrap();
        }
        place.state.save(&record).unwrap();
    }
    place
}

fn listing(place: &Place) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(place.directory.path().join("state/connections")).unwrap();
    let mut all: Vec<_> = files
        .map(|file| file.unwrap())
        .map(|file| {
            let name = file.file_name().into_string().unwrap();
            (name, fs::read(file.path()).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn what_is_exported_is_imported_byte_for_byte_for_the_owner_alone_and_again_without_harm() {
    let (from, to) = (filled(), place());
    let (file, names) = export(&from.state, &passphrase()).unwrap();
    assert_eq!(names.len(), 2);
    let text = String::from_utf8(file.clone()).unwrap();
    assert!(!text.contains("one") && text.starts_with("relay-agent-export 1\n"));
    for _ in 0..2 {
        assert_eq!(
            import(&to.state, &file, &passphrase(), None).unwrap(),
            names
        );
        assert_eq!(listing(&from), listing(&to));
    }
    for (name, _) in listing(&to) {
        let path = to.directory.path().join("state/connections").join(name);
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let age = |place: &Place| {
        let connection = place.state.load().unwrap().records[0].connection;
        let held = place.state.current_key(connection).unwrap();
        state::unix_seconds(held.made_at)
    };
    assert_eq!(age(&from), age(&to), "a key is as old as it was");
}

#[test]
fn nothing_that_is_here_is_overwritten_and_a_refusal_writes_nothing() {
    let from = filled();
    let (file, _) = export(&from.state, &passphrase()).unwrap();
    let records = from.state.load().unwrap().records;
    // Another connection of the name of the second one; and the second one itself with another key.
    let (named, keyed) = (place(), place());
    named.state.save(&example("two")).unwrap();
    keyed
        .state
        .key_for_accepting(records[1].connection)
        .unwrap();
    for to in [&named, &keyed] {
        let before = listing(to);
        let refused = import(&to.state, &file, &passphrase(), None).unwrap_err();
        assert!(matches!(refused, TransferError::Exists(name) if name == records[1].name));
        assert_eq!(listing(to), before);
    }
    let to = place();
    let wrong = Secret::new("another long phrase".to_owned());
    assert!(import(&to.state, &file, &wrong, None).is_err());
    assert!(listing(&to).is_empty());
}

#[test]
fn what_is_damaged_or_not_there_is_not_exported() {
    let empty = place();
    let nothing = export(&empty.state, &passphrase()).unwrap_err();
    assert!(matches!(nothing, TransferError::Nothing));
    let damaged = filled();
    let (name, _) = listing(&damaged)
        .into_iter()
        .find(|(name, _)| name.ends_with(".json"))
        .unwrap();
    fs::write(
        damaged
            .directory
            .path()
            .join("state/connections")
            .join(name),
        "{",
    )
    .unwrap();
    let refused = export(&damaged.state, &passphrase()).unwrap_err();
    assert!(matches!(refused, TransferError::Damaged(_)));
}

#[test]
fn content_of_another_version_or_with_a_broken_part_is_refused_whole() {
    let from = filled();
    let plain = Content::of(&from.state, 7).unwrap().to_bytes().unwrap();
    let text = String::from_utf8(plain.expose().clone()).unwrap();
    let read = |text: String| Content::from_bytes(&Secret::new(text.into_bytes()));
    assert_eq!(read(text.clone()).unwrap().names().len(), 2);
    let newer = text.replacen(
        "{\"version\":1,\"made_at\"",
        "{\"version\":2,\"made_at\"",
        1,
    );
    assert!(matches!(
        read(newer),
        Err(ContentError::UnsupportedVersion(2))
    ));
    for (from, to) in [
        ("\"seed\":\"", "\"seed\":\"x"),
        ("\"kept\"", "\"perhaps\""),
        ("\"name\"", "\"nome\""),
    ] {
        assert!(read(text.replacen(from, to, 1)).is_err(), "{from}");
    }
}
