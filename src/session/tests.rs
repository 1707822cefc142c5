//! Two sessions and a cable under virtual time, against a model of what went in; and the rules one by one.

mod flight;
mod pair;
mod resume;

use proptest::prelude::*;

use self::pair::{Cable, Pair};
use self::resume::{Step, take};
use super::liveness::{
    ASK_AFTER, DEAD_AFTER, DEAD_AFTER_AT_MOST, DOUBT_AFTER, IDLE_PING_AFTER, UNHEARD_AFTER,
};
use super::outgoing::FULL_PAYLOAD;
use super::*;
use crate::protocol::frame::{DATA_HEADER, MAX_PAYLOAD};

const SECOND: Duration = Duration::from_secs(1);

fn new_session() -> Session {
    Session::new(WINDOW, Duration::ZERO, Duration::ZERO)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lane = prop_oneof![Just(Lane::Inward), Just(Lane::Outward)];
    let length = prop_oneof![1..200_usize, 1..80_000_usize];
    let step =
        prop_oneof![
            (0..2_usize, lane.clone(), length.clone())
                .prop_map(|(end, lane, length)| Step::Write { end, lane, length }),
            (0..2_usize, lane, length).prop_map(|(end, lane, most)| Step::Read { end, lane, most }),
            (0..2_000_u64).prop_map(Step::Run),
        ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn what_comes_out_is_a_prefix_of_what_went_in_and_the_rest_is_kept(
        steps in steps(),
        window in prop_oneof![Just(WINDOW), 1_000..200_000_u64],
    ) {
        let mut pair = Pair::new(window);
        for step in steps {
            take(&mut pair, step, window);
        }
        // Whatever happened before, with a cable that works and readers that read, everything arrives.
        pair.settle();
    }

    #[test]
    fn no_message_makes_a_session_panic(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40)) {
        let mut session = new_session();
        for message in messages {
            let _ = session.handle_frame(Bytes::from(message), Duration::ZERO);
            while session.poll_frame(Duration::ZERO).is_some() {}
        }
    }
}

#[test]
fn writes_of_many_callers_leave_in_one_frame() {
    let mut session = new_session();
    for _ in 0..100 {
        assert_eq!(session.write(Lane::Inward, &[7; 100]), 100);
    }
    let message = session.poll_frame(Duration::ZERO).unwrap();
    assert_eq!(message.len(), 2 + 100 * 100);
    assert_eq!(session.poll_frame(Duration::ZERO), None);
}

#[test]
fn what_crosses_a_lane_is_counted_on_both_sides() {
    let mut pair = Pair::new(WINDOW);
    for _ in 0..3 {
        pair.write(0, Lane::Inward, 1_000);
        pair.run(pair.now + SECOND).unwrap();
    }
    pair.settle();
    let traffic = |lane| pair.ends.each_ref().map(|end| end.session.traffic(lane));
    let [sent, received] = traffic(Lane::Inward);
    assert_eq!((sent.bytes_sent, sent.frames_sent), (3_000, 3));
    assert_eq!(
        (received.bytes_received, received.frames_received),
        (3_000, 3)
    );
    assert_eq!(sent.unacknowledged, 0);
    assert_eq!(traffic(Lane::Outward), [LaneTraffic::default(); 2]);
}

#[test]
fn a_frame_never_exceeds_the_longest_message() {
    let mut session = new_session();
    assert_eq!(
        session.write(Lane::Inward, &vec![1; 1 << 20]),
        2 * FULL_PAYLOAD
    );
    assert_eq!(session.room(Lane::Inward), 0);
    let lengths: Vec<usize> = std::iter::from_fn(|| session.poll_frame(Duration::ZERO))
        .map(|m| m.len())
        .collect();
    assert_eq!(lengths, [DATA_HEADER + FULL_PAYLOAD; 2]);
    assert!(lengths[0] <= crate::protocol::MAX_MESSAGE);
}

#[test]
fn a_sender_stops_at_the_window_until_the_reader_has_read() {
    let mut pair = Pair::new(10_000);
    assert_eq!(pair.write(0, Lane::Inward, 20_000), 10_000);
    pair.run(SECOND).unwrap();
    assert_eq!(
        pair.write(0, Lane::Inward, 20_000),
        0,
        "unread bytes are not acknowledged"
    );
    assert_eq!(pair.read(1, Lane::Inward, 4_000), 4_000);
    pair.run(2 * SECOND).unwrap();
    assert_eq!(pair.write(0, Lane::Inward, 20_000), 4_000);
    assert!(
        pair.ends[0].session.room(Lane::Outward) > 0,
        "the other lane has its own window"
    );
}

#[test]
fn a_peer_that_promises_to_hold_everything_makes_nobody_keep_everything() {
    let mut session = Session::new(u64::MAX, Duration::ZERO, Duration::ZERO);
    while session.write(Lane::Inward, &[0; MAX_PAYLOAD]) > 0 {
        while session.poll_frame(Duration::ZERO).is_some() {}
        assert!(session.unacknowledged(Lane::Inward) <= WINDOW);
    }
    assert_eq!(session.unacknowledged(Lane::Inward), WINDOW);
}

#[test]
fn a_peer_that_overruns_the_window_breaks_a_rule() {
    let mut session = new_session();
    let payload = Bytes::from(vec![0; MAX_PAYLOAD]);
    let frame = Frame::Data {
        lane: Lane::Outward,
        payload,
    }
    .encode();
    let whole = WINDOW / MAX_PAYLOAD as u64;
    for _ in 0..whole {
        session.handle_frame(frame.clone(), Duration::ZERO).unwrap();
    }
    let result = session.handle_frame(frame, Duration::ZERO);
    assert!(matches!(result, Err(Violation::Window(_))));
}

#[test]
fn an_impossible_acknowledgement_breaks_a_rule() {
    let mut session = new_session();
    session.write(Lane::Inward, &[0; 10]);
    session.poll_frame(Duration::ZERO).unwrap();
    let ack = |total| {
        Frame::Ack {
            lane: Lane::Inward,
            total,
        }
        .encode()
    };
    assert_eq!(
        session.handle_frame(ack(4), Duration::ZERO),
        Ok(Received::Room(Lane::Inward))
    );
    for total in [3, 11] {
        let violation = Violation::Ack {
            total,
            sent: 10,
            acknowledged: 4,
        };
        assert_eq!(
            session.handle_frame(ack(total), Duration::ZERO),
            Err(violation)
        );
    }
}

#[test]
fn lanes_take_turns() {
    let mut session = new_session();
    for lane in Lane::BOTH {
        session.write(lane, &vec![0; 2 * MAX_PAYLOAD]);
    }
    let lanes: Vec<u8> = std::iter::from_fn(|| session.poll_frame(Duration::ZERO))
        .map(|m| m[1])
        .collect();
    assert_eq!(lanes, [0, 1, 0, 1]);
}

#[test]
fn a_pong_and_an_ack_overtake_data() {
    let mut session = new_session();
    session.write(Lane::Inward, &vec![0; MAX_PAYLOAD]);
    session
        .handle_frame(Frame::Ping(5).encode(), Duration::ZERO)
        .unwrap();
    assert_eq!(
        session.poll_frame(Duration::ZERO),
        Some(Frame::Pong(5).encode())
    );
}

#[test]
fn a_flood_of_pings_costs_one_pong() {
    let mut session = new_session();
    for token in 0..1_000 {
        session
            .handle_frame(Frame::Ping(token).encode(), Duration::ZERO)
            .unwrap();
    }
    assert_eq!(
        session.poll_frame(Duration::ZERO),
        Some(Frame::Pong(999).encode())
    );
    assert_eq!(session.poll_frame(Duration::ZERO), None);
}

#[test]
fn an_idle_pair_stays_alive_by_pings() {
    let mut pair = Pair::new(WINDOW);
    pair.run(10 * IDLE_PING_AFTER).unwrap();
    assert!(pair.now - pair.ends[0].session.last_heard() <= IDLE_PING_AFTER + SECOND);
}

#[test]
fn a_reader_that_does_not_read_is_not_taken_for_dead() {
    let mut pair = Pair::new(WINDOW);
    pair.write(0, Lane::Inward, 10);
    assert_eq!(pair.run(600 * SECOND), Ok(()));
}

#[test]
fn a_cut_cable_is_noticed_in_ten_seconds_when_data_waits() {
    let mut pair = Pair::new(WINDOW);
    pair.run(SECOND).unwrap();
    pair.cable = Cable::HalfOpen;
    pair.write(0, Lane::Inward, 10);
    assert!(pair.run(60 * SECOND).is_err());
    assert_eq!(pair.now, SECOND + DEAD_AFTER);
}

#[test]
fn a_cut_cable_is_noticed_in_twenty_five_seconds_when_idle() {
    let mut pair = Pair::new(WINDOW);
    pair.cable = Cable::HalfOpen;
    assert!(pair.run(60 * SECOND).is_err());
    assert_eq!(pair.now, IDLE_PING_AFTER + DEAD_AFTER);
}

#[test]
fn doubt_comes_before_the_verdict_and_a_ping_before_the_doubt() {
    let mut session = new_session();
    session.write(Lane::Inward, b"x");
    session.poll_frame(Duration::ZERO).unwrap();
    session.handle_timeout(ASK_AFTER).unwrap();
    assert_eq!(session.poll_frame(ASK_AFTER), Some(Frame::Ping(1).encode()));
    assert!(!session.is_doubtful());
    assert_eq!(session.poll_timeout(), DOUBT_AFTER);
    session.handle_timeout(DOUBT_AFTER).unwrap();
    assert!(session.is_doubtful());
    assert_eq!(session.poll_timeout(), DEAD_AFTER);
    assert_eq!(
        session.poll_frame(DEAD_AFTER - SECOND),
        None,
        "one ping is enough"
    );
    session
        .handle_frame(Frame::Pong(1).encode(), DEAD_AFTER - SECOND)
        .unwrap();
    assert!(!session.is_doubtful(), "any frame ends the doubt");
}

#[test]
fn data_that_is_not_acknowledged_demands_an_answer_whatever_else_the_peer_says() {
    let mut session = new_session();
    session.write(Lane::Inward, b"x");
    session.poll_frame(Duration::ZERO).unwrap();
    let data = Frame::Data {
        lane: Lane::Outward,
        payload: Bytes::from_static(b"y"),
    };
    session.handle_frame(data.encode(), SECOND).unwrap();
    assert_eq!(session.poll_timeout(), ASK_AFTER);
}

#[test]
fn a_path_that_carries_one_way_only_is_doubted_whatever_comes_by_it() {
    let mut session = new_session();
    let data = Frame::Data {
        lane: Lane::Outward,
        payload: Bytes::from_static(b"y"),
    };
    session.write(Lane::Inward, b"x");
    let mut doubted = None;
    for second in 0..60 {
        let now = second * SECOND;
        session.handle_frame(data.clone().encode(), now).unwrap();
        session.read(Lane::Outward, 1, now);
        while session.poll_frame(now).is_some() {}
        session.handle_timeout(now).unwrap();
        if session.is_doubtful() {
            doubted.get_or_insert(now);
        }
    }
    assert_eq!(doubted, Some(UNHEARD_AFTER));
    let now = 60 * SECOND;
    let ack = Frame::Ack {
        lane: Lane::Inward,
        total: 1,
    };
    session.handle_frame(ack.encode(), now).unwrap();
    assert!(!session.is_doubtful(), "it was heard after all");
}

#[test]
fn silence_that_ends_is_no_doubt_any_more_though_the_answer_is_still_due() {
    let mut session = new_session();
    session.write(Lane::Inward, b"x");
    session.poll_frame(Duration::ZERO).unwrap();
    session.handle_timeout(DOUBT_AFTER).unwrap();
    assert!(session.is_doubtful());
    let now = DOUBT_AFTER + SECOND;
    session.handle_frame(Frame::Ping(1).encode(), now).unwrap();
    assert!(!session.is_doubtful());
    session.handle_timeout(UNHEARD_AFTER).unwrap();
    assert!(session.is_doubtful(), "it is not heard for too long");
}

#[test]
fn the_side_that_can_dial_doubts_a_silent_path_within_ten_seconds_though_only_the_other_has_data() {
    let mut pair = Pair::new(WINDOW);
    pair.ends[0].session.can_dial();
    pair.run(100 * SECOND).unwrap();
    pair.cable = Cable::HalfOpen;
    pair.write(1, Lane::Inward, 10);
    pair.run(109 * SECOND).unwrap();
    assert!(pair.ends[0].session.is_doubtful());
}

#[test]
fn a_slow_path_is_given_more_time() {
    let mut session = Session::new(WINDOW, SECOND, Duration::ZERO);
    session.write(Lane::Inward, b"x");
    session.poll_frame(Duration::ZERO).unwrap();
    session.handle_timeout(2 * SECOND).unwrap();
    assert!(session.poll_frame(2 * SECOND).is_some());
    session.handle_timeout(4 * SECOND).unwrap();
    assert_eq!(session.poll_timeout(), 15 * SECOND);
}

#[test]
fn the_round_trip_is_measured_by_pings() {
    let mut pair = Pair::new(WINDOW);
    pair.delay = SECOND;
    pair.run(1_000 * SECOND).unwrap();
    for end in &pair.ends {
        assert!(end.session.round_trip() > Duration::from_millis(1_900));
    }
}

#[test]
fn answers_to_no_ping_do_not_make_a_dead_path_pass_for_a_slow_one() {
    let mut session = new_session();
    session.ping();
    session.poll_frame(Duration::ZERO).unwrap();
    for minute in 1..1_000 {
        let now = minute * 60 * SECOND;
        session.handle_frame(Frame::Pong(1).encode(), now).unwrap();
    }
    let quiet_since = 999 * 60 * SECOND;
    session.write(Lane::Inward, b"x");
    session.poll_frame(quiet_since).unwrap();
    let mut now = quiet_since;
    while session.handle_timeout(now).is_ok() {
        now = session.poll_timeout();
        session.poll_frame(now);
        assert!(now - quiet_since <= DEAD_AFTER_AT_MOST, "{now:?}");
    }
}

#[test]
fn a_path_of_two_seconds_is_not_taken_for_dead() {
    let mut pair = Pair::new(WINDOW);
    pair.delay = SECOND;
    for round in 1..100 {
        pair.write(0, Lane::Inward, 4);
        assert_eq!(pair.run(round * SECOND / 3), Ok(()));
        pair.read(1, Lane::Inward, 100);
    }
}

#[test]
fn close_comes_after_what_was_written_and_is_the_last() {
    let mut session = new_session();
    session.write(Lane::Inward, b"last words");
    session.close(CloseCode::Draining, "restart".into());
    assert_eq!(session.poll_frame(Duration::ZERO).unwrap()[0], 0x10);
    let close = Frame::Close {
        code: CloseCode::Draining,
        text: "restart".into(),
    };
    assert_eq!(session.poll_frame(Duration::ZERO), Some(close.encode()));
    assert_eq!(session.closed_with(), Some(CloseCode::Draining));
    session.write(Lane::Inward, b"too late");
    assert_eq!(session.poll_frame(Duration::ZERO), None);
}
