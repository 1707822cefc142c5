//! Two that write one log for a while, as an agent that drains and its successor do.

use super::*;

#[tokio::test]
async fn two_that_write_one_log_under_load_lose_no_line_and_break_no_chain() {
    let mut place = Place::new();
    place.config.max_size = 20 * 1024;
    place.config.keep = 1000;
    let one = Arc::new(place.start().await);
    let first = calls(&one, &place, "one");
    // It does not wait until the first has ended.
    let other = Arc::new(place.start().await);
    let second = calls(&other, &place, "other");
    first.await.unwrap();
    second.await.unwrap();
    // Files in which both have written are put aside by either.
    one.stop();
    place.refuse(&other, "/after").await;
    other.stop();
    let verified = place.verify().unwrap();
    // Two starts, two stops.
    assert_eq!(verified.lines, 2 * CALLS as u64 + 1 + 4);
    assert_eq!((verified.first, verified.torn), (1, 0));
    let refused = [&one, &other].map(|audit| audit.health().unwrap().write_failures);
    assert_eq!(refused, [0, 0]);
    let mut writers = Vec::new();
    for file in files_of(place.file()).unwrap() {
        for line in fs::read_to_string(file).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let path = line["path"].as_str().unwrap_or_default();
            writers.push(path.starts_with("/one"));
        }
    }
    let turns = writers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(turns > 10, "they took turns {turns} times");
}

const CALLS: usize = 400;

/// Calls one after another, for as long as two need to meet.
fn calls(audit: &Arc<Audit>, place: &Place, name: &'static str) -> tokio::task::JoinHandle<()> {
    let (audit, connection) = (Arc::clone(audit), Arc::clone(&place.connection));
    tokio::spawn(async move {
        for number in 0..CALLS {
            let account = account(&audit, &connection, &format!("/{name}/{number}"));
            account.unwrap().refuse(refused()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}
