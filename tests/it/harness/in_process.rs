//! What tests do alike with both daemons: start one in this process, ask it, let it end.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use http::{Method, StatusCode};
use relay_agent::admin_socket::client;
use relay_agent::shutdown::{Ended, Shutdown};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::soon;

/// Where a daemon keeps what outlives it, and how it starts there.
pub(crate) trait Home {
    /// For messages.
    const NAME: &str;

    /// Its admin socket.
    fn socket(&self) -> PathBuf;

    /// Starts a daemon there.
    async fn begin(&self, shutdown: Shutdown) -> JoinHandle<Ended>;
}

/// A daemon that runs in this process, until it is dropped.
pub(crate) struct InProcess<H> {
    home: H,
    running: Option<Running>,
}

struct Running {
    shutdown: Shutdown,
    task: JoinHandle<Ended>,
}

impl<H: Home> InProcess<H> {
    /// Where another one left off.
    pub(crate) async fn at(home: H) -> Self {
        let mut daemon = Self {
            home,
            running: None,
        };
        daemon.go_on().await;
        daemon
    }

    /// Starts it where it left off.
    pub(crate) async fn go_on(&mut self) {
        assert!(self.running.is_none());
        let shutdown = Shutdown::new();
        let task = self.home.begin(shutdown.clone()).await;
        self.running = Some(Running { shutdown, task });
    }

    /// Ends it in good order.
    pub(crate) async fn stop(&mut self) -> Ended {
        self.drain();
        self.ended().await
    }

    /// As SIGTERM does.
    pub(crate) fn drain(&self) {
        self.running.as_ref().unwrap().shutdown.start_drain();
    }

    /// As a second SIGTERM does.
    pub(crate) fn stop_now(&self) {
        self.running.as_ref().unwrap().shutdown.stop_now();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Ended {
        let running = self.running.take().unwrap();
        let end = format!("the end of the {}", H::NAME);
        soon(&end, running.task).await.unwrap()
    }

    pub(crate) const fn home(&self) -> &H {
        &self.home
    }

    /// Asks by the admin socket.
    pub(crate) async fn ask(
        &self,
        method: Method,
        target: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        ask(&self.home.socket(), method, target, body).await
    }

    /// Its metrics, as text.
    pub(crate) async fn metrics(&self) -> String {
        let socket = self.home.socket();
        let asked = client::request(&socket, Method::GET, "/metrics", None);
        let (status, bytes) = soon("metrics", asked).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Activates, deactivates…
    pub(crate) async fn order(&self, name: &str, verb: &str) -> Value {
        let target = format!("/v1/connections/{name}/{verb}");
        let (status, answer) = self.ask(Method::POST, &target, None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer
    }
}

impl<H> Drop for InProcess<H> {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.shutdown.stop_now();
        }
    }
}

/// Asks a daemon by its admin socket; the answer is JSON, or null.
pub(crate) async fn ask(
    socket: &Path,
    method: Method,
    target: &str,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let asked = client::request(socket, method, target, body.as_ref());
    let (status, bytes) = soon("an admin socket's answer", asked).await.unwrap();
    let value = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap()
    };
    (status, value)
}

/// A directory as daemons want it for their state.
pub(crate) fn private_directory(path: &Path) {
    fs::DirBuilder::new().mode(0o700).create(path).unwrap();
}
