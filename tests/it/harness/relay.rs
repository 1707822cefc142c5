//! A relay in this process: self-signed TLS and a plain listener on an address that no other test has.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::{Method, StatusCode};
use relay_agent::admin_socket::client;
use relay_agent::logging::{LogHandle, LogLevel};
use relay_agent::relay::Relay;
use relay_agent::relay::config::RelayConfig;
use relay_agent::shutdown::{Ended, Shutdown};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{Cable, Wire, soon, wait_until};

const TLS_PORT: u16 = 8443;
const PLAIN_PORT: u16 = 8080;
static NEXT_ADDRESS: AtomicU8 = AtomicU8::new(1);

/// Where a relay keeps what outlives it: directory, address, configuration.
pub(crate) struct RelayHome {
    directory: Arc<TempDir>,
    host: String,
    /// Tells the files of relays in one directory apart.
    name: &'static str,
}

/// A relay that runs in this process, until it is dropped.
pub(crate) struct TestRelay {
    home: RelayHome,
    running: Option<Running>,
}

struct Running {
    shutdown: Shutdown,
    task: JoinHandle<Ended>,
}

impl RelayHome {
    /// A new one; `lines` come first in the configuration, so keys of the root and then sections.
    pub(crate) fn new(lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        private_directory(&directory.path().join("state"));
        // Every process and every relay has its own address in 127.0.0.0/8, so that ports need no
        // search, and a relay that is started again has the address it had.
        let process = std::process::id();
        let (high, low) = (1 + (process >> 8) % 250, process % 256);
        let count = NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed);
        let host = format!("127.{high}.{low}.{count}");
        let home = Self {
            directory: Arc::new(directory),
            host,
            name: "relay",
        };
        home.configure(lines);
        home
    }

    /// That of a relay which takes over: the same state and address, and an admin socket of its own.
    pub(crate) fn successor(&self) -> Self {
        let home = Self {
            directory: Arc::clone(&self.directory),
            host: self.host.clone(),
            name: "successor",
        };
        home.configure("reuse_port = true");
        home
    }

    /// One whose agents come by a wire.
    pub(crate) fn behind(wire: &Wire, lines: &str) -> Self {
        let home = Self::new("");
        wire.lead_to(home.authority());
        home.write(&wire.address().to_string(), lines);
        home
    }

    /// One whose agents come by a cable. Its near end has the relay's host, which the certificate names.
    pub(crate) async fn by_cable(lines: &str) -> (Self, Cable) {
        let home = Self::new("");
        let cable = Cable::new(home.host(), home.authority()).await;
        home.write(&cable.address().to_string(), lines);
        (home, cable)
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, lines: &str) {
        self.write(&self.authority(), lines);
    }

    fn write(&self, public: &str, lines: &str) {
        let Self { host, .. } = self;
        let at = self.directory.path().display();
        let socket = self.socket().display().to_string();
        let text = format!(
            "listen = '{host}:{TLS_PORT}'\nplain_listen = '{host}:{PLAIN_PORT}'\n\
             public_url = 'https://{public}'\nstate_dir = '{at}/state'\n\
             {lines}\n[tls]\nmode = 'self-signed'\n[admin]\nsocket = '{socket}'\n"
        );
        fs::write(self.file(), text).unwrap();
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join(format!("{}.toml", self.name))
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join(format!("{}.sock", self.name))
    }

    /// Host and port of the TLS listener.
    pub(crate) fn authority(&self) -> String {
        format!("{}:{TLS_PORT}", self.host)
    }

    /// Host and port of the plain listener.
    pub(crate) fn plain_authority(&self) -> String {
        format!("{}:{PLAIN_PORT}", self.host)
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

impl TestRelay {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more lines for the configuration.
    pub(crate) async fn start_with(lines: &str) -> Self {
        Self::at(RelayHome::new(lines)).await
    }

    /// Where another relay left off.
    pub(crate) async fn at(home: RelayHome) -> Self {
        let mut relay = Self {
            home,
            running: None,
        };
        relay.go_on().await;
        relay
    }

    /// Starts it where it left off.
    pub(crate) async fn go_on(&mut self) {
        assert!(self.running.is_none());
        let config = RelayConfig::load(Some(&self.home.file()), []).unwrap();
        let shutdown = Shutdown::new();
        let log = LogHandle::detached(LogLevel::Info);
        let relay = Relay::build(config, log, shutdown.clone()).await.unwrap();
        let task = tokio::spawn(relay.run());
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
        soon("the relay's end", running.task).await.unwrap()
    }

    pub(crate) const fn home(&self) -> &RelayHome {
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

    /// Initiates `<local>_to_<remote>`; the answer is its invitation code.
    pub(crate) async fn initiate(&self, local: &str, remote: &str) -> String {
        let body = json!({"local": local, "remote": remote});
        let (status, issued) = self.ask(Method::POST, "/v1/connections", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{issued}");
        issued["invitation_code"].as_str().unwrap().to_owned()
    }

    /// A token for one connection, or for all.
    pub(crate) async fn token(&self, connection: Option<&str>) -> String {
        let body = json!({ "connection": connection });
        let (status, made) = self.ask(Method::POST, "/v1/tokens", Some(body)).await;
        assert!(status.is_success(), "{made}");
        made["token"].as_str().unwrap().to_owned()
    }

    /// How a connection is listed.
    pub(crate) async fn connection(&self, name: &str) -> Value {
        let target = format!("/v1/connections/{name}");
        let (status, view) = self.ask(Method::GET, &target, None).await;
        assert_eq!(status, StatusCode::OK, "{view}");
        view
    }

    /// Activates, deactivates…
    pub(crate) async fn order(&self, name: &str, verb: &str) -> Value {
        let target = format!("/v1/connections/{name}/{verb}");
        let (status, view) = self.ask(Method::POST, &target, None).await;
        assert_eq!(status, StatusCode::OK, "{view}");
        view
    }

    pub(crate) async fn remove(&self, name: &str) {
        let target = format!("/v1/connections/{name}");
        let (status, view) = self.ask(Method::DELETE, &target, None).await;
        assert_eq!(status, StatusCode::OK, "{view}");
    }

    pub(crate) async fn until_online(&self, name: &str) {
        self.until_link(name, "online").await;
    }

    /// Waits until the link is `online`, `reconnecting` or `offline`.
    pub(crate) async fn until_link(&self, name: &str, word: &str) {
        let what = format!("the link of {name} is {word} on the relay");
        wait_until(&what, async || {
            self.connection(name).await["link"]["status"] == word
        })
        .await;
    }

    /// Changes the store behind the relay's back, as the passing of time would.
    pub(crate) fn rewrite_store(&self, statement: &str) {
        let store = rusqlite::Connection::open(self.home.state().join("relay.db")).unwrap();
        assert!(store.execute(statement, []).unwrap() > 0, "{statement}");
    }

    /// Waits until the listing's words for the state are these.
    pub(crate) async fn until_state(&self, name: &str, words: &str) {
        let what = format!("{name} is {words} on the relay");
        wait_until(&what, async || {
            self.connection(name).await["state_text"] == words
        })
        .await;
    }
}

impl Drop for TestRelay {
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
