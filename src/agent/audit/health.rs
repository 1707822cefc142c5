//! How the log fares: for `agent status`, the metrics and whoever asks why no call is taken.

use std::time::SystemTime;

use super::chain::Head;

/// What is known of the log. Everything that is counted is counted since the daemon started.
#[derive(Debug, Clone)]
pub struct Health {
    /// How far the chain has come in the file.
    pub head: Option<Head>,
    /// Why nothing can be written, and since when.
    pub trouble: Option<Trouble>,
    /// Calls refused because nothing could be written.
    pub refused: u64,
    /// Lines of a further target that it did not take.
    pub not_sent: u64,
    /// Lines that wait.
    pub waiting: usize,
    /// Lines that this process has written to the file. Counts up; for metrics.
    pub lines_written: u64,
    /// Bytes that this process has written to the file. Counts up; for metrics.
    pub bytes_written: u64,
    /// How often the log could not be opened, written, synced or rotated, tries that were repeated included, or did not
    /// come back in time. Counts up; for metrics.
    pub write_failures: u64,
    /// Writes that took longer than a disk that is well takes (20 ms), or that waited for the disk behind a sync. Counts
    /// up; for metrics.
    pub slow_writes: u64,
}

/// Why nothing can be written.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// Since when.
    pub since: SystemTime,
    /// Why, and what to do.
    pub why: String,
}

impl Health {
    /// Of a log that has not been opened yet: no call is taken before.
    pub(super) fn unopened() -> Self {
        Self {
            head: None,
            trouble: Some(Trouble {
                since: SystemTime::now(),
                why: "the file has not been opened yet".to_owned(),
            }),
            refused: 0,
            not_sent: 0,
            waiting: 0,
            lines_written: 0,
            bytes_written: 0,
            write_failures: 0,
            slow_writes: 0,
        }
    }

    /// The number of the chain's last line; zero before the first. For metrics.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.head.map_or(0, |head| head.sequence)
    }
}
