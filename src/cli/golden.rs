//! Screens as they were when somebody last looked at them. `UPDATE_SCREENS=1 cargo test` writes them anew.

use std::path::PathBuf;

/// Compares a screen with the file of this name under `tests/screens`.
pub(in crate::cli) fn check(name: &str, screen: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/screens");
    let file = file.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, screen).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        screen, expected,
        "the screen {name} has changed; if that is meant, run the test with UPDATE_SCREENS=1"
    );
}
