//! Nothing a peer sends, in any order, makes a session panic, spin or hold more than its windows.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use relay_agent::protocol::frame::{Frame, Lane};
use relay_agent::session::{Session, WINDOW};

// Each message is a length byte and as many bytes; time passes by a byte's worth of 100 ms.
fuzz_target!(|bytes: &[u8]| {
    let mut session = Session::new(WINDOW, Duration::ZERO);
    let mut now = Duration::ZERO;
    let mut rest = bytes;
    while let Some((&length, tail)) = rest.split_first() {
        let (message, tail) = tail.split_at(tail.len().min(usize::from(length)));
        rest = tail;
        let message = bytes::Bytes::copy_from_slice(message);
        if let Ok(frame) = Frame::decode(message.clone()) {
            assert_eq!(frame.encode(), message);
        }
        session.write(Lane::Inward, &message);
        if session.handle_frame(message, now).is_err() {
            return;
        }
        let mut sent = 0;
        while session.poll_frame(now).is_some() {
            sent += 1;
            assert!(sent < 64, "one message in makes many messages out");
        }
        session.read(Lane::Outward, 256, now);
        now += Duration::from_millis(100) * u32::from(length);
        if session.handle_timeout(now).is_err() {
            return;
        }
        assert!(session.unacknowledged(Lane::Inward) <= WINDOW);
    }
});
