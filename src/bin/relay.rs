//! The public side's program: parse, run, exit code.

use std::process::ExitCode;

use relay_agent::cli::{process, relay};

fn main() -> ExitCode {
    process::run("relay", relay::execute)
}
