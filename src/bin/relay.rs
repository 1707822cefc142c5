//! The public side's program: parse, run, exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use relay_agent::cli::{process, relay};

/// A new connection with one call is some forty allocations; the system's allocator takes a seventh of
/// the relay's instructions for them, this one a thirtieth.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    process::run("relay", relay::execute)
}
