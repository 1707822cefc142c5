//! A relay in this process: self-signed TLS and a plain listener on an address that no other test has.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use http::{Method, StatusCode};
use relay_agent::admin_socket::client;
use relay_agent::logging::{LogHandle, LogLevel};
use relay_agent::passed_sockets::PassedSockets;
use relay_agent::relay::Relay;
use relay_agent::relay::config::RelayConfig;
use relay_agent::shutdown::{Ended, Shutdown};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::in_process::{Home, InProcess, private_directory};
use super::program::{Daemon, RELAY};
use super::{Cable, Wire, wait_until};

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
pub(crate) type TestRelay = InProcess<RelayHome>;

impl RelayHome {
    /// A new one; `lines` come first in the configuration, so keys of the root and then sections.
    pub(crate) fn new(lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        private_directory(&directory.path().join("state"));
        let home = Self {
            directory: Arc::new(directory),
            host: next_host(),
            name: "relay",
        };
        home.configure(lines);
        home
    }

    /// That of a relay which takes over: the same state and address, and an admin socket of its own.
    pub(crate) fn successor(&self) -> Self {
        self.successor_with("")
    }

    /// The same, with more lines for the configuration.
    pub(crate) fn successor_with(&self, lines: &str) -> Self {
        self.successor_at(self.host.clone(), lines)
    }

    /// The same with an address of its own, behind a load balancer.
    pub(crate) fn successor_elsewhere(&self) -> Self {
        self.successor_at(next_host(), "")
    }

    fn successor_at(&self, host: String, lines: &str) -> Self {
        let home = Self {
            directory: Arc::clone(&self.directory),
            host,
            name: "successor",
        };
        home.configure(&format!("reuse_port = true\n{lines}"));
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

    /// Starts a relay there in a process of its own, and waits until it answers.
    pub(crate) async fn process(&self) -> Daemon {
        let config = self.file();
        let arguments = ["serve", "--config", config.to_str().unwrap()];
        let log = self.directory.path().join(format!("{}.log", self.name));
        let relay = Daemon::start(RELAY, &arguments, &log);
        wait_until("the relay answers", async || {
            // On the address a relay that it is to take over from would answer as well.
            let socket = self.socket();
            let asked = client::request(&socket, Method::GET, "/healthz", None);
            asked.await.is_ok()
        })
        .await;
        relay
    }
}

/// Every process and every relay has its own address in 127.0.0.0/8, so that ports need no search, and a relay
/// that is started again has the address it had.
fn next_host() -> String {
    let process = std::process::id();
    let (high, low) = (1 + (process >> 8) % 250, process % 256);
    let count = NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed);
    format!("127.{high}.{low}.{count}")
}

impl Home for RelayHome {
    const NAME: &str = "relay";

    fn socket(&self) -> PathBuf {
        self.directory.path().join(format!("{}.sock", self.name))
    }

    async fn begin(&self, shutdown: Shutdown) -> JoinHandle<Ended> {
        let config = RelayConfig::load(Some(&self.file()), []).unwrap();
        let log = LogHandle::detached(LogLevel::Info);
        let relay = Relay::build(config, PassedSockets::none(), log, shutdown)
            .await
            .unwrap();
        tokio::spawn(relay.run())
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

    pub(crate) async fn status(&self) -> Value {
        let (status, view) = self.ask(Method::GET, "/v1/status", None).await;
        assert_eq!(status, StatusCode::OK, "{view}");
        view
    }

    /// How a connection is listed.
    pub(crate) async fn connection(&self, name: &str) -> Value {
        let target = format!("/v1/connections/{name}");
        let (status, view) = self.ask(Method::GET, &target, None).await;
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
        let store = rusqlite::Connection::open(self.home().state().join("relay.db")).unwrap();
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
