//! Command lines of both programs: commands, human output, exit codes.
//!
//! Decides nothing about the product: each command calls one function and shows what it answered.

#[cfg(feature = "agent")]
pub mod agent;
pub mod exit_code;
#[cfg(feature = "relay")]
pub mod relay;

use std::io::{self, Write as _};

/// Writes to standard output. A reader that went away (`agent status | head -1`) is no failure.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error, for people: questions, notes and failures.
pub fn note(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}
