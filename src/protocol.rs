//! What crosses the wire, as types: versions, limits, codes, and the messages in the children.
//!
//! The specification in prose is `docs/protocol.md`; the code follows it. Pure: no sockets, no
//! clock. Wire types are checked here and never leave unchecked.

pub mod control;
pub mod frame;
pub mod handshake;
pub mod redeem;
pub mod rotation;

use std::fmt;

/// The link version this program speaks.
pub const LINK_VERSION: u32 = 1;
/// The WebSocket subprotocol that names the link (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "relay-agent.link.v1";
/// Where the relay listens for links, below its public URL.
pub const LINK_PATH: &str = "/v1/link";
/// Where the relay takes redemptions, below its public URL.
pub const REDEEM_PATH: &str = "/v1/invitations/redeem";
/// The longest message on the WebSocket. One frame must not hold the socket for long: 64 KiB take
/// 5 ms at 100 Mbit/s.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The longest handshake message: a few hundred bytes today, with room for features to come.
pub const MAX_HANDSHAKE: usize = 4 * 1024;
/// How this program names itself to the other side.
pub const SOFTWARE: &str = concat!("relay-agent/", env!("CARGO_PKG_VERSION"));

/// Why a side closes a link, for the other side to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// The sender is about to stop; come back.
    Draining,
    /// The connection was removed.
    Removed,
    /// The agent's key was revoked.
    Revoked,
    /// The other side broke a rule of the protocol.
    Protocol,
    /// The sender failed.
    Internal,
    /// Another link took this one's place.
    Superseded,
    /// A code that this version does not know.
    Other(u16),
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Draining => 1,
            Self::Removed => 2,
            Self::Revoked => 3,
            Self::Protocol => 4,
            Self::Internal => 5,
            Self::Superseded => 6,
            Self::Other(number) => number,
        }
    }

    /// The code that a number stands for.
    #[must_use]
    pub const fn from_number(number: u16) -> Self {
        match number {
            1 => Self::Draining,
            2 => Self::Removed,
            3 => Self::Revoked,
            4 => Self::Protocol,
            5 => Self::Internal,
            6 => Self::Superseded,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Draining => "draining",
            Self::Removed => "removed",
            Self::Revoked => "revoked",
            Self::Protocol => "protocol",
            Self::Internal => "internal",
            Self::Superseded => "superseded",
            Self::Other(number) => return write!(f, "code {number}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_keep_their_numbers() {
        for number in 0..=u16::MAX {
            assert_eq!(CloseCode::from_number(number).number(), number);
        }
        assert_eq!(CloseCode::Draining.number(), 1);
        assert_eq!(CloseCode::Superseded.number(), 6);
    }
}
