//! The audit log of a whole agent: every call is in it once, before its answer is whole, and it is whole itself.

mod endings;
mod websockets;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use http::Response;
use nix::sys::signal::Signal;
use relay_agent::body;
use serde_json::Value;

use crate::harness::agent::AgentHome;
use crate::harness::program::{AGENT, run};
use crate::harness::{CONNECTION, Scene, Upstream, Whole, answers, soon, wait_until};

/// A secret of a caller that must be nowhere in the log.
const SECRET: &str = "marked-secret-of-a-caller";

#[tokio::test]
async fn every_call_is_in_the_log_once_before_its_answer_is_whole() {
    let mut scene = Scene::with(
        "",
        "[[upstream.deny]]\npath = '/closed/{*rest}'",
        Upstream::new(answers::echo).await,
    )
    .await;
    let log = audit_file(scene.agent.home());
    let mut caller = scene.caller().await;

    let answer = caller.get(&format!("/open?token={SECRET}")).await;
    assert_eq!(answer.status, 200);
    let line = last_call(&log);
    assert_eq!(line["decision"], "allowed");
    assert_eq!(line["path"], "/open");
    assert_eq!(line["query"], "token=<redacted>");
    assert_eq!(line["status"], 200);
    assert_eq!(line["outcome"], "known");
    assert_eq!(line["connection"], CONNECTION);
    assert_eq!(line["response_bytes"], answer.body.len());

    assert_eq!(caller.post("/written", SECRET).await.status, 200);
    assert_eq!(last_call(&log)["request_bytes"], SECRET.len());

    assert_eq!(caller.get("/closed/door").await.status, 403);
    let line = last_call(&log);
    assert_eq!(
        (&line["decision"], &line["status"]),
        (&"denied".into(), &403.into())
    );
    assert_eq!(line["reason"], "denied-by-policy");
    assert!(line["rule"].as_str().unwrap().contains("/closed/{*rest}"));

    let other = caller.request_to(CONNECTION, "GET", "/nobody/x", body::empty());
    assert_eq!(caller.whole(other).await.status, 404);
    assert_eq!(last_call(&log)["reason"], "unknown-upstream");

    for number in 0..50 {
        caller.get(&format!("/many/{number}")).await;
        assert_eq!(last_call(&log)["path"], format!("/many/{number}"));
    }
    let told: Vec<String> = calls(&log)
        .iter()
        .map(|line| line["path"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told.len(), 54, "each once: {told:?}");
    assert!(!fs::read_to_string(&log).unwrap().contains(SECRET));

    let status = scene.agent.status().await;
    let head = status.audit.unwrap();
    assert_eq!(head.line, lines(&log).last().unwrap()["seq"]);
    scene.agent.stop().await;
    let kinds: Vec<Value> = lines(&log)
        .iter()
        .map(|line| line["kind"].clone())
        .collect();
    assert_eq!(
        (&kinds[0], kinds.last().unwrap()),
        (&"start".into(), &"stop".into())
    );
}

#[tokio::test]
async fn verify_finds_what_was_changed_and_where() {
    let mut scene = Scene::around(Upstream::new(answers::echo).await).await;
    let log = audit_file(scene.agent.home());
    let mut caller = scene.caller().await;
    for number in 0..5 {
        caller.get(&format!("/{number}")).await;
    }
    scene.agent.stop().await;
    let config = scene.agent.home().file();
    let config = config.to_str().unwrap();
    let verify = ["audit", "verify", "--config", config];

    let whole = run(AGENT, &verify).await.succeeded();
    assert!(
        whole.out.contains("The log is whole: lines 1 to 7"),
        "{}",
        whole.out
    );

    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replacen("\"/2\"", "\"/9\"", 1)).unwrap();
    run(AGENT, &verify)
        .await
        .failed(65, &["audit.jsonl", "line 4"]);

    let without: Vec<&str> = text
        .lines()
        .enumerate()
        .filter(|(at, _)| *at != 2)
        .map(|(_, line)| line)
        .collect();
    fs::write(&log, without.join("\n") + "\n").unwrap();
    run(AGENT, &verify)
        .await
        .failed(65, &["one line is missing"]);
}

#[tokio::test]
async fn a_log_that_cannot_be_written_refuses_calls_before_they_are_sent_and_they_resume_by_themselves()
 {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let log = audit_file(scene.agent.home());
    let aside = log.with_extension("aside");
    let mut caller = scene.caller().await;
    assert_eq!(caller.get("/before").await.status, 200);

    // Its place is taken, as by somebody who moves the log away and puts something else there.
    fs::rename(&log, &aside).unwrap();
    fs::create_dir(&log).unwrap();
    let mut other = scene.caller2().await;
    let mut begun = Vec::new();
    wait_until("the agent sees it", async || {
        begun.push(other.begin(other.request("GET", "/at-that-time", body::empty())));
        scene.agent.status().await.audit.unwrap().why.is_some()
    })
    .await;
    let refused = caller.post("/meanwhile", "x").await;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(
        refused.text().contains("audit-unavailable") && refused.text().contains("not-sent"),
        "{}",
        refused.text()
    );
    // Those that were admitted just before may still be on their way there.
    let arrived = scene.upstream.calls();
    let is_sent = arrived.iter().any(|call| call.target == "/meanwhile");
    assert!(!is_sent, "nothing is sent");
    fs::remove_dir(&log).unwrap();
    fs::rename(&aside, &log).unwrap();
    wait_until("calls are taken again", async || {
        caller.get("/after").await.status == 200
    })
    .await;
    assert_eq!(scene.agent.status().await.audit.unwrap().why, None);
    assert!(lines(&log).iter().any(|line| line["kind"] == "resumed"));
    // Calls that were under way have their lines, and then their answers.
    let mut answered = 0;
    for answer in begun {
        let answer = Whole::of(soon("an answer", answer).await.unwrap()).await;
        answered += usize::from(answer.status == 200);
    }
    let calls = calls(&log);
    let told = |path: &str| calls.iter().filter(|line| line["path"] == path).count();
    assert_eq!((told("/at-that-time"), told("/after")), (answered, 1));
}

#[tokio::test]
async fn a_killed_agent_leaves_every_answered_call_in_a_log_that_is_whole() {
    let upstream = Upstream::new(|request| {
        if request.uri().path() == "/hangs" {
            answers::hang(request)
        } else {
            answers::at_once(Response::new(body::full("done")))
        }
    })
    .await;
    let mut scene = Scene::around(upstream).await;
    scene.agent.stop().await;
    let daemon = scene.agent.home().process();
    scene.relay.until_online(CONNECTION).await;
    let mut caller = scene.caller().await;
    for number in 0..20 {
        assert_eq!(caller.get(&format!("/{number}")).await.status, 200);
    }
    let mut waiting = scene.caller().await;
    let _hanging = waiting.begin(waiting.request("GET", "/hangs", body::empty()));
    scene.upstream.until_called(21).await;
    daemon.signal(Signal::SIGKILL);
    drop(daemon);

    scene.agent.go_on().await;
    scene.agent.stop().await;
    let log = audit_file(scene.agent.home());
    let mut answered = BTreeMap::new();
    for line in calls(&log) {
        *answered
            .entry(line["path"].as_str().unwrap().to_owned())
            .or_insert(0) += 1;
    }
    let expected = (0..20).map(|number| (format!("/{number}"), 1)).collect();
    assert_eq!(
        answered, expected,
        "each answered call once; the one under way has no line"
    );
    let kinds: Vec<Value> = lines(&log)
        .iter()
        .map(|line| line["kind"].clone())
        .collect();
    let starts = kinds.iter().filter(|kind| **kind == "start").count();
    let stops = kinds.iter().filter(|kind| **kind == "stop").count();
    assert_eq!((starts, stops), (3, 2), "the kill shows: {kinds:?}");
    let config = scene.agent.home().file();
    let verify = ["audit", "verify", "--config", config.to_str().unwrap()];
    run(AGENT, &verify).await.succeeded();
}

#[tokio::test]
async fn a_call_that_the_end_of_the_agent_cuts_off_has_its_line_before_the_last() {
    let mut scene = Scene::around(Upstream::new(answers::hang).await).await;
    let log = audit_file(scene.agent.home());
    scene.agent.stop().await;
    let file = scene.agent.home().file();
    let config = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("drain_timeout = '1s'\n{config}")).unwrap();
    scene.agent.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    let mut caller = scene.caller().await;
    let _hanging = caller.begin(caller.request("POST", "/hangs", body::empty()));
    scene.upstream.until_called(1).await;
    scene.agent.stop().await;
    let lines = lines(&log);
    let [.., call, stop] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert_eq!(
        (&call["path"], &call["outcome"]),
        (&"/hangs".into(), &"unknown".into())
    );
    assert_eq!(
        (&call["end"], &stop["kind"]),
        (&"given-up".into(), &"stop".into())
    );
}

fn audit_file(home: &AgentHome) -> PathBuf {
    home.state().join("audit.jsonl")
}

/// Those that are whole: the next one may just be being written.
fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn calls(log: &Path) -> Vec<Value> {
    let mut lines = lines(log);
    lines.retain(|line| line["kind"] == "call");
    lines
}

fn last_call(log: &Path) -> Value {
    calls(log).pop().unwrap()
}
