//! A whole relay in this process: built, asked, stopped, built again.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::admin_socket::client;
use crate::logging::LogLevel;

/// Long enough for a busy machine; no test waits it out.
const DEADLINE: Duration = Duration::from_secs(120);

fn configuration(directory: &Path) -> RelayConfig {
    let file = directory.join("relay.toml");
    let text = format!(
        "listen = '127.0.0.1:0'\nplain_listen = '127.0.0.1:0'\n\
         public_url = 'https://relay.example'\nstate_dir = '{state}'\n\
         [tls]\nmode = 'self-signed'\n[admin]\nsocket = '{socket}'\n",
        state = directory.join("state").display(),
        socket = directory.join("admin.sock").display(),
    );
    std::fs::write(&file, text).unwrap();
    RelayConfig::load(Some(&file), []).unwrap()
}

fn directory_with_state(mode: u32) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(mode)).unwrap();
    directory
}

async fn built(directory: &Path) -> Result<Relay, BuildError> {
    let log = LogHandle::detached(LogLevel::Info);
    Relay::build(
        configuration(directory),
        PassedSockets::none(),
        log,
        Shutdown::new(),
    )
    .await
}

async fn ask(directory: &Path, method: Method, target: &str, body: Option<Value>) -> Value {
    let socket = directory.join("admin.sock");
    let answer = client::request(&socket, method, target, body.as_ref()).await;
    let (status, bytes) = answer.unwrap();
    assert!(status == StatusCode::OK || status == StatusCode::CREATED);
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_relay_serves_until_it_is_stopped_and_remembers_when_it_is_back() {
    let directory = directory_with_state(0o700);
    let directory = directory.path();
    let mut identities = Vec::new();
    for _ in 0..2 {
        let relay = built(directory).await.unwrap();
        let shared = Arc::clone(relay.shared());
        assert_ne!(shared.address.port(), 0);
        assert!(shared.plain_address.is_some());
        let running = tokio::spawn(relay.run());

        let status = ask(directory, Method::GET, "/v1/status", None).await;
        identities.push(status["identity"].clone());
        if status["connections"]["pending"] == 0 {
            let initiate = json!({"local": "acme", "remote": "widgets"});
            ask(directory, Method::POST, "/v1/connections", Some(initiate)).await;
        }
        let list = ask(directory, Method::GET, "/v1/connections", None).await;
        assert_eq!(list["connections"][0]["name"], "acme_to_widgets");

        shared.shutdown.start_drain();
        let ended = tokio::time::timeout(DEADLINE, running).await;
        assert_eq!(ended.unwrap().unwrap(), Ended::Drained);
        assert!(!directory.join("admin.sock").exists());
    }
    assert_eq!(identities[0], identities[1]);
}

#[tokio::test]
async fn whoever_connects_to_a_passed_socket_during_a_restart_is_answered_after_it() {
    let directory = directory_with_state(0o700);
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let mut waiting = None;
    for _ in 0..2 {
        let config = RelayConfig {
            plain_listen: Some(address),
            ..configuration(directory.path())
        };
        let passed = PassedSockets::of(&[&held], &[]);
        let log = LogHandle::detached(LogLevel::Info);
        let relay = Relay::build(config, passed, log, Shutdown::new()).await;
        let relay = relay.unwrap();
        let shutdown = relay.shared().shutdown.clone();
        let running = tokio::spawn(relay.run());
        if let Some(mut stream) = waiting.take() {
            assert!(health(&mut stream).await.starts_with("HTTP/1.1 200 "));
        }
        shutdown.start_drain();
        running.await.unwrap();
        waiting = Some(TcpStream::connect(address).await.unwrap());
    }
}

#[tokio::test]
async fn whoever_was_accepted_just_before_the_end_is_answered() {
    let directory = directory_with_state(0o700);
    let config = RelayConfig {
        plain_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..configuration(directory.path())
    };
    let log = LogHandle::detached(LogLevel::Info);
    let relay = Relay::build(config, PassedSockets::none(), log, Shutdown::new()).await;
    let relay = relay.unwrap();
    let shutdown = relay.shared().shutdown.clone();
    let address = relay.shared().plain_address.unwrap();
    let running = tokio::spawn(relay.run());
    let mut first = TcpStream::connect(address).await.unwrap();
    // Sockets are accepted in order: once the second is answered, the first has been accepted.
    let mut second = TcpStream::connect(address).await.unwrap();
    assert!(health(&mut second).await.starts_with("HTTP/1.1 200 "));
    shutdown.start_drain();
    tokio::task::yield_now().await;
    assert!(health(&mut first).await.starts_with("HTTP/1.1 "));
    running.await.unwrap();
}

async fn health(stream: &mut TcpStream) -> String {
    let request = b"GET /healthz HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn a_passed_socket_that_the_configuration_does_not_name_is_refused() {
    let directory = directory_with_state(0o700);
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let passed = PassedSockets::of(&[&held], &[]);
    let log = LogHandle::detached(LogLevel::Info);
    let config = configuration(directory.path());
    let Err(error) = Relay::build(config, passed, log, Shutdown::new()).await else {
        panic!("the relay was built");
    };
    let text = error.to_string();
    assert!(
        text.contains(&held.local_addr().unwrap().to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn a_state_directory_that_others_may_read_is_refused_with_the_remedy() {
    let directory = directory_with_state(0o755);
    let Err(error) = built(directory.path()).await else {
        panic!("the relay was built");
    };
    let text = crate::error_chain::chain(&error).to_string();
    assert!(text.contains("run: chmod 0700"), "{text}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let directory = directory_with_state(0o700);
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = RelayConfig {
        listen: taken.local_addr().unwrap(),
        ..configuration(directory.path())
    };
    let log = LogHandle::detached(LogLevel::Info);
    let relay = Relay::build(config, PassedSockets::none(), log, Shutdown::new()).await;
    let expected = taken.local_addr().unwrap();
    assert!(matches!(relay, Err(BuildError::Listen { address, .. }) if address == expected));
}
