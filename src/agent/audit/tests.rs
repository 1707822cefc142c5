//! Accounts on one side, the file on the other.

mod disk;
mod gate;
mod sharing;

use std::fs;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tempfile::TempDir;

pub(super) use gate::Gate;
use gate::Way;

use super::*;
use crate::agent::config::Sync;
use crate::body;

/// Far longer than anything takes, on a busy machine with a busy disk too.
const DEADLINE: Duration = Duration::from_secs(120);

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
async fn a_file_is_put_aside_when_it_is_old_by_the_clock_of_its_first_line_and_not_before() {
    for (begun, files) in [
        ("2001-02-03T04:05:06.007Z", 2),
        // Of a clock that has been set back since.
        ("2999-02-03T04:05:06.007Z", 1),
    ] {
        let place = Place::new();
        let mut first = Vec::new();
        let daemon = line::Fields::Start(line::Daemon {
            software: "agent",
            process: 1,
        });
        Head::BEGINNING.seal(begun, &daemon, &mut first).unwrap();
        fs::write(place.file(), &first).unwrap();
        fs::set_permissions(place.file(), fs::Permissions::from_mode(0o600)).unwrap();
        let audit = place.start().await;
        for path in ["/a", "/b", "/c"] {
            place.refuse(&audit, path).await;
        }
        audit.stop();
        assert_eq!(files_of(place.file()).unwrap().len(), files, "{begun}");
        assert_eq!(place.verify().unwrap().lines, 6);
    }
}

#[tokio::test]
async fn a_file_that_somebody_else_has_gone_on_with_is_not_written_to() {
    let place = Place::new();
    let audit = place.start().await;
    let mut more = fs::read(place.file()).unwrap();
    let head = Head {
        hash: Hash::of(b"another line"),
        ..audit.health().unwrap().head.unwrap()
    };
    let fields = line::Fields::Pruned {
        through: 0,
        files: 0,
    };
    head.seal("t", &fields, &mut more).unwrap();
    // As an editor does.
    fs::remove_file(place.file()).unwrap();
    fs::write(place.file(), &more).unwrap();
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o600)).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let _waits = tokio::spawn(place.call(&audit, "/waits").unwrap().refuse(refused()));
    let why = || audit.health().unwrap().trouble.map(|trouble| trouble.why);
    until(|| why().is_some_and(|why| why.contains("goes on to line 2 after line 1"))).await;
    assert_eq!(fs::read(place.file()).unwrap(), more);
}

#[tokio::test]
async fn calls_that_the_end_cuts_off_have_their_lines_before_the_last() {
    let place = Place::new();
    let audit = place.start().await;
    let accounts = ["/a", "/b"].map(|path| place.call(&audit, path).unwrap());
    audit.stop();
    drop(accounts);
    assert!(place.call(&audit, "/late").is_err());
    let lines = place.lines();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (&line["kind"], &line["end"]))
        .collect();
    let [call, given_up] = ["call", "given-up"].map(Value::from);
    let [start, stop] = ["start", "stop"].map(Value::from);
    let expected = [
        (&start, &Value::Null),
        (&call, &given_up),
        (&call, &given_up),
        (&stop, &Value::Null),
    ];
    assert_eq!(told, expected);
    place.verify().unwrap();
}

#[tokio::test]
async fn old_files_are_there_until_a_line_says_that_they_are_removed() {
    let mut place = Place::new();
    place.config.max_size = 1;
    place.config.keep = 1;
    let gate = Gate::default();
    let audit = place.start_with(&gate, unhurried()).await;
    for path in ["/a", "/b"] {
        place.refuse(&audit, path).await;
    }
    until(|| files_of(place.file()).unwrap().len() == 2).await;
    assert_eq!(place.of_kind("pruned").len(), 1);
    // As if it were killed after the next rotation and before the next line.
    gate.set(Way::Closed);
    let waiting = tokio::spawn(place.call(&audit, "/c").unwrap().refuse(refused()));
    until(|| gate.passed().len() == 4).await;
    place.verify().unwrap();
    gate.set(Way::Open);
    waiting.await.unwrap().unwrap();
    audit.stop();
    place.verify().unwrap();
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
            max_age: DEADLINE * 100,
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

    /// A log that is open, with its first line in the file.
    async fn start(&self) -> Audit {
        self.start_with(&Gate::default(), unhurried()).await
    }

    /// The same, with each write through a gate.
    async fn start_with(&self, gate: &Gate, patience: Patience) -> Audit {
        let audit = Audit::start_with(Writer::new(self.config.clone()).through(gate), patience);
        let health = || audit.health().unwrap();
        until(|| health().trouble.is_none() && health().head.is_some()).await;
        audit
    }

    /// A call that is refused, and written down.
    async fn refuse(&self, audit: &Audit, path: &str) {
        until(|| audit.desk.as_ref().unwrap().pen_lies()).await;
        let account = self.call(audit, path).unwrap();
        account.refuse(refused()).await.unwrap();
    }

    /// The same, when it is for the runtime to write that down.
    async fn refuse_in_the_runtime(&self, audit: &Audit, path: &str) {
        until(|| audit.desk.as_ref().unwrap().is_the_runtimes()).await;
        self.refuse(audit, path).await;
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

/// No write hangs, however long the disk takes.
fn unhurried() -> Patience {
    Patience {
        hanging: DEADLINE,
        ..Patience::USUAL
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
