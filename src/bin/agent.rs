//! The private side's program.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A call is some twenty allocations. The system's allocator keeps seven of a size at hand, and none above 1 KiB, so
/// that with many calls under way it takes a twelfth of the agent's instructions; this one takes a thirtieth, for
/// 0.4 MiB more when idle.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    relay_agent::cli::agent::main()
}
