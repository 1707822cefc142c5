//! Session frames: their bytes, and nothing of their meaning in time.
//!
//! Layout and numbers are those of `docs/protocol.md`, section 3.1. Decoding never panics and never
//! copies a payload.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{CloseCode, MAX_MESSAGE};

/// Bytes before the payload of a data frame: type and lane.
pub const DATA_HEADER: usize = 2;
/// The longest payload of a data frame.
pub const MAX_PAYLOAD: usize = MAX_MESSAGE - DATA_HEADER;
/// The longest text of a close frame, in bytes.
pub const MAX_CLOSE_TEXT: usize = 512;

const DATA: u8 = 0x10;
const ACK: u8 = 0x11;
const PING: u8 = 0x12;
const PONG: u8 = 0x13;
const CLOSE: u8 = 0x14;

/// One of the two byte streams of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Calls into the private network: the relay is the HTTP/2 client.
    Inward,
    /// From the private network out: the agent is the HTTP/2 client.
    Outward,
}

impl Lane {
    /// Both lanes, in the order of their numbers.
    pub const BOTH: [Self; 2] = [Self::Inward, Self::Outward];

    /// The number on the wire, and the place in a pair of values.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Inward => 0,
            Self::Outward => 1,
        }
    }

    /// The lane that is not this one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Inward => Self::Outward,
            Self::Outward => Self::Inward,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Inward => 0,
            Self::Outward => 1,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Inward),
            1 => Some(Self::Outward),
            _ => None,
        }
    }
}

/// A count of bytes for each lane; on the wire `[inward, outward]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LaneCounts(pub [u64; 2]);

impl LaneCounts {
    /// The count of one lane.
    #[must_use]
    pub const fn of(self, lane: Lane) -> u64 {
        self.0[lane.index()]
    }
}

/// A session frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The next bytes of a lane.
    Data {
        /// Which lane.
        lane: Lane,
        /// 1 to [`MAX_PAYLOAD`] bytes.
        payload: Bytes,
    },
    /// How many bytes of a lane were read since the session began.
    Ack {
        /// Which lane.
        lane: Lane,
        /// The count.
        total: u64,
    },
    /// Asks for a pong.
    Ping(u64),
    /// Answers the ping with the same token.
    Pong(u64),
    /// The sender's last frame.
    Close {
        /// Why, for the program.
        code: CloseCode,
        /// Why, for people.
        text: String,
    },
}

/// Why a message is not a frame. The peer is at fault; the link ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message without a type.
    #[error("an empty message")]
    Empty,
    /// A type that this version does not know.
    #[error("unknown frame type {0:#04x}")]
    UnknownType(u8),
    /// A lane that does not exist.
    #[error("unknown lane {0}")]
    UnknownLane(u8),
    /// Too short, too long, or data without a payload.
    #[error("a {frame} frame of {length} bytes")]
    Length {
        /// Name of the frame's type.
        frame: &'static str,
        /// Its length with the type byte.
        length: usize,
    },
    /// The text of a close frame is not UTF-8.
    #[error("a close text that is not UTF-8")]
    Text,
}

impl Frame {
    /// Reads one message. The payload of a data frame shares the message's memory.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes break the layout.
    pub fn decode(mut message: Bytes) -> Result<Self, FrameError> {
        let length = message.len();
        let Some(&kind) = message.first() else {
            return Err(FrameError::Empty);
        };
        match kind {
            DATA => {
                if length <= DATA_HEADER || length > MAX_MESSAGE {
                    return Err(FrameError::Length {
                        frame: "data",
                        length,
                    });
                }
                let lane = lane_at(&message)?;
                Ok(Self::Data {
                    lane,
                    payload: message.split_off(DATA_HEADER),
                })
            }
            ACK => {
                let total = number_at(&message, 2, "ack")?;
                Ok(Self::Ack {
                    lane: lane_at(&message)?,
                    total,
                })
            }
            PING => Ok(Self::Ping(number_at(&message, 1, "ping")?)),
            PONG => Ok(Self::Pong(number_at(&message, 1, "pong")?)),
            CLOSE => decode_close(&message),
            unknown => Err(FrameError::UnknownType(unknown)),
        }
    }

    /// Writes the frame as one message. A close text that is too long is cut.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut message = BytesMut::with_capacity(16);
        match self {
            Self::Data { lane, payload } => {
                message.reserve(DATA_HEADER + payload.len());
                message.put_slice(&data_header(*lane));
                message.put_slice(payload);
            }
            Self::Ack { lane, total } => {
                message.put_slice(&[ACK, lane.byte()]);
                message.put_u64(*total);
            }
            Self::Ping(token) => {
                message.put_u8(PING);
                message.put_u64(*token);
            }
            Self::Pong(token) => {
                message.put_u8(PONG);
                message.put_u64(*token);
            }
            Self::Close { code, text } => {
                message.put_u8(CLOSE);
                message.put_u16(code.number());
                message.put_slice(&text.as_bytes()[..text.floor_char_boundary(MAX_CLOSE_TEXT)]);
            }
        }
        message.freeze()
    }
}

/// What stands before the payload of a data frame, for senders that build the message in place.
#[must_use]
pub const fn data_header(lane: Lane) -> [u8; DATA_HEADER] {
    [DATA, lane.byte()]
}

fn decode_close(message: &Bytes) -> Result<Frame, FrameError> {
    let wrong_length = FrameError::Length {
        frame: "close",
        length: message.len(),
    };
    let Some((head, text)) = message.split_first_chunk::<3>() else {
        return Err(wrong_length);
    };
    if text.len() > MAX_CLOSE_TEXT {
        return Err(wrong_length);
    }
    let text = std::str::from_utf8(text)
        .map_err(|_| FrameError::Text)?
        .to_owned();
    Ok(Frame::Close {
        code: CloseCode::from_number(u16::from_be_bytes([head[1], head[2]])),
        text,
    })
}

fn lane_at(message: &[u8]) -> Result<Lane, FrameError> {
    let byte = message.get(1).copied().ok_or(FrameError::Empty)?;
    Lane::from_byte(byte).ok_or(FrameError::UnknownLane(byte))
}

/// The number that makes up the rest of a message of fixed length.
fn number_at(message: &[u8], offset: usize, frame: &'static str) -> Result<u64, FrameError> {
    let rest = message
        .get(offset..)
        .and_then(|rest| <[u8; 8]>::try_from(rest).ok());
    rest.map(u64::from_be_bytes).ok_or(FrameError::Length {
        frame,
        length: message.len(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_these_bytes() {
        let data = Frame::Data {
            lane: Lane::Inward,
            payload: Bytes::from_static(b"hi"),
        };
        let close = Frame::Close {
            code: CloseCode::Removed,
            text: "bye".into(),
        };
        let golden: [(Frame, &[u8]); 5] = [
            (data, &[0x10, 0, b'h', b'i']),
            (
                Frame::Ack {
                    lane: Lane::Outward,
                    total: 0x0102,
                },
                &[0x11, 1, 0, 0, 0, 0, 0, 0, 1, 2],
            ),
            (Frame::Ping(7), &[0x12, 0, 0, 0, 0, 0, 0, 0, 7]),
            (Frame::Pong(7), &[0x13, 0, 0, 0, 0, 0, 0, 0, 7]),
            (close, &[0x14, 0, 2, b'b', b'y', b'e']),
        ];
        for (frame, bytes) in golden {
            assert_eq!(frame.encode(), bytes);
            assert_eq!(Frame::decode(Bytes::from_static(bytes)), Ok(frame));
        }
    }

    #[test]
    fn broken_frames_are_refused_with_their_fault() {
        let refusal = |bytes: &'static [u8]| Frame::decode(Bytes::from_static(bytes)).unwrap_err();
        let length = |frame, length| FrameError::Length { frame, length };
        assert_eq!(refusal(&[]), FrameError::Empty);
        assert_eq!(refusal(&[0x00]), FrameError::UnknownType(0));
        assert_eq!(refusal(&[0x10, 2, 1]), FrameError::UnknownLane(2));
        assert_eq!(refusal(&[0x10, 0]), length("data", 2));
        assert_eq!(refusal(&[0x11, 0, 1]), length("ack", 3));
        assert_eq!(
            refusal(&[0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            length("ping", 10)
        );
        assert_eq!(refusal(&[0x14, 0]), length("close", 2));
        assert_eq!(refusal(&[0x14, 0, 1, 0xff]), FrameError::Text);
    }

    #[test]
    fn a_long_close_text_is_cut_between_characters() {
        let frame = Frame::Close {
            code: CloseCode::Internal,
            text: "€".repeat(400),
        };
        let Ok(Frame::Close { text, .. }) = Frame::decode(frame.encode()) else {
            panic!("not a close frame")
        };
        assert_eq!(text, "€".repeat(MAX_CLOSE_TEXT / 3));
    }

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let message = Bytes::from(bytes);
            if let Ok(frame) = Frame::decode(message.clone()) {
                prop_assert_eq!(frame.encode(), message);
            }
        }
    }
}
