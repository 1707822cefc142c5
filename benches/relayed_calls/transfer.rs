//! One large body down or up, by one caller, with the bytes counted at the far end.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Method, StatusCode};

use crate::failure::Failure;
use crate::http_client::{self, Answer};
use crate::target::Target;

const MEBIBYTE: f64 = 1_048_576.0;
const GIBIBYTE: f64 = 1_073_741_824.0;

/// One piece of an upload. Large enough that the client costs little, small enough to stay in the cache.
static PIECE: [u8; 65_536] = [0x5a; 65_536];

/// What one transfer cost.
pub(crate) struct Transfer {
    /// Processor seconds of the system per GiB.
    pub(crate) processor_seconds_per_gib: f64,
    /// Speed, in MiB a second.
    pub(crate) mib_per_second: f64,
}

/// Which way the large body goes.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Down,
    Up,
}

impl fmt::Display for Direction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Down => "down",
            Self::Up => "up",
        })
    }
}

/// Transfers this many bytes, and checks that all of them arrived.
pub(crate) fn run(target: &Target, direction: Direction, bytes: u64) -> Result<Transfer, Failure> {
    let (processor_before, began) = (target.processor_time()?, Instant::now());
    match direction {
        Direction::Down => {
            let body = Empty::<Bytes>::new();
            let answer = http_client::send(target, Method::GET, &target.large, body)?;
            expect(&answer, bytes, Some(answer.bytes))?;
        }
        Direction::Up => {
            let body = Repeated { left: bytes };
            let answer = http_client::send(target, Method::POST, &target.sink, body)?;
            let counted = std::str::from_utf8(&answer.start).ok();
            expect(&answer, bytes, counted.and_then(|text| text.parse().ok()))?;
        }
    }
    let took = began.elapsed().as_secs_f64();
    let processor = (target.processor_time()? - processor_before).as_secs_f64();
    let bytes = bytes as f64;
    Ok(Transfer {
        processor_seconds_per_gib: processor / (bytes / GIBIBYTE),
        mib_per_second: bytes / MEBIBYTE / took,
    })
}

fn expect(answer: &Answer, bytes: u64, arrived: Option<u64>) -> Result<(), Failure> {
    if answer.status == StatusCode::OK && arrived == Some(bytes) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "a transfer of {bytes} bytes ended with status {} and {arrived:?} bytes: {}",
        answer.status,
        String::from_utf8_lossy(&answer.start[..answer.start.len().min(300)])
    )))
}

/// A body of known length that repeats [`PIECE`].
struct Repeated {
    left: u64,
}

impl Body for Repeated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.left).map_or(PIECE.len(), |left| left.min(PIECE.len()));
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
