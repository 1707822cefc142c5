//! What the load is pointed at: one of the two systems.

use std::net::SocketAddr;
use std::time::Duration;

use crate::failure::Failure;
use crate::process;

/// A system that answers small calls, a large download and an upload.
pub(crate) struct Target {
    /// As in the table's heading.
    pub(crate) name: &'static str,
    /// Where callers connect, without TLS.
    pub(crate) address: SocketAddr,
    /// Path of the 1 KiB answer.
    pub(crate) small: String,
    /// Path of the large download.
    pub(crate) large: String,
    /// Path that uploads go to.
    pub(crate) sink: String,
    /// Value of `Relay-Authorization`, where callers must prove who they are.
    pub(crate) authorization: Option<String>,
    /// Processes whose time, with that of their children, is the cost of this system.
    pub(crate) processes: Vec<u32>,
}

impl Target {
    /// Processor time of all its processes so far.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        self.processes
            .iter()
            .copied()
            .map(process::processor_time)
            .sum()
    }
}
