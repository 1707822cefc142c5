//! Accounts on one side, the file on the other.

use std::fs;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Condvar;
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::agent::config::Sync;
use crate::body;

const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn every_call_has_its_line_before_its_answer_is_whole() {
    let place = Place::new();
    let audit = place.start().await;
    let account = place.call(&audit, "/a?token=secret").unwrap();
    account.refuse(refused()).await.unwrap();
    assert_eq!(place.of_kind("call").len(), 1);

    let account = place.call(&audit, "/empty").unwrap();
    let answer = account.pass(Response::new(body::empty())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(place.of_kind("call").len(), 2);

    let account = place.call(&audit, "/full").unwrap();
    let answer = account.pass(Response::new(body::full("hello"))).await;
    assert_eq!(
        place.of_kind("call").len(),
        3,
        "there whole, so written first"
    );
    let collected = answer.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.to_bytes(), "hello");

    let account = place.call(&audit, "/pieces").unwrap();
    let (pieces, mut received) = tokio::sync::mpsc::unbounded_channel();
    let stream = futures_util::stream::poll_fn(move |context| received.poll_recv(context));
    let answer = Response::new(body::streaming(http_body_util::StreamBody::new(stream)));
    let mut body = account.pass(answer).await.unwrap().into_body();
    for word in ["hello", "again"] {
        let frame = http_body::Frame::data(bytes::Bytes::from(word));
        pieces.send(Ok::<_, body::BodyError>(frame)).unwrap();
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(piece, word);
        assert_eq!(place.of_kind("call").len(), 3, "it goes on");
    }
    drop(pieces);
    assert!(body.frame().await.is_none());
    assert_eq!(
        place.of_kind("call").len(),
        4,
        "the end came after the line"
    );

    drop(place.call(&audit, "/gone").unwrap());
    audit.stop();
    let calls = place.of_kind("call");
    assert_eq!(calls.len(), 5);
    assert_eq!(calls[0]["query"], "token=<redacted>");
    assert_eq!(calls[0]["reason"], "loop-detected");
    assert_eq!(calls[2]["response_bytes"], 5);
    assert_eq!(calls[3]["response_bytes"], 10);
    assert_eq!(calls[4]["end"], "given-up");
    assert!(!place.text().contains("secret"));
    let verified = place.verify().unwrap();
    assert_eq!((verified.first, verified.lines), (1, 7));
    assert_eq!(place.lines().last().unwrap()["kind"], "stop");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_lets_no_call_begin_and_resumes_by_itself() {
    let place = Place::new();
    let audit = place.start().await;
    let under_way = place.call(&audit, "/under-way").unwrap();
    // As when its disk goes away: with the directory, what was in it is gone.
    fs::remove_dir_all(place.directory()).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let waiting = tokio::spawn(under_way.refuse(refused()));
    until(|| audit.health().unwrap().trouble.is_some()).await;
    let why = audit.health().unwrap().trouble.unwrap().why;
    assert!(
        why.contains("moved or removed") || why.contains("does not exist"),
        "{why}"
    );
    assert!(place.call(&audit, "/refused").is_err());
    assert!(!waiting.is_finished());
    place.make_directory();
    until(|| audit.health().unwrap().trouble.is_none()).await;
    waiting.await.unwrap().unwrap();
    place
        .call(&audit, "/again")
        .unwrap()
        .refuse(refused())
        .await
        .unwrap();
    audit.stop();
    let lines = place.lines();
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["resumed", "call", "call", "stop"]);
    assert_eq!(
        (&lines[0]["seq"], &lines[0]["refused"]),
        (&2.into(), &1.into())
    );
    assert_eq!(lines[1]["path"], "/under-way");
    // What was lost with the directory is found to be missing.
    let lost = place.verify();
    assert!(
        matches!(lost, Err(Finding::BeginningMissing { first: 2 })),
        "{lost:?}"
    );
}

#[tokio::test]
async fn a_torn_line_is_kept_and_told_of() {
    let place = Place::new();
    let audit = place.start().await;
    place
        .call(&audit, "/a")
        .unwrap()
        .refuse(refused())
        .await
        .unwrap();
    drop(audit);
    let mut text = place.text();
    text.push_str("{\"v\":1,\"seq\":4,\"ti");
    fs::write(place.file(), &text).unwrap();
    let audit = place.start().await;
    audit.stop();
    assert!(place.text().starts_with(&text));
    let verified = place.verify().unwrap();
    assert_eq!((verified.torn, verified.lines), (1, 6));
}

#[tokio::test]
async fn rotation_under_load_loses_no_line_and_breaks_no_chain() {
    let mut place = Place::new();
    place.config.max_size = 20 * 1024;
    place.config.keep = 5;
    let audit = Arc::new(place.start().await);
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let (audit, place) = (Arc::clone(&audit), place.connection.clone());
        callers.spawn(async move {
            for call in 0..60 {
                let account = account(&audit, &place, &format!("/{caller}/{call}")).unwrap();
                account.refuse(refused()).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    audit.stop();
    let verified = place.verify().unwrap();
    assert!(verified.pruned.is_some());
    // Start, stop, a line for each removal, and every call.
    let pruned = verified.head.sequence - 482;
    assert!(pruned > 0);
    assert_eq!(files_of(place.file()).unwrap().len(), 6);
}

#[tokio::test]
async fn the_runtime_writes_what_calls_hand_in() {
    let place = Place::new();
    let gate = Gate::default();
    let audit = place.start_with(&gate, unhurried()).await;
    assert_eq!(gate.passed(), [By::Thread], "the start");
    place.refuse(&audit, "/a").await;
    assert_eq!(gate.passed(), [By::Thread, By::Runtime]);
    // All of one turn with one write.
    until(|| audit.desk.as_ref().unwrap().pen_lies()).await;
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
async fn after_a_slow_write_the_thread_writes_for_a_while() {
    let place = Place::new();
    let gate = Gate::default();
    let mut patience = Patience {
        slow: Duration::from_millis(300),
        ..unhurried()
    };
    let audit = place.start_with(&gate, patience).await;
    gate.set(Way::Slow(patience.slow * 2));
    place.refuse(&audit, "/slow").await;
    assert_eq!(gate.passed().last(), Some(&By::Runtime));
    assert_eq!(audit.health().unwrap().slow_writes, 1);
    gate.set(Way::Open);
    for _ in 0..3 {
        place.refuse(&audit, "/next").await;
        assert_eq!(gate.passed().last(), Some(&By::Thread));
    }
    drop(audit);

    patience.spell = Duration::from_millis(50);
    let audit = place.start_with(&gate, patience).await;
    gate.set(Way::Slow(patience.slow * 2));
    place.refuse(&audit, "/slow").await;
    gate.set(Way::Open);
    tokio::time::sleep(patience.spell * 2).await;
    place.refuse(&audit, "/again").await;
    assert_eq!(gate.passed().last(), Some(&By::Runtime));
    audit.stop();
    place.verify().unwrap();
}

#[tokio::test]
async fn with_a_sync_for_each_line_the_thread_writes() {
    let mut place = Place::new();
    place.config.sync = Sync::Always;
    let gate = Gate::default();
    let audit = place.start_with(&gate, Patience::USUAL).await;
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
    place.refuse(&audit, "/hangs").await;
    assert_eq!(watching.join().unwrap(), 1, "it was told");
    assert_eq!(gate.passed().last(), Some(&By::Runtime));
    place.refuse(&audit, "/after").await;
    assert_eq!(gate.passed().last(), Some(&By::Thread));
    audit.stop();
    place.verify().unwrap();
}

/// Nothing is slow, however loaded this machine is.
fn unhurried() -> Patience {
    Patience {
        slow: DEADLINE,
        ..Patience::USUAL
    }
}

/// A write hangs after less than a disk would be given.
fn short() -> Patience {
    Patience {
        hanging: Duration::from_millis(200),
        ..Patience::USUAL
    }
}

/// What each write passes just before the file, and who came through.
#[derive(Debug, Clone, Default)]
pub(super) struct Gate(Arc<(Mutex<Passage>, Condvar)>);

type Passage = (Way, Vec<By>);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Way {
    #[default]
    Open,
    Slow(Duration),
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Runtime,
    Thread,
}

impl Gate {
    pub(super) fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.1.push(match std::thread::current().name() {
            Some("audit") => By::Thread,
            _ => By::Runtime,
        });
        if let Way::Slow(time) = state.0 {
            std::thread::sleep(time);
        }
        drop(
            changed
                .wait_while(state, |state| state.0 == Way::Closed)
                .unwrap(),
        );
    }

    fn set(&self, way: Way) {
        self.0.0.lock().unwrap().0 = way;
        self.0.1.notify_all();
    }

    fn passed(&self) -> Vec<By> {
        self.0.0.lock().unwrap().1.clone()
    }
}

fn refused() -> End {
    End {
        decision: Decision::Refused,
        reason: Some("loop-detected"),
        detail: None,
        rule: None,
        status: Some(StatusCode::LOOP_DETECTED),
        outcome: Outcome::Known,
        finish: Finish::Whole,
    }
}

fn account(audit: &Audit, connection: &Arc<str>, path: &str) -> Result<Account, Unavailable> {
    let request = Request::get(format!("http://web{path}")).body(()).unwrap();
    audit.open(&request, connection)
}

struct Place {
    parent: TempDir,
    config: AuditConfig,
    connection: Arc<str>,
}

impl Place {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let config = AuditConfig {
            enabled: true,
            file: parent.path().join("log/a.jsonl"),
            max_size: 1 << 20,
            max_age: DEADLINE * 1000,
            keep: 2,
            sync: Sync::Second,
            also: Vec::new(),
        };
        let place = Self {
            parent,
            config,
            connection: "acme_to_widgets".into(),
        };
        place.make_directory();
        place
    }

    fn directory(&self) -> PathBuf {
        self.parent.path().join("log")
    }

    fn make_directory(&self) {
        fs::create_dir(self.directory()).unwrap();
        fs::set_permissions(self.directory(), fs::Permissions::from_mode(0o700)).unwrap();
    }

    fn file(&self) -> &Path {
        &self.config.file
    }

    /// A log that is open.
    async fn start(&self) -> Audit {
        let audit = Audit::start(&self.config);
        until(|| audit.health().unwrap().trouble.is_none()).await;
        audit
    }

    /// The same, with each write through a gate.
    async fn start_with(&self, gate: &Gate, patience: Patience) -> Audit {
        let audit = Audit::start_with(Writer::new(self.config.clone()).through(gate), patience);
        until(|| audit.health().unwrap().trouble.is_none()).await;
        audit
    }

    /// A call that is refused, and written down.
    async fn refuse(&self, audit: &Audit, path: &str) {
        until(|| audit.desk.as_ref().unwrap().pen_lies()).await;
        let account = self.call(audit, path).unwrap();
        account.refuse(refused()).await.unwrap();
    }

    fn call(&self, audit: &Audit, path: &str) -> Result<Account, Unavailable> {
        account(audit, &self.connection, path)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line["kind"] == kind);
        lines
    }

    fn verify(&self) -> Result<Verified, Finding> {
        let mut verifier = Verifier::default();
        for file in files_of(self.file()).unwrap() {
            verifier.file(BufReader::new(fs::File::open(file).unwrap()))?;
        }
        verifier.finish(true)
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
