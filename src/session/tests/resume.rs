//! The session over many WebSockets: nothing lost, nothing twice, whatever the cable does.

use proptest::prelude::*;

use super::pair::{Cable, Pair};
use super::*;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Write {
        end: usize,
        lane: Lane,
        length: usize,
    },
    Read {
        end: usize,
        lane: Lane,
        most: usize,
    },
    Run(u64),
    /// The WebSocket ends.
    Cut,
    /// From now on the cable swallows everything.
    HalfOpen,
    /// The machine of one end is suspended for so many seconds, and the path forgets its connections.
    Suspend {
        end: usize,
        seconds: u32,
    },
    /// The agent offers to go on elsewhere.
    Offer,
    /// The relay accepts; the agent takes so many more messages from the old WebSocket.
    Accept(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let lane = || prop_oneof![Just(Lane::Inward), Just(Lane::Outward)];
    let length = || prop_oneof![4 => 1..60_usize, 1 => 1..3_000_usize];
    prop_oneof![
        6 => (0..2_usize, lane(), length())
            .prop_map(|(end, lane, length)| Step::Write { end, lane, length }),
        4 => (0..2_usize, lane(), length()).prop_map(|(end, lane, most)| Step::Read { end, lane, most }),
        4 => prop_oneof![0..60_u64, 0..1_500_u64].prop_map(Step::Run),
        1 => Just(Step::Cut),
        1 => Just(Step::HalfOpen),
        1 => (0..2_usize, 0..60_u32).prop_map(|(end, seconds)| Step::Suspend { end, seconds }),
        3 => Just(Step::Offer),
        3 => (0..5_usize).prop_map(Step::Accept),
    ]
}

/// Takes the step, and checks what must hold after each.
pub(super) fn take(pair: &mut Pair, step: Step, window: u64) {
    match step {
        Step::Write { end, lane, length } => {
            pair.write(end, lane, length);
        }
        Step::Read { end, lane, most } => {
            pair.read(end, lane, most);
        }
        Step::Run(millis) => {
            let until = pair.now + Duration::from_millis(millis);
            if pair.run(until).is_err() {
                assert_eq!(
                    pair.cable,
                    Cable::HalfOpen,
                    "a live peer was taken for dead"
                );
                pair.cut();
            }
        }
        Step::Cut => pair.cut(),
        Step::HalfOpen => pair.forget(),
        Step::Suspend { end, seconds } => {
            pair.forget();
            if pair.suspend(end, SECOND * seconds).is_err() {
                pair.cut();
            }
        }
        Step::Offer => pair.offer(),
        Step::Accept(late) if pair.has_offered() => pair.accept(late).unwrap(),
        Step::Accept(_) => {}
    }
    pair.check(window);
}

fn take_all(steps: Vec<Step>, window: u64) {
    let mut pair = Pair::new(window);
    for step in steps {
        take(&mut pair, step, window);
    }
    // Whatever happened before: with a cable that works and readers that read, everything arrives.
    pair.offer();
    pair.accept(0).unwrap();
    pair.settle();
}

proptest! {
    // Two thousand cases of a hundred steps: some ten seconds of a processor, so that a machine that has little time for
    // it gets done all the same.
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_lost_or_doubled_over_any_number_of_websockets(
        steps in prop::collection::vec(step(), 1..200),
        window in prop_oneof![Just(WINDOW), 100..5_000_u64],
    ) {
        take_all(steps, window);
    }
}

/// What failed once, in as few steps as show it: the kept seeds mean other steps whenever steps are added.
#[test]
fn what_was_lost_once_is_not_lost_again() {
    use Lane::{Inward, Outward};
    use Step::{Accept, HalfOpen, Offer, Read, Run};
    let write = |end, lane| Step::Write {
        end,
        lane,
        length: 1,
    };
    let read = |end, lane, most| Read { end, lane, most };
    let steps = [
        vec![
            write(0, Outward),
            write(0, Inward),
            write(0, Inward),
            Offer,
            Offer,
            Run(25),
            HalfOpen,
            read(1, Inward, 2),
            Run(500),
        ],
        vec![write(1, Inward), Offer, Run(0), Accept(1), Run(25)],
        vec![
            write(1, Outward),
            Offer,
            Run(25),
            read(0, Outward, 1),
            Run(525),
            Accept(0),
        ],
    ];
    for steps in steps {
        take_all(steps, WINDOW);
    }
}

#[test]
fn what_a_cut_swallowed_is_sent_again_and_what_arrived_is_not() {
    let mut pair = Pair::new(WINDOW);
    pair.write(1, Lane::Inward, 5_000);
    pair.run(SECOND).unwrap();
    pair.write(1, Lane::Inward, 7_000);
    pair.send();
    pair.cut();
    pair.offer();
    pair.accept(0).unwrap();
    let repeated = pair.ends[1].session.poll_frame(pair.now).unwrap();
    assert_eq!(repeated.len(), 2 + 7_000);
    assert_eq!(pair.ends[1].session.poll_frame(pair.now), None);
}

#[test]
fn bytes_that_arrive_after_the_offer_are_passed_over_when_they_are_repeated() {
    let mut pair = Pair::new(WINDOW);
    pair.offer();
    pair.write(1, Lane::Inward, 5_000);
    pair.send();
    pair.accept(1).unwrap();
    pair.settle();
}

#[test]
fn a_lost_acknowledgement_does_not_stop_a_full_window_for_ever() {
    let mut pair = Pair::new(1_000);
    assert_eq!(pair.write(0, Lane::Outward, 1_000), 1_000);
    pair.run(SECOND).unwrap();
    assert_eq!(pair.read(1, Lane::Outward, 1_000), 1_000);
    pair.cable = Cable::HalfOpen;
    pair.run(2 * SECOND).unwrap();
    pair.cut();
    pair.offer();
    pair.accept(0).unwrap();
    pair.run(3 * SECOND).unwrap();
    assert_eq!(pair.write(0, Lane::Outward, 1), 1);
}

#[test]
fn a_session_that_was_told_impossible_counts_says_so() {
    let mut session = new_session();
    session.write(Lane::Inward, &[0; 10]);
    session.poll_frame(Duration::ZERO).unwrap();
    let ack = Frame::Ack {
        lane: Lane::Inward,
        total: 4,
    };
    session.handle_frame(ack.encode(), Duration::ZERO).unwrap();
    for (from_here, from_peer) in [([3, 0], [0, 0]), ([11, 0], [0, 0]), ([4, 0], [0, 1])] {
        let resumed = session.resume(
            LaneCounts(from_here),
            LaneCounts(from_peer),
            Duration::ZERO,
            Duration::ZERO,
        );
        assert!(
            matches!(resumed, Err(Violation::Resume { .. })),
            "{from_here:?} {from_peer:?}"
        );
    }
}

#[test]
fn a_new_path_starts_without_the_doubts_of_the_old() {
    let mut pair = Pair::new(WINDOW);
    pair.cable = Cable::HalfOpen;
    pair.write(0, Lane::Inward, 10);
    pair.run(9 * SECOND).unwrap();
    assert!(pair.ends[0].session.is_doubtful());
    pair.offer();
    pair.accept(0).unwrap();
    assert!(!pair.ends[0].session.is_doubtful());
    pair.run(60 * SECOND).unwrap();
}

/// Its clock stood still, so that no deadline is over when it wakes, and nobody tells it that its path is dead.
#[test]
fn a_machine_that_was_suspended_doubts_its_path_within_ten_seconds_of_waking() {
    for has_data in [false, true] {
        let mut pair = Pair::new(WINDOW);
        pair.ends[0].session.can_dial();
        pair.run(3 * SECOND).unwrap();
        pair.forget();
        assert!(pair.suspend(0, 3_600 * SECOND).is_err(), "the relay saw it");
        let woken = pair.now;
        if has_data {
            pair.write(0, Lane::Outward, 1_000);
        }
        while !pair.ends[0].session.is_doubtful() {
            pair.run_only(&[0], pair.now + SECOND / 10).unwrap();
        }
        let took = pair.now - woken;
        assert!(
            took <= if has_data { 5 * SECOND } else { 10 * SECOND },
            "{took:?}"
        );
        pair.offer();
        pair.accept(0).unwrap();
        pair.settle();
    }
}

#[test]
fn a_machine_that_was_suspended_for_moments_goes_on_without_a_doubt() {
    let mut pair = Pair::new(WINDOW);
    for end in [0, 1] {
        pair.write(0, Lane::Outward, 1_000);
        pair.write(1, Lane::Inward, 1_000);
        pair.send();
        pair.suspend(end, 3 * SECOND).unwrap();
        for _ in 0..300 {
            pair.run(pair.now + SECOND / 10).unwrap();
            assert!(pair.ends.iter().all(|end| !end.session.is_doubtful()));
        }
    }
    pair.settle();
}

#[test]
fn small_payloads_that_wait_are_kept_together() {
    let mut session = new_session();
    for _ in 0..100_000 {
        let frame = Frame::Data {
            lane: Lane::Inward,
            payload: Bytes::from_static(b"x"),
        };
        session
            .handle_frame(frame.encode(), Duration::ZERO)
            .unwrap();
    }
    let mut pieces = 0;
    while !session
        .read(Lane::Inward, usize::MAX, Duration::ZERO)
        .is_empty()
    {
        pieces += 1;
    }
    assert!(pieces < 10, "{pieces} buffers for 100,000 bytes");
}

#[test]
fn tiny_frames_that_nobody_acknowledges_are_bounded_in_number() {
    let mut session = new_session();
    let mut frames = 0;
    while session.write(Lane::Inward, b"x") == 1 {
        frames += usize::from(session.poll_frame(Duration::ZERO).is_some());
    }
    assert!(frames < 20_000, "{frames} frames are kept");
}

#[test]
fn what_was_promised_to_be_repeated_is_repeated_though_it_is_acknowledged_meanwhile() {
    let mut pair = Pair::new(WINDOW);
    pair.offer();
    for _ in 0..3 {
        pair.write(1, Lane::Inward, 1_000);
        pair.send();
    }
    pair.accept(2).unwrap();
    assert_eq!(pair.read(0, Lane::Inward, 4_000), 1_000);
    assert_eq!(pair.read(0, Lane::Inward, 4_000), 1_000);
    let now = pair.now + SECOND;
    let ack = pair.ends[0].session.poll_frame(now).unwrap();
    assert_eq!(ack[0], 0x11);
    pair.ends[1].session.handle_frame(ack, now).unwrap();
    pair.settle();
}
