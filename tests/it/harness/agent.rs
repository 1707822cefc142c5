//! An agent in this process.

use std::fs;
use std::path::{Path, PathBuf};

use http::{Method, StatusCode};
use relay_agent::agent::Agent;
use relay_agent::agent::config::AgentConfig;
use relay_agent::agent::status::{AgentStatus, ConnectionStatus};
use relay_agent::logging::{LogHandle, LogLevel};
use relay_agent::passed_sockets::PassedSockets;
use relay_agent::shutdown::{Ended, Shutdown};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::in_process::{Home, InProcess, ask, private_directory};
use super::program::{AGENT, Daemon};
use super::wait_until;

/// Where an agent keeps what outlives it.
pub(crate) struct AgentHome {
    directory: TempDir,
}

/// An agent that runs in this process, until it is dropped.
pub(crate) type TestAgent = InProcess<AgentHome>;

impl AgentHome {
    /// A new one; `lines` come last in the configuration: upstreams.
    pub(crate) fn new(lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        private_directory(&directory.path().join("state"));
        let home = Self { directory };
        home.configure("", lines);
        home
    }

    /// Writes the configuration anew: keys of the root, and sections.
    pub(crate) fn configure(&self, root: &str, lines: &str) {
        let at = self.directory.path().display();
        let text = format!(
            "state_dir = '{at}/state'\n{root}\n[admin]\nsocket = '{at}/admin.sock'\n\
             [network]\nproxy = 'none'\n{lines}\n"
        );
        fs::write(self.file(), text).unwrap();
    }

    /// Another home with the same state, as a cloned machine has it.
    pub(crate) fn cloned(&self) -> Self {
        let clone = Self::new("");
        copy(&self.state(), &clone.state());
        clone
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("agent.toml")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Starts an agent there in a process of its own.
    pub(crate) fn process(&self) -> Daemon {
        let config = self.file();
        let arguments = ["run", "--config", config.to_str().unwrap()];
        Daemon::start(AGENT, &arguments, &self.directory.path().join("log"))
    }
}

impl Home for AgentHome {
    const NAME: &str = "agent";

    fn socket(&self) -> PathBuf {
        self.directory.path().join("admin.sock")
    }

    async fn begin(&self, shutdown: Shutdown) -> JoinHandle<Ended> {
        let file = self.file();
        let config = AgentConfig::read(Some(&file)).unwrap();
        let log = LogHandle::detached(LogLevel::Info);
        let passed = PassedSockets::none();
        let agent = Agent::build(&config, Some(file), passed, log, shutdown, None).unwrap();
        let task = tokio::spawn(agent.run());
        let socket = self.socket();
        wait_until("the agent answers", async || {
            ask(&socket, Method::GET, "/healthz", None).await.0 == StatusCode::OK
        })
        .await;
        task
    }
}

impl TestAgent {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// With upstreams.
    pub(crate) async fn start_with(lines: &str) -> Self {
        Self::at(AgentHome::new(lines)).await
    }

    /// Tries to accept an invitation.
    pub(crate) async fn try_accept(&self, code: &str) -> (StatusCode, Value) {
        let body = json!({"code": code, "project": "SYNC"});
        self.ask(Method::POST, "/v1/connections", Some(body)).await
    }

    /// Accepts an invitation.
    pub(crate) async fn accept(&self, code: &str) -> Value {
        let (status, answer) = self.try_accept(code).await;
        assert!(status.is_success(), "{status} {answer}");
        answer
    }

    /// Removes a connection; whether the public side knows already.
    pub(crate) async fn remove(&self, name: &str) -> bool {
        let target = format!("/v1/connections/{name}");
        let (status, answer) = self.ask(Method::DELETE, &target, None).await;
        assert!(status.is_success(), "{answer}");
        answer["public_side_told"].as_bool().unwrap()
    }

    pub(crate) async fn status(&self) -> AgentStatus {
        let (status, answer) = self.ask(Method::GET, "/v1/status", None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        serde_json::from_value(answer).unwrap()
    }

    /// How a connection is listed, if it is.
    pub(crate) async fn connection(&self, name: &str) -> Option<ConnectionStatus> {
        let status = self.status().await;
        let mut connections = status.connections.into_iter();
        connections.find(|connection| connection.name == name)
    }

    /// Whether a connection, which is listed, has its link.
    pub(crate) async fn is_online(&self, name: &str) -> bool {
        self.connection(name).await.unwrap().link.is_online()
    }

    /// Waits until a connection is listed so.
    pub(crate) async fn until(&self, name: &str, holds: impl Fn(&ConnectionStatus) -> bool) {
        let mut last = None;
        let begun = std::time::Instant::now();
        loop {
            let connection = self.connection(name).await;
            if connection.as_ref().is_some_and(&holds) {
                return;
            }
            last = connection.or(last);
            assert!(begun.elapsed() < super::DEADLINE, "stays at {last:?}");
            tokio::time::sleep(super::LOOK_AGAIN).await;
        }
    }

    pub(crate) async fn until_online(&self, name: &str) {
        self.until(name, |connection| connection.link.is_online())
            .await;
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            private_directory(&target);
            copy(&entry.path(), &target);
        } else {
            // With its mode, which for keys matters.
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
