//! The session layer alone: two sessions in memory, each handed the other's frames.

use std::time::{Duration, Instant};

use relay_agent::protocol::frame::Lane;
use relay_agent::session::{Session, WINDOW};

use crate::failure::Failure;
use crate::row;

/// What a bulk transfer writes at once, and what a small call does.
const WRITES: [(&str, usize); 2] = [("64 KiB", 65536), ("200 bytes", 200)];
/// Small writes cost far more for each byte; this many times fewer bytes are enough.
const FEWER: u64 = 64;

/// Carries so many bytes in memory, in large writes and in small ones.
pub(crate) fn measure(bytes: u64) -> Result<(), Failure> {
    for (words, length) in WRITES {
        let bytes = if length < 1000 { bytes / FEWER } else { bytes };
        let begun = Instant::now();
        let writes = carry(bytes, length, begun)?;
        let took = begun.elapsed().as_secs_f64();
        let text = format!(
            "{:.0} ns a write, {:.2} s/GiB",
            1e9 * took / writes as f64,
            took * (1u64 << 30) as f64 / bytes as f64
        );
        row(
            &format!("session layer, both ends, in writes of {words}"),
            &text,
            "",
        );
    }
    Ok(())
}

/// Returns how many writes it took.
fn carry(bytes: u64, length: usize, begun: Instant) -> Result<u64, Failure> {
    let mut now = Duration::ZERO;
    let (mut near, mut far) = (
        Session::new(WINDOW, now, now),
        Session::new(WINDOW, now, now),
    );
    let block = vec![7; length];
    let (mut written, mut read, mut writes) = (0, 0, 0);
    while read < bytes {
        now = begun.elapsed();
        written += near.write(Lane::Inward, &block) as u64;
        writes += 1;
        while let Some(frame) = near.poll_frame(now) {
            far.handle_frame(frame, now)
                .map_err(Failure::because("carry a frame"))?;
        }
        loop {
            let piece = far.read(Lane::Inward, length, now);
            if piece.is_empty() {
                break;
            }
            read += piece.len() as u64;
        }
        while let Some(frame) = far.poll_frame(now) {
            near.handle_frame(frame, now)
                .map_err(Failure::because("carry a frame back"))?;
        }
    }
    match read == written {
        true => Ok(writes),
        false => Err(Failure::new(format!(
            "{written} bytes went in, {read} came out"
        ))),
    }
}
