//! State directories and admin sockets: who may, who may not, and what to do about it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::harness::agent::AgentHome;
use crate::harness::program::{self, AGENT, Daemon, Output, RELAY};
use crate::harness::relay::RelayHome;
use crate::harness::{Home as _, TestAgent, TestRelay};

/// Somebody else.
const NOBODY: u32 = 65534;

/// Every program that uses a state directory, tried on one that `spoil` has had its way with.
async fn each_refuses(spoil: impl Fn(&Path), words: &[&str]) {
    let relay = RelayHome::new("");
    spoil(&relay.state());
    run(RELAY, "serve", relay.file()).await.failed(73, words);
    let agent = AgentHome::new("");
    spoil(&agent.state());
    run(AGENT, "run", agent.file()).await.failed(73, words);
    let other = TestRelay::start().await;
    let code = other.initiate("acme", "widgets").await;
    let file = agent.file();
    let arguments = ["accept", "--yes", "--config", file.to_str().unwrap(), &code];
    program::run(AGENT, &arguments).await.failed(73, words);
    let view = other.connection("acme_to_widgets").await;
    assert_eq!(view["state"], "pending");
}

async fn run(program: &'static str, command: &str, file: PathBuf) -> Output {
    program::run(program, &[command, "--config", file.to_str().unwrap()]).await
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_state_directory_that_others_can_enter_is_refused_with_the_remedy() {
    let words = ["mode 0755", "chmod 0700"];
    each_refuses(|state| set_mode(state, 0o755), &words).await;
}

#[tokio::test]
async fn a_state_directory_of_someone_else_is_refused_with_the_remedy() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can give a directory away");
        return;
    }
    // As root, which is not to take the directory but to act as its owner.
    let words = ["belongs to user 65534", "runuser -u"];
    each_refuses(|state| chown(state, Some(NOBODY), None).unwrap(), &words).await;
}

#[tokio::test]
async fn a_missing_state_directory_is_made_where_it_can_be() {
    let relay = RelayHome::new("");
    let agent = AgentHome::new("");
    for (program, command, file, state, word) in [
        (
            RELAY,
            "serve",
            relay.file(),
            relay.state(),
            "the relay is serving",
        ),
        (AGENT, "run", agent.file(), agent.state(), "the agent runs"),
    ] {
        if state.exists() {
            fs::remove_dir(&state).unwrap();
        }
        let log = file.with_extension("log");
        let arguments = [command, "--config", file.to_str().unwrap()];
        let mut daemon = Daemon::start(program, &arguments, &log);
        daemon.until_logged(word).await;
        let mode = fs::metadata(&state).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{state:?}");
        daemon.signal(Signal::SIGKILL);
        daemon.ended().await;
    }
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_made_is_refused_with_the_remedy() {
    let relay = RelayHome::new("");
    let agent = AgentHome::new("");
    for (program, command, file) in [(RELAY, "serve", relay.file()), (AGENT, "run", agent.file())] {
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("/state'", "/no/parent'")).unwrap();
        let words = ["does not exist", "install -d -m 0700", "/no/parent"];
        run(program, command, file).await.failed(73, &words);
    }
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let mut relay = TestRelay::start().await;
    relay.stop().await;
    set_mode(&relay.home().state().join("identity.key"), 0o644);
    let output = run(RELAY, "serve", relay.home().file()).await;
    output.failed(73, &["identity.key", "chmod"]);
}

#[tokio::test]
async fn admin_sockets_are_open_to_owner_and_group_only() {
    let (relay, agent) = (TestRelay::start().await, TestAgent::start().await);
    for socket in [relay.home().socket(), agent.home().socket()] {
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660, "{socket:?}");
    }
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let agent = TestAgent::start().await;
    let words = ["Only one agent", "state_dir"];
    run(AGENT, "run", agent.home().file())
        .await
        .failed(75, &words);
    assert!(agent.status().await.connections.is_empty());
    let relay = TestRelay::start().await;
    let output = run(RELAY, "serve", relay.home().file()).await;
    assert_ne!(output.code, 0, "{output:?}");
    assert!(output.err.contains("could not start"), "{output:?}");
    relay.initiate("acme", "widgets").await;
}

#[tokio::test]
async fn accepting_beside_a_daemon_that_was_not_found_is_refused() {
    let agent = TestAgent::start().await;
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let file = agent.home().file();
    let elsewhere = agent.home().directory().join("elsewhere.sock");
    let arguments = [
        "accept",
        "--yes",
        "--config",
        file.to_str().unwrap(),
        "--socket",
        elsewhere.to_str().unwrap(),
        &code,
    ];
    let output = program::run(AGENT, &arguments).await;
    output.failed(75, &["no daemon answers on", "--socket"]);
}

#[tokio::test]
async fn commands_without_a_daemon_say_so_and_how_to_start_it() {
    let relay = RelayHome::new("");
    let output = run(RELAY, "connections", relay.file()).await;
    output.failed(69, &["no daemon listens", "relay serve"]);
    let agent = AgentHome::new("");
    let output = run(AGENT, "status", agent.file()).await;
    output.failed(69, &["no daemon listens", "agent run"]);
}

#[tokio::test]
async fn every_mistake_in_a_configuration_is_told_at_once() {
    let relay = RelayHome::new("drain_timeout = 'soon'\n[limits]\nsokets = 3\n");
    for command in ["serve", "check"] {
        let file = relay.file();
        let file = file.to_str().unwrap();
        let arguments = match command {
            "serve" => vec!["serve", "--config", file],
            _ => vec!["config", "check", "--config", file],
        };
        let output = program::run(RELAY, &arguments).await;
        output.failed(78, &["drain_timeout", "sokets", "sockets"]);
    }
    let agent = AgentHome::new("[log]\nlevel = 'loud'\n[[upstream]]\nname = 'web'\n");
    let output = run(AGENT, "run", agent.file()).await;
    output.failed(78, &["log.level", "url"]);
}

#[tokio::test]
async fn what_a_killed_daemon_left_behind_does_not_keep_the_next_from_starting() {
    let relay = RelayHome::new("");
    let agent = AgentHome::new("");
    for _ in 0..2 {
        for (program, command, file, directory, word) in [
            (
                RELAY,
                "serve",
                relay.file(),
                relay.directory(),
                "the relay is serving",
            ),
            (
                AGENT,
                "run",
                agent.file(),
                agent.directory(),
                "the agent runs",
            ),
        ] {
            let log = directory.join("log");
            let _ = fs::remove_file(&log);
            let arguments = [command, "--config", file.to_str().unwrap()];
            let mut daemon = Daemon::start(program, &arguments, &log);
            daemon.until_logged(word).await;
            daemon.signal(Signal::SIGKILL);
            assert!(!daemon.ended().await.success());
        }
    }
}
