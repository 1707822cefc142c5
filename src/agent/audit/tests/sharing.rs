//! Two that write one log for a while, as an agent that drains and its successor do.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[tokio::test]
async fn two_that_write_one_log_under_load_lose_no_line_and_break_no_chain() {
    let mut place = Place::new();
    place.config.max_size = 20 * 1024;
    place.config.keep = 1000;
    let written = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let one = Arc::new(place.start().await);
    let first = calls(&one, &place, 0, &written);
    // It does not wait until the first has ended.
    let other = Arc::new(place.start().await);
    let second = calls(&other, &place, 1, &written);
    first.await.unwrap();
    second.await.unwrap();
    // Files in which both have written are put aside by either.
    one.stop();
    place.refuse(&other, "/after").await;
    other.stop();
    let verified = place.verify().unwrap();
    let of_both: usize = written.iter().map(|it| it.load(Ordering::Relaxed)).sum();
    // Two starts, two stops.
    assert_eq!(verified.lines, of_both as u64 + 1 + 4);
    assert_eq!((verified.first, verified.torn), (1, 0));
    let refused = [&one, &other].map(|audit| audit.health().unwrap().write_failures);
    assert_eq!(refused, [0, 0]);
    let mut writers = Vec::new();
    for file in files_of(place.file()).unwrap() {
        for line in fs::read_to_string(file).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let path = line["path"].as_str().unwrap_or_default();
            writers.push(path.starts_with("/0/"));
        }
    }
    let turns = writers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(turns > 10, "they took turns {turns} times");
}

/// At least so many of each.
const CALLS: usize = 200;

/// The calls of one of two, one after another, until both have made so many: however long the other takes to begin, they
/// meet.
fn calls(
    audit: &Arc<Audit>,
    place: &Place,
    who: usize,
    written: &Arc<[AtomicUsize; 2]>,
) -> tokio::task::JoinHandle<()> {
    let (audit, connection) = (Arc::clone(audit), Arc::clone(&place.connection));
    let written = Arc::clone(written);
    tokio::spawn(async move {
        while written.iter().any(|it| it.load(Ordering::Relaxed) < CALLS) {
            let number = written[who].load(Ordering::Relaxed);
            let account = account(&audit, &connection, &format!("/{who}/{number}"));
            account.unwrap().refuse(refused()).await.unwrap();
            written[who].fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}
