//! What `atomic_file` promises, tried on a real file system.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn a_file_holds_what_was_written_last_with_the_mode_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    assert!(read(&path, 10).unwrap().is_none());
    write(&path, b"one", 0o644).unwrap();
    write(&path, b"two", 0o600).unwrap();
    assert_eq!(read(&path, 3).unwrap().unwrap(), b"two");
    assert_eq!(mode_of(&path), 0o600);
    assert_eq!(names_in(directory.path()), ["state.json"]);
}

#[test]
fn a_write_replaces_the_file_and_never_changes_it_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    write(&path, b"old", 0o600).unwrap();
    let mut reader = File::open(&path).unwrap();
    write(&path, b"new content", 0o600).unwrap();
    let mut seen = Vec::new();
    reader.read_to_end(&mut seen).unwrap();
    assert_eq!(seen, b"old");
}

#[test]
fn a_failed_write_leaves_the_former_file_and_no_litter() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    fs::create_dir(&target).unwrap();
    assert!(matches!(
        write(&target, b"x", 0o600),
        Err(AtomicFileError::NotRegular { .. })
    ));
    let existing = directory.path().join("existing");
    write(&existing, b"old", 0o600).unwrap();
    assert!(matches!(
        create(&existing, b"new", 0o600),
        Err(AtomicFileError::Exists { .. })
    ));
    assert_eq!(read(&existing, 3).unwrap().unwrap(), b"old");
    assert_eq!(names_in(directory.path()), ["existing", "target"]);
    let error = write(&directory.path().join("nowhere/file"), b"x", 0o600).unwrap_err();
    assert!(matches!(error, AtomicFileError::Io { .. }), "{error}");
}

#[test]
fn symbolic_links_are_neither_read_nor_written_through() {
    let directory = tempfile::tempdir().unwrap();
    let victim = directory.path().join("victim");
    write(&victim, b"precious", 0o600).unwrap();
    for (name, target) in [("link", victim.as_path()), ("dangling", Path::new("none"))] {
        let link = directory.path().join(name);
        symlink(target, &link).unwrap();
        for result in [
            read(&link, 100).map(|_| ()),
            read_private(&link, 100).map(|_| ()),
            write(&link, b"x", 0o600),
        ] {
            let error = result.unwrap_err();
            assert!(
                matches!(error, AtomicFileError::NotRegular { .. }),
                "{name}: {error}"
            );
        }
        assert!(create(&link, b"x", 0o600).is_err());
    }
    assert_eq!(read(&victim, 100).unwrap().unwrap(), b"precious");
}

#[test]
fn pipes_and_sockets_are_refused_without_waiting_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = directory.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for path in [&pipe, &socket] {
        assert!(matches!(
            read(path, 100),
            Err(AtomicFileError::NotRegular { .. })
        ));
    }
}

#[test]
fn a_read_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&path, &[7; 101], 0o600).unwrap();
    assert!(matches!(
        read(&path, 100),
        Err(AtomicFileError::TooLong { .. })
    ));
    assert_eq!(read(&path, 101).unwrap().unwrap().len(), 101);
}

#[test]
fn a_private_read_refuses_a_file_that_others_may_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&path, b"secret", 0o640).unwrap();
    let error = read_private(&path, 100).unwrap_err();
    assert!(error.to_string().contains("chmod 0600"), "{error}");
    write(&path, b"secret", 0o400).unwrap();
    assert_eq!(read_private(&path, 100).unwrap().unwrap(), b"secret");
}

#[test]
fn a_private_read_refuses_the_file_of_another_user() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&path, b"secret", 0o600).unwrap();
    if !given_to_another_user(&path) {
        return;
    }
    let error = read_private(&path, 100).unwrap_err();
    assert!(matches!(error, AtomicFileError::NotOurs { .. }), "{error}");
}

#[test]
fn of_many_that_create_a_file_exactly_one_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let created = std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..8_u8)
            .map(|number| {
                let path = &path;
                scope.spawn(move || create(path, &[number], 0o600).is_ok().then_some(number))
            })
            .collect();
        attempts
            .into_iter()
            .filter_map(|attempt| attempt.join().unwrap())
            .collect::<Vec<u8>>()
    });
    assert_eq!(created.len(), 1);
    assert_eq!(read(&path, 1).unwrap().unwrap(), created);
    assert_eq!(names_in(directory.path()), ["file"]);
}

#[test]
fn removing_is_done_once_and_can_be_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    write(&path, b"x", 0o600).unwrap();
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_private_directory_is_made_and_accepted() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    create_private_directory(&path).unwrap();
    create_private_directory(&path).unwrap();
    assert_eq!(mode_of(&path), 0o700);
    let link = parent.path().join("link");
    symlink(&path, &link).unwrap();
    check_private_directory(&link).unwrap();
}

#[test]
fn an_unfit_directory_is_refused_with_the_remedy() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let remedy = |path: &Path| check_private_directory(path).unwrap_err().to_string();
    assert!(remedy(&path).contains("install -d -m 0700"));
    fs::create_dir(&path).unwrap();
    for mode in [0o750, 0o701, 0o500] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(remedy(&path).contains("chmod 0700"), "{mode:o}");
    }
    let file = parent.path().join("file");
    write(&file, b"x", 0o700).unwrap();
    assert!(remedy(&file).contains("not a directory"));
}

#[test]
fn the_directory_of_another_user_and_a_link_made_by_one_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    create_private_directory(&path).unwrap();
    let link = parent.path().join("link");
    symlink(&path, &link).unwrap();
    if !given_to_another_user(&link) {
        return;
    }
    let error = check_private_directory(&link).unwrap_err();
    assert!(
        matches!(error, DirectoryError::NotADirectory { .. }),
        "{error}"
    );
    assert!(given_to_another_user(&path));
    let error = check_private_directory(&path).unwrap_err();
    // Only root gets here, and root is not to take the directory.
    assert!(error.to_string().contains("runuser -u"), "{error}");
}

/// Only root can give a file away; elsewhere the test says that it was skipped.
fn given_to_another_user(path: &Path) -> bool {
    let given = std::os::unix::fs::lchown(path, Some(65534), None).is_ok();
    if !given {
        println!("SKIPPED: only root can give {path:?} to another user");
    }
    given
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & PERMISSION_BITS
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
