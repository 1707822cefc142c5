//! Screens as they were when somebody last looked at them. `UPDATE_SCREENS=1 cargo test` writes them anew.

use std::path::PathBuf;

use clap::Command;

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

/// The help of a command and of all its subcommands, as on a terminal of 80 columns.
pub(in crate::cli) fn help(command: Command) -> String {
    let mut command = command.term_width(80);
    command.build();
    let mut text = String::new();
    add_help(&command, &mut text);
    text
}

fn add_help(command: &Command, text: &mut String) {
    let mut shown = command.clone().term_width(80);
    let help = shown.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!("{}\n\n", lines.join("\n").trim_end()));
    for child in command.get_subcommands() {
        if child.get_name() != "help" {
            text.push_str(&format!("{}\n\n", "-".repeat(80)));
            add_help(child, text);
        }
    }
}
