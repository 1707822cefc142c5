//! The end of either program: calls under way finish, new ones are refused as not sent, the link is closed with
//! a reason, and a second signal ends it at once.

use http::StatusCode;
use nix::sys::signal::Signal;
use relay_agent::body;
use relay_agent::shutdown::Ended;

use crate::harness::answers::{Pieces, in_pieces};
use crate::harness::cable::{Cut, Door};
use crate::harness::caller::next_piece;
use crate::harness::program::{AGENT, Daemon, RELAY};
use crate::harness::relay::RelayHome;
use crate::harness::{
    CONNECTION, Caller, Home as _, Scene, TestAgent, TestRelay, Upstream, answers, wait_until,
};

/// A scene whose service answers `/` at once and everything else in pieces, and what feeds those.
async fn scene() -> (Scene, Pieces) {
    scene_with("").await
}

/// The same, with more lines for the relay's configuration.
async fn scene_with(relay: &str) -> (Scene, Pieces) {
    let (pieces, body) = in_pieces();
    let body = std::sync::Mutex::new(Some(body));
    let upstream = Upstream::new(move |request| {
        let whole = request.uri().path() == "/";
        let body = match whole {
            true => body::full("at once"),
            false => body.lock().unwrap().take().unwrap(),
        };
        answers::at_once(http::Response::new(body))
    })
    .await;
    (Scene::with(relay, "", upstream).await, pieces)
}

#[tokio::test]
async fn a_draining_agent_finishes_its_calls_and_takes_no_new_ones() {
    let (mut scene, pieces) = scene_with("[link]\ncall_wait = '100ms'").await;
    let mut caller = scene.caller().await;
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();
    pieces.send("before");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "before");

    scene.agent.drain();
    let mut other = scene.caller().await;
    wait_until("new calls are refused", async || {
        other.get("/").await.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let refused = other.get("/").await;
    let problem = refused.problem();
    assert_eq!(problem.members["delivery"], "not-sent", "{problem:?}");
    assert!(!refused.header("retry-after").is_empty());
    let status = scene.agent.status().await;
    assert!(status.draining);
    let stopping = status.stopping.unwrap();
    assert_eq!(stopping.calls_under_way, 1);
    assert!(stopping.since < stopping.until, "{stopping:?}");
    let told = status.conditions.iter().find(|one| one.code == "draining");
    let told = told.unwrap();
    assert!(told.text.contains("1 call is under way"), "{}", told.text);
    assert!(told.text.contains(&stopping.until), "{}", told.text);
    assert_eq!(told.since, stopping.since);

    pieces.send("after");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "after");
    drop(pieces);
    assert_eq!(next_piece(&mut answer).await, None);
    assert_eq!(scene.agent.ended().await, Ended::Drained);
}

#[tokio::test]
async fn calls_that_come_while_an_agent_is_restarted_wait_for_it() {
    let (mut scene, pieces) = scene().await;
    let mut caller = scene.caller().await;
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();
    pieces.send("before");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "before");

    scene.agent.drain();
    scene.relay.until_link(CONNECTION, "reconnecting").await;
    let mut other = scene.caller().await;
    let waiting = tokio::spawn(other.begin(other.request("GET", "/", body::empty())));
    pieces.send("after");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "after");
    drop(pieces);
    assert_eq!(next_piece(&mut answer).await, None);
    assert_eq!(scene.agent.ended().await, Ended::Drained);
    scene.agent.go_on().await;
    let answer = crate::harness::soon("the call that waited", waiting).await;
    assert_eq!(answer.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn no_more_calls_wait_for_an_agent_than_may_and_the_others_are_told_why() {
    let lines = "[limits]\nwaiting_calls_per_connection = 1";
    let (mut scene, _pieces) = scene_with(lines).await;
    scene.agent.stop().await;
    let mut first = scene.caller().await;
    let waiting = tokio::spawn(first.begin(first.request("GET", "/", body::empty())));
    wait_until("the first call waits", async || {
        let metrics = scene.relay.metrics().await;
        metrics.lines().any(|line| line == "relay_calls_waiting 1")
    })
    .await;
    let refused = scene.caller().await.get("/").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    let problem = refused.problem();
    assert_eq!(problem.code, "agent-reconnecting");
    assert!(refused.text().contains("waiting_calls_per_connection"));
    scene.agent.go_on().await;
    let answer = crate::harness::soon("the call that waited", waiting).await;
    assert_eq!(answer.unwrap().unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn an_agent_that_drains_while_its_link_is_cut_comes_back_to_finish_its_calls() {
    let (pieces, body) = in_pieces();
    let body = std::sync::Mutex::new(Some(body));
    let upstream = Upstream::new(move |_| {
        let body = body.lock().unwrap().take().unwrap();
        answers::at_once(http::Response::new(body))
    })
    .await;
    let (home, cable) = RelayHome::by_cable("").await;
    let relay = TestRelay::at(home).await;
    let mut agent = TestAgent::start_with(&upstream.configuration("web", "")).await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    relay.until_online(CONNECTION).await;
    let mut caller = Caller::plain(relay.home(), &relay.token(None).await).await;
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();
    pieces.send("before");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "before");

    cable.set_door(Door::Refusing);
    cable.cut(Cut::Reset);
    relay.until_link(CONNECTION, "reconnecting").await;
    let why = relay.connection(CONNECTION).await["link"]["why"].clone();
    assert!(why.as_str().is_some_and(|why| !why.is_empty()), "{why}");
    agent.drain();
    cable.set_door(Door::Open);
    pieces.send("after");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "after");
    drop(pieces);
    assert_eq!(next_piece(&mut answer).await, None);
    assert_eq!(agent.ended().await, Ended::Drained);
}

#[tokio::test]
async fn a_draining_relay_finishes_its_calls_and_takes_no_new_ones() {
    let (mut scene, pieces) = scene().await;
    let mut caller = scene.caller().await;
    let mut other = scene.caller2().await;
    assert_eq!(other.get("/").await.text(), "at once");
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();
    pieces.send("before");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "before");

    scene.relay.drain();
    // On a connection that is open already, a call is refused or the connection is closed; nothing new is sent.
    wait_until("the idle caller is let go", async || other.is_closed()).await;
    let mut status = serde_json::Value::Null;
    wait_until("it is known that no other relay listens", async || {
        status = scene.relay.status().await;
        !status["successor"].is_null()
    })
    .await;
    assert_eq!(status["successor"], false);
    assert_eq!(status["stopping"]["calls_under_way"], 1);
    let told = status["conditions"][0]["text"].as_str().unwrap();
    assert!(told.contains("1 call is under way"), "{told}");
    pieces.send("after");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "after");
    drop(pieces);
    assert_eq!(next_piece(&mut answer).await, None);
    assert_eq!(scene.relay.ended().await, Ended::Drained);
    assert_eq!(scene.upstream.calls().len(), 2);
    let told = |one: &relay_agent::agent::status::ConnectionStatus| {
        let why = one.link.why.as_deref().unwrap_or_default();
        why.contains("about to stop") || one.link.failures > 0
    };
    scene.agent.until(CONNECTION, told).await;
}

#[tokio::test]
async fn an_idle_scene_drains_at_once() {
    let (mut scene, _pieces) = scene().await;
    assert_eq!(scene.agent.stop().await, Ended::Drained);
    assert_eq!(scene.relay.stop().await, Ended::Drained);
}

#[tokio::test]
async fn stopping_at_once_does_not_wait_for_calls() {
    for stop_the_agent in [true, false] {
        let (mut scene, pieces) = scene().await;
        let mut caller = scene.caller().await;
        let request = caller.request("GET", "/slow", body::empty());
        let mut answer = caller.send(request).await.into_body();
        pieces.send("before");
        assert_eq!(next_piece(&mut answer).await.unwrap(), "before");
        let ended = if stop_the_agent {
            scene.agent.drain();
            scene.agent.stop_now();
            scene.agent.ended().await
        } else {
            scene.relay.drain();
            scene.relay.stop_now();
            scene.relay.ended().await
        };
        assert_eq!(ended, Ended::Stopped);
        let cut = crate::harness::soon("the cut", http_body_util::BodyExt::collect(answer)).await;
        assert!(cut.is_err(), "a call that was cut does not look whole");
    }
}

#[tokio::test]
async fn a_drain_that_takes_too_long_is_cut_short() {
    let lines = "drain_timeout = '0s'";
    let upstream = Upstream::new(answers::hang).await;
    let mut scene = Scene::with(lines, "", upstream).await;
    let mut caller = scene.caller().await;
    let request = caller.request("GET", "/", body::empty());
    let under_way = tokio::spawn(caller.begin(request));
    scene.upstream.until_called(1).await;
    assert_eq!(scene.relay.stop().await, Ended::Stopped);
    under_way.abort();
}

#[tokio::test]
async fn the_programs_drain_at_the_first_signal_and_stop_at_the_second() {
    let (mut scene, pieces) = scene().await;
    scene.agent.stop().await;
    scene.relay.stop().await;
    let file = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let config = file(scene.relay.home().file());
    let log = scene.relay.home().directory().join("log");
    let mut relay = Daemon::start(RELAY, &["serve", "--config", &config], &log);
    relay.until_logged("the relay is serving").await;
    let config = file(scene.agent.home().file());
    let log = scene.agent.home().directory().join("log");
    let mut agent = Daemon::start(AGENT, &["run", "--config", &config], &log);
    agent.until_logged("the link is up").await;

    let mut caller = scene.caller().await;
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();
    pieces.send("before");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "before");
    agent.signal(Signal::SIGTERM);
    agent.until_logged("SIGTERM").await;
    pieces.send("after");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "after");
    agent.signal(Signal::SIGTERM);
    assert!(agent.ended().await.success(), "{}", agent.log());
    assert!(agent.log().contains("stopping at once"), "{}", agent.log());

    relay.signal(Signal::SIGINT);
    assert!(relay.ended().await.success(), "{}", relay.log());
    assert!(
        relay.log().contains("stopped ended=Drained"),
        "{}",
        relay.log()
    );
    assert!(!scene.relay.home().socket().exists());
    assert!(!scene.agent.home().socket().exists());
}

#[tokio::test]
async fn systemd_is_told_what_an_agent_that_stops_waits_for() {
    let (mut scene, pieces) = scene().await;
    scene.agent.stop().await;
    let home = scene.agent.home();
    let told = home.directory().join("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&told).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (config, log) = (home.file(), home.directory().join("log"));
    let arguments = ["run", "--config", config.to_str().unwrap()];
    let environment = [("NOTIFY_SOCKET", told.to_str().unwrap())];
    let mut agent = Daemon::start_with(AGENT, &arguments, &log, &environment);
    scene.relay.until_online(CONNECTION).await;
    let mut caller = scene.caller().await;
    let request = caller.request("GET", "/slow", body::empty());
    let mut answer = caller.send(request).await.into_body();
    pieces.send("before");
    assert_eq!(next_piece(&mut answer).await.unwrap(), "before");
    agent.signal(Signal::SIGTERM);
    let mut texts = String::new();
    wait_until("systemd is told", async || {
        let mut text = [0; 1024];
        while let Ok(length) = listener.recv(&mut text) {
            texts.push_str(&String::from_utf8_lossy(&text[..length]));
        }
        texts.contains("STATUS=stopping: 1 call is under way; it ends with that one, at ")
    })
    .await;
    assert!(texts.contains("STOPPING=1"), "{texts}");
    drop(pieces);
    assert_eq!(next_piece(&mut answer).await, None);
    assert!(agent.ended().await.success(), "{}", agent.log());
}

#[tokio::test]
async fn a_relay_without_agents_ends_at_the_first_signal() {
    let mut relay = TestRelay::start().await;
    relay.initiate("acme", "widgets").await;
    assert_eq!(relay.stop().await, Ended::Drained);
}
