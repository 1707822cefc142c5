//! What a program says about itself: completions for shells, and its manual page.

use std::io;

use clap::Command;
use clap_complete::Shell;

use super::exit_code::{ExitCode, Failure};
use super::output::print;

/// The day that manual pages say they are of: that of the release. A page needs one, and what builds must not depend
/// on the day.
const MANUAL_DATE: &str = "2026-11-23";

/// Prints the completions of a command for a shell.
pub fn print_completions(command: Command, shell: Shell) {
    print(&completions(command, shell));
}

/// Prints the manual page of a command, with those of its subcommands after it.
///
/// # Errors
/// None in practice: the page is rendered in memory.
pub fn print_manual(command: Command) -> Result<(), Failure> {
    let page = manual(command).map_err(|error| {
        let problem = format!("the manual page could not be rendered: {error}");
        Failure::new(ExitCode::Internal, problem, "")
    })?;
    print(&page);
    Ok(())
}

fn completions(mut command: Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn manual(mut command: Command) -> io::Result<String> {
    command.build();
    let mut page = Vec::new();
    render(&command, &mut page)?;
    // Two line breaks with nothing in between are a paragraph; mandoc complains of them.
    Ok(String::from_utf8_lossy(&page).replace(".br\n\n.br\n", ".sp\n"))
}

fn render(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let manual = clap_mangen::Man::new(command.clone()).date(MANUAL_DATE);
    manual.render(page)?;
    for child in command.get_subcommands() {
        if child.get_name() != "help" {
            render(child, page)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("relay").subcommand(Command::new("serve").about("Run the relay"))
    }

    #[test]
    fn completions_and_manual_know_the_subcommands() {
        assert!(completions(command(), Shell::Bash).contains("serve"));
        let page = manual(command()).unwrap();
        assert!(page.contains(&format!(".TH relay 1 {MANUAL_DATE}")));
        assert!(page.contains("Run the relay"));
    }
}
