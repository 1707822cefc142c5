//! Who writes when, and what a disk that is slow, hangs or fails does to calls.

use std::pin::pin;

use futures_util::FutureExt as _;

use super::gate::{By, Fails, Gate, Way};
use super::*;

#[tokio::test]
async fn the_runtime_writes_what_calls_hand_in() {
    let place = Place::new();
    let gate = Gate::default();
    let audit = place.start_with(&gate, never_slow()).await;
    assert_eq!(gate.passed(), [By::Thread], "the start");
    place.refuse_in_the_runtime(&audit, "/a").await;
    assert_eq!(gate.passed(), [By::Thread, By::Runtime]);
    // All of one turn with one write.
    until(|| audit.desk.as_ref().unwrap().is_the_runtimes()).await;
    let callers: Vec<_> = (0..5)
        .map(|_| tokio::spawn(place.call(&audit, "/b").unwrap().refuse(refused())))
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(gate.passed(), [By::Thread, By::Runtime, By::Runtime]);
    let health = audit.health().unwrap();
    assert_eq!((health.lines_written, health.sequence()), (7, 7));
    assert_eq!(health.bytes_written, place.text().len() as u64);
    assert_eq!((health.write_failures, health.slow_writes), (0, 0));
    audit.stop();
    place.verify().unwrap();
}

#[tokio::test]
async fn a_line_is_written_at_once_where_no_other_call_could_hand_one_in_and_else_with_the_others_of_the_turn()
 {
    let (place, gate) = (Place::new(), Gate::default());
    let audit = place.start_with(&gate, never_slow()).await;
    let runtime = || audit.desk.as_ref().unwrap().is_the_runtimes();
    let written = || place.of_kind("call").len();
    until(runtime).await;
    let alone = place.call(&audit, "/alone").unwrap();
    let refused_at_once = alone.refuse(refused()).now_or_never();
    assert!(refused_at_once.is_some_and(|recorded| recorded.is_ok()));
    assert_eq!(written(), 1);

    until(runtime).await;
    let [first, last] = ["/first", "/last"].map(|path| place.call(&audit, path).unwrap());
    let mut first = pin!(first.refuse(refused()));
    assert!(first.as_mut().now_or_never().is_none());
    assert_eq!(written(), 1, "the other may hand one in");
    assert!(last.refuse(refused()).now_or_never().is_some());
    assert!(first.now_or_never().is_some(), "the last wrote for both");
    assert_eq!(written(), 3);

    until(runtime).await;
    let [ended, open] = ["/ended", "/open"].map(|path| place.call(&audit, path).unwrap());
    ended.refuse(refused()).await.unwrap();
    assert_eq!(written(), 4, "nobody waits for calls that go on");
    let (thread, runtime) = (By::Thread, By::Runtime);
    assert_eq!(gate.passed(), [thread, runtime, runtime, runtime]);
    drop(open);
    audit.stop();
    assert_eq!(place.verify().unwrap().lines, 7);
}

#[tokio::test]
async fn after_a_slow_write_the_thread_writes_for_a_while() {
    let place = Place::new();
    let gate = Gate::default();
    let mut patience = Patience {
        slow: Duration::from_millis(300),
        spell: DEADLINE,
        ..never_slow()
    };
    let audit = place.start_with(&gate, patience).await;
    let before = audit.health().unwrap().slow_writes;
    gate.set(Way::Slow(patience.slow * 2));
    place.refuse_in_the_runtime(&audit, "/slow").await;
    assert_eq!(gate.passed().last(), Some(&By::Runtime));
    assert_eq!(audit.health().unwrap().slow_writes, before + 1);
    gate.set(Way::Open);
    for _ in 0..3 {
        place.refuse(&audit, "/next").await;
        assert_eq!(gate.passed().last(), Some(&By::Thread));
    }
    drop(audit);

    patience.spell = Duration::from_millis(50);
    let audit = place.start_with(&gate, patience).await;
    gate.set(Way::Slow(patience.slow * 2));
    place.refuse_in_the_runtime(&audit, "/slow").await;
    gate.set(Way::Open);
    place.refuse_in_the_runtime(&audit, "/again").await;
    assert_eq!(gate.passed().last(), Some(&By::Runtime));
    audit.stop();
    place.verify().unwrap();
}

#[test]
fn a_disk_that_is_slow_again_and_again_is_left_to_the_thread_for_longer_until_it_was_well_for_long()
{
    let desk = Desk::new(Patience::USUAL);
    assert_eq!(desk.mistrust(), None, "nothing is open");
    desk.well(true);
    let seconds = |spell: Option<Duration>| spell.map(|spell| spell.as_secs());
    assert_eq!(seconds(desk.mistrust()), Some(1));
    assert_eq!(desk.mistrust(), None, "the thread writes already");
    let usual = Patience::USUAL;
    let mut spell = usual.spell_after(None, Duration::ZERO);
    let spells: Vec<_> = (0..8)
        .map(|_| {
            let this = spell;
            spell = usual.spell_after(Some(spell), usual.longest_spell / 2);
            this.as_secs()
        })
        .collect();
    assert_eq!(spells, [1, 2, 4, 8, 16, 32, 60, 60]);
    let calm = usual.spell_after(Some(spell), usual.longest_spell);
    assert_eq!(calm, usual.spell);
}

#[tokio::test]
async fn with_a_sync_for_each_line_the_thread_writes() {
    let mut place = Place::new();
    place.config.sync = Sync::Always;
    let gate = Gate::default();
    let audit = place.start_with(&gate, unhurried()).await;
    place.refuse(&audit, "/a").await;
    assert_eq!(gate.passed(), [By::Thread, By::Thread]);
}

#[tokio::test]
async fn while_the_threads_write_hangs_calls_are_refused_and_they_resume_by_themselves() {
    let mut place = Place::new();
    place.config.sync = Sync::Always;
    let gate = Gate::default();
    let audit = place.start_with(&gate, short()).await;
    gate.set(Way::Closed);
    let waiting = tokio::spawn(place.call(&audit, "/waits").unwrap().refuse(refused()));
    until(|| audit.health().unwrap().trouble.is_some()).await;
    let health = audit.health().unwrap();
    let why = health.trouble.unwrap().why;
    assert!(why.contains("has not come back"), "{why}");
    assert_eq!(health.write_failures, 1);
    for _ in 0..3 {
        assert!(place.call(&audit, "/refused").is_err());
    }
    assert!(!waiting.is_finished());
    gate.set(Way::Open);
    waiting.await.unwrap().unwrap();
    until(|| audit.health().unwrap().trouble.is_none()).await;
    place.refuse(&audit, "/after").await;
    audit.stop();
    let resumed = place.of_kind("resumed");
    assert_eq!((resumed.len(), &resumed[0]["refused"]), (1, &3.into()));
    assert_eq!(resumed[0]["why"], why);
    assert_eq!(place.of_kind("call").len(), 2);
    place.verify().unwrap();
}

#[tokio::test]
async fn when_the_runtimes_own_write_hangs_the_thread_tells_and_writes_from_then_on() {
    let place = Place::new();
    let gate = Gate::default();
    let audit = Arc::new(place.start_with(&gate, short()).await);
    gate.set(Way::Closed);
    // Not of the runtime, which stands still.
    let (watched, opened) = (Arc::clone(&audit), gate.clone());
    let watching = std::thread::spawn(move || {
        let begun = std::time::Instant::now();
        while watched.health().unwrap().write_failures == 0 && begun.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(5));
        }
        opened.set(Way::Open);
        watched.health().unwrap().write_failures
    });
    place.refuse_in_the_runtime(&audit, "/hangs").await;
    assert_eq!(watching.join().unwrap(), 1, "it was told");
    assert_eq!(gate.passed().last(), Some(&By::Runtime));
    place.refuse(&audit, "/after").await;
    assert_eq!(gate.passed().last(), Some(&By::Thread));
    audit.stop();
    place.verify().unwrap();
}

#[tokio::test]
async fn lines_that_do_not_reach_the_disk_are_in_the_log_once_when_they_do() {
    for fails in [Fails::Sync, Fails::SyncAndCut] {
        let mut place = Place::new();
        place.config.sync = Sync::Always;
        let gate = Gate::default();
        let audit = place.start_with(&gate, unhurried()).await;
        gate.fail(fails);
        let waiting = tokio::spawn(place.call(&audit, "/waits").unwrap().refuse(refused()));
        until(|| audit.health().unwrap().write_failures >= 2).await;
        assert!(audit.health().unwrap().trouble.is_some() && !waiting.is_finished());
        gate.fail(Fails::Nothing);
        waiting.await.unwrap().unwrap();
        audit.stop();
        assert_eq!(place.of_kind("call").len(), 1, "{fails:?}");
        place.verify().unwrap();
    }
}

/// Nothing is slow, however loaded this machine is.
fn never_slow() -> Patience {
    Patience {
        slow: DEADLINE,
        ..unhurried()
    }
}

/// A write hangs after less than a disk would be given, and after longer than a busy machine's takes.
fn short() -> Patience {
    Patience {
        hanging: Duration::from_secs(3),
        ..Patience::USUAL
    }
}
