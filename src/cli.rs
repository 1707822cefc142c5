//! Command lines of both programs: commands, human output, exit codes.
//!
//! Decides nothing about the product: each command calls one function and shows what it answered.

pub mod age;
#[cfg(feature = "agent")]
pub mod agent;
pub mod daemon;
pub mod documentation;
pub mod exit_code;
#[cfg(test)]
mod golden;
pub mod health;
pub mod log_level;
pub mod output;
pub mod process;
#[cfg(feature = "relay")]
pub mod relay;
pub mod status;
pub mod terminal;
pub mod watch;
