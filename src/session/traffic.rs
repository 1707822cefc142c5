//! How much has crossed a session, for monitoring.

use super::Session;
use crate::protocol::frame::Lane;

/// What has crossed a lane since the session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneTraffic {
    /// Bytes that left this side, each counted once.
    pub bytes_sent: u64,
    /// Bytes that arrived, each counted once.
    pub bytes_received: u64,
    /// Data frames that left this side, repeated ones among them.
    pub frames_sent: u64,
    /// Data frames that arrived, repeated ones among them.
    pub frames_received: u64,
    /// Bytes that left this side and that the other has not acknowledged.
    pub unacknowledged: u64,
}

impl Session {
    /// What has crossed a lane.
    #[must_use]
    pub fn traffic(&self, lane: Lane) -> LaneTraffic {
        let index = lane.index();
        LaneTraffic {
            bytes_sent: self.outgoing[index].sent_total(),
            bytes_received: self.incoming[index].received(),
            frames_sent: self.frames_sent[index],
            frames_received: self.frames_received[index],
            unacknowledged: self.unacknowledged(lane),
        }
    }
}
