//! One agent process hands over to another: every call is answered once, and what goes wrong changes nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use relay_agent::body;
use tokio::task::JoinHandle;

use crate::harness::answers::Pieces;
use crate::harness::caller::next_piece;
use crate::harness::program::{AGENT, Daemon, run};
use crate::harness::{CONNECTION, Caller, Scene, TestAgent, Upstream, soon, wait_until};

/// A scene whose service has `/slow`, and whose agent is a process.
async fn scene() -> (Scene, Daemon, Pieces) {
    let (upstream, pieces) = Upstream::with_slow().await;
    let mut scene = Scene::around(upstream).await;
    scene.agent.stop().await;
    let agent = scene.agent.home().process();
    agent.until_logged("the link is up").await;
    scene.relay.until_online(CONNECTION).await;
    (scene, agent, pieces)
}

/// A process that no test has started itself: killed when dropped.
struct Heir(u32);

impl Heir {
    /// The process that answers on the agent's admin socket.
    async fn of(agent: &TestAgent) -> Self {
        Self(agent.status().await.process_id)
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let id = i32::try_from(self.0).unwrap();
        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
    }
}

/// Callers that post numbered orders until they are stopped.
struct Load {
    goes_on: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Vec<StatusCode>>>,
}

impl Load {
    async fn on(scene: &Scene) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let mut callers = Vec::new();
        for number in 0..4 {
            let caller = scene.caller().await;
            let goes_on = Arc::clone(&goes_on);
            callers.push(tokio::spawn(post(caller, number, goes_on)));
        }
        Self { goes_on, callers }
    }

    /// What each order was answered with.
    async fn stop(self) -> Vec<StatusCode> {
        self.goes_on.store(false, Ordering::Relaxed);
        let mut told = Vec::new();
        for caller in self.callers {
            told.extend(soon("a caller", caller).await.unwrap());
        }
        told
    }
}

async fn post(mut caller: Caller, number: u32, goes_on: Arc<AtomicBool>) -> Vec<StatusCode> {
    let mut told = Vec::new();
    while goes_on.load(Ordering::Relaxed) {
        let path = format!("/orders/{number}/{}", told.len());
        told.push(caller.post(&path, "order").await.status);
    }
    told
}

#[tokio::test]
async fn an_agent_hands_over_to_a_new_process_and_every_call_is_answered_once() {
    let (scene, mut old, pieces) = scene().await;
    let former = scene.agent.status().await.process_id;
    let mut caller = scene.caller().await;
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();
    pieces.send("before");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "before");
    let load = Load::on(&scene).await;

    old.signal(Signal::SIGUSR2);
    old.until_logged("another process has taken over").await;
    let heir = Heir::of(&scene.agent).await;
    assert_ne!(heir.0, former);
    assert!(scene.agent.is_online(CONNECTION).await);
    // Both write the audit log now: nobody waits until the former has ended.
    let orders = scene.upstream.calls().len();
    wait_until("calls go on beside the former", async || {
        scene.upstream.calls().len() > orders + 20
    })
    .await;
    // What was under way finishes where it is, however long it takes.
    pieces.send("after");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "after");
    drop(pieces);
    assert_eq!(next_piece(&mut answer).await, None);
    assert!(old.ended().await.success(), "{}", old.log());
    old.until_logged("the former process has ended").await;

    let orders = scene.upstream.calls().len();
    wait_until("calls go on with the new process", async || {
        scene.upstream.calls().len() > orders + 20
    })
    .await;
    let told = load.stop().await;
    assert!(
        told.iter().all(|status| *status == StatusCode::OK),
        "{told:?}"
    );
    let calls = scene.upstream.calls();
    let mut targets: Vec<&str> = calls.iter().map(|seen| seen.target.as_str()).collect();
    targets.sort_unstable();
    targets.dedup();
    assert_eq!(targets.len(), calls.len(), "none was done twice");
    assert_eq!(calls.len(), told.len() + 1, "none was lost");
    assert!(scene.relay.connection(CONNECTION).await["link"]["duplicate"].is_null());

    // It is the agent now: its admin socket's file goes with it.
    assert!(scene.agent.is_online(CONNECTION).await);
    kill(
        Pid::from_raw(i32::try_from(heir.0).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    wait_until("the new process ends", async || {
        !std::fs::exists(scene.agent.home().directory().join("admin.sock")).unwrap()
    })
    .await;
    let config = scene.agent.home().file();
    let verify = ["audit", "verify", "--config", config.to_str().unwrap()];
    wait_until("its last line is written", async || {
        let text = std::fs::read_to_string(scene.agent.home().state().join("audit.jsonl"));
        text.unwrap().matches("\"kind\":\"stop\"").count() == 3
    })
    .await;
    run(AGENT, &verify).await.succeeded();
}

/// In one step: the agent watches the file, and an empty one would be a configuration without upstreams.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test]
async fn a_process_that_cannot_take_over_leaves_everything_as_it_was_and_the_next_one_can() {
    let (scene, mut old, _pieces) = scene().await;
    let former = scene.agent.status().await.process_id;
    let load = Load::on(&scene).await;
    let whole = std::fs::read_to_string(scene.agent.home().file()).unwrap();
    replace(&scene.agent.home().file(), "no_such_key = 1");
    old.signal(Signal::SIGUSR2);
    old.until_logged("this process goes on as before").await;
    assert_eq!(scene.agent.status().await.process_id, former);
    // What was held back is done again.
    scene.agent.order(CONNECTION, "deactivate").await;
    scene.agent.order(CONNECTION, "activate").await;
    load.stop().await;
    wait_until("calls pass again", async || {
        scene.caller().await.get("/").await.status == StatusCode::OK
    })
    .await;

    replace(&scene.agent.home().file(), &whole);
    let load = Load::on(&scene).await;
    old.signal(Signal::SIGUSR2);
    assert!(old.ended().await.success(), "{}", old.log());
    let heir = Heir::of(&scene.agent).await;
    assert_ne!(heir.0, former);
    let told = load.stop().await;
    assert!(
        told.iter().all(|status| *status == StatusCode::OK),
        "{told:?}"
    );
}
