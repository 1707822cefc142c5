//! `agent completions` and `agent man`: made from the command line's own definition.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Arguments;
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::print;

pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "agent", &mut text);
    print_bytes(text)
}

pub(super) fn manual() -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .render(&mut text)
        .map_err(|error| Failure::new(ExitCode::Internal, error.to_string(), ""))?;
    print_bytes(text)
}

fn print_bytes(bytes: Vec<u8>) -> Result<(), Failure> {
    let text = String::from_utf8(bytes)
        .map_err(|error| Failure::new(ExitCode::Internal, error.to_string(), ""))?;
    print(&text);
    Ok(())
}
