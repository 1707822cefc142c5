//! Screens as they were when somebody last looked at them: `tests/screens`. All are written anew by
//! `UPDATE_SCREENS=1 cargo test --lib cli`.

use std::path::PathBuf;

use clap::Command;
use clap::error::ErrorKind;

/// The width that everything fits: that of a terminal on which nobody has set anything.
const WIDTH: usize = 80;

/// Compares a screen with the file of this name under `tests/screens`.
pub(in crate::cli) fn check(name: &str, screen: &str) {
    let wide = screen.lines().find(|line| line.chars().count() > WIDTH);
    assert_eq!(wide, None, "the screen {name} is wider than {WIDTH}");
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/screens");
    let file = file.join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, screen).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        screen, expected,
        "the screen {name} has changed; if that is meant: UPDATE_SCREENS=1 cargo test --lib cli"
    );
}

/// Every screen of help of a program, as it prints them: its own and that of each subcommand, short (`-h`) and long
/// (`--help`).
pub(in crate::cli) fn help(command: Command) -> String {
    let mut command = command.term_width(WIDTH);
    command.build();
    let mut screens = Vec::new();
    let name = command.get_name().to_owned();
    add_help(&command, &command, &[&name], &mut screens);
    screens.join("\n\n")
}

fn add_help(program: &Command, command: &Command, path: &[&str], screens: &mut Vec<String>) {
    let asked = |flag| {
        let words = path.iter().chain([&flag]);
        let told = program.clone().try_get_matches_from(words).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::DisplayHelp, "{path:?}");
        told.render().to_string()
    };
    let (short, long) = (asked("-h"), asked("--help"));
    let words = path.join(" ");
    if short == long {
        screens.push(format!("$ {words} --help   (or -h)\n\n{long}"));
    } else {
        screens.push(format!("$ {words} -h\n\n{short}"));
        screens.push(format!("$ {words} --help\n\n{long}"));
    }
    for child in command.get_subcommands() {
        if child.get_name() != "help" {
            add_help(
                program,
                child,
                &[path, &[child.get_name()]].concat(),
                screens,
            );
        }
    }
}
