//! What the log says of itself, between the lines of calls.

use std::time::SystemTime;

use super::chain::{Head, SealError};
use super::file::Torn;
use super::health::Trouble;
use super::line::{Daemon, Fields};
use crate::protocol::SOFTWARE;

/// A line of the log about itself.
#[derive(Debug)]
pub(super) enum Remark {
    Start,
    Stop,
    Torn(Torn),
    Pruned {
        through: u64,
        files: u64,
    },
    /// With the number of calls that were refused meanwhile.
    Resumed(Trouble, u64),
}

impl Remark {
    /// Writes it as the chain's next line.
    ///
    /// # Errors
    /// [`SealError`].
    pub(super) fn seal(
        &self,
        head: Head,
        time: &str,
        lines: &mut Vec<u8>,
    ) -> Result<Head, SealError> {
        let since;
        let fields = match self {
            Self::Start => Fields::Start(daemon()),
            Self::Stop => Fields::Stop(daemon()),
            Self::Torn(torn) => Fields::Torn {
                torn_bytes: torn.bytes,
                torn_hash: torn.hash.to_string(),
            },
            Self::Pruned { through, files } => Fields::Pruned {
                through: *through,
                files: *files,
            },
            Self::Resumed(trouble, refused) => {
                since = milliseconds(trouble.since).to_string();
                Fields::Resumed {
                    since: &since,
                    refused: *refused,
                    why: &trouble.why,
                }
            }
        };
        head.seal(time, &fields, lines)
    }
}

/// A time as lines have it.
pub(super) fn milliseconds(time: SystemTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(time)
}

fn daemon() -> Daemon<'static> {
    Daemon {
        software: SOFTWARE,
        process: std::process::id(),
    }
}
