//! The private side's program.

use std::process::ExitCode;

fn main() -> ExitCode {
    relay_agent::cli::agent::main()
}
