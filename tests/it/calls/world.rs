//! A relay, an agent and an upstream in this process, linked over loopback, with a token to call with.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use relay_agent::admin_socket::client;
use relay_agent::agent::Agent;
use relay_agent::agent::config::AgentConfig;
use relay_agent::body::{self, Body};
use relay_agent::logging::{LogHandle, LogLevel};
use relay_agent::relay::Relay;
use relay_agent::relay::config::RelayConfig;
use relay_agent::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Both sides, linked; they end with it.
pub(crate) struct World {
    /// Where callers reach the relay, without TLS.
    pub(crate) callers: SocketAddr,
    /// What opens the connection `acme_to_widgets`.
    pub(crate) token: String,
    /// Ends the relay.
    pub(crate) relay: Shutdown,
    /// Ends the agent.
    pub(crate) agent: Shutdown,
    directory: tempfile::TempDir,
}

impl World {
    /// A world in which `/c/acme_to_widgets/web/…` reaches `url`, but for what begins with `/private`.
    pub(crate) async fn with_upstream(url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (relay, callers) = start_relay(directory.path()).await;
        let agent = start_agent(directory.path(), url);
        let mut world = Self {
            callers,
            token: String::new(),
            relay,
            agent,
            directory,
        };
        let names = json!({ "local": "acme", "remote": "widgets" });
        let issued = world
            .ask("relay", Method::POST, "/v1/connections", Some(names))
            .await;
        let code = json!({ "code": issued["invitation_code"] });
        world
            .ask("agent", Method::POST, "/v1/connections", Some(code))
            .await;
        world.wait_for_link("online").await;
        let wish = json!({ "connection": "acme_to_widgets", "name": "reports" });
        let token = world
            .ask("relay", Method::POST, "/v1/tokens", Some(wish))
            .await;
        world.token = token["token"].as_str().unwrap().to_owned();
        world
    }

    /// Waits until the relay says so of the link.
    pub(crate) async fn wait_for_link(&self, status: &str) {
        within(async {
            loop {
                let listed = self
                    .ask("relay", Method::GET, "/v1/connections", None)
                    .await;
                if listed["connections"][0]["link"]["status"] == status {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// A request to the admin socket of `relay` or `agent`, which must succeed.
    pub(crate) async fn ask(
        &self,
        program: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let socket = self.directory.path().join(format!("{program}.sock"));
        let uri = format!("http://{program}{path}");
        let answer = client::request(&socket, method, &uri, body.as_ref()).await;
        let (status, answer) = answer.unwrap();
        assert!(
            status.is_success(),
            "{path}: {}",
            String::from_utf8_lossy(&answer)
        );
        serde_json::from_slice(&answer).unwrap_or_default()
    }

    /// A request for a path of the upstream, with the token.
    pub(crate) fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(format!("/c/acme_to_widgets/web{path}"))
            .header("host", self.callers.to_string())
            .header("relay-authorization", format!("Bearer {}", self.token))
            .body(body)
            .unwrap()
    }

    /// The same without a body.
    pub(crate) fn get(&self, path: &str) -> Request<Body> {
        self.request(Method::GET, path, body::empty())
    }

    /// Sends a request over a new HTTP/1.1 connection.
    pub(crate) async fn call(&self, request: Request<Body>) -> Response<Incoming> {
        let mut caller = self.http1().await;
        within(caller.send_request(request)).await.unwrap()
    }

    /// An HTTP/1.1 connection to the relay.
    pub(crate) async fn http1(&self) -> http1::SendRequest<Body> {
        let stream = TcpStream::connect(self.callers).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    /// An HTTP/2 connection to the relay. Its requests need an absolute address.
    pub(crate) async fn http2(&self) -> http2::SendRequest<Body> {
        let stream = TcpStream::connect(self.callers).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A request as HTTP/2 wants it.
    pub(crate) fn absolute(&self, mut request: Request<Body>) -> Request<Body> {
        request.headers_mut().remove("host");
        let uri = format!("http://{}{}", self.callers, request.uri());
        *request.uri_mut() = uri.parse().unwrap();
        request
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.relay.stop_now();
        self.agent.stop_now();
    }
}

/// Waits for what must come.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

async fn start_relay(directory: &Path) -> (Shutdown, SocketAddr) {
    // The invitation names the port, so it is chosen before the relay binds it.
    let chosen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let listen = chosen.local_addr().unwrap();
    drop(chosen);
    let file = directory.join("relay.toml");
    let text = format!(
        "listen = '{listen}'\nplain_listen = '127.0.0.1:0'\npublic_url = 'https://{listen}'\n\
         state_dir = '{}'\n[tls]\nmode = 'self-signed'\n[admin]\nsocket = '{}'\n\
         [limits]\ncalls_per_connection = 50\n",
        private_directory(directory, "relay").display(),
        directory.join("relay.sock").display()
    );
    fs::write(&file, text).unwrap();
    let config = RelayConfig::load(Some(&file), []).unwrap();
    let shutdown = Shutdown::new();
    let log = LogHandle::detached(LogLevel::Warn);
    let relay = Relay::build(config, log, shutdown.clone()).await.unwrap();
    let callers = relay.shared().plain_address.unwrap();
    tokio::spawn(relay.run());
    (shutdown, callers)
}

fn start_agent(directory: &Path, url: &str) -> Shutdown {
    let file = directory.join("agent.toml");
    let text = format!(
        "state_dir = '{}'\n[admin]\nsocket = '{}'\n[network]\nproxy = 'none'\n\
         [[upstream]]\nname = 'web'\nurl = '{url}'\nmax_in_flight = 200\n\
         [[upstream.allow]]\nmethods = ['GET', 'HEAD', 'POST']\npath = '/open/{{*rest}}'\n",
        private_directory(directory, "agent").display(),
        directory.join("agent.sock").display()
    );
    fs::write(&file, text).unwrap();
    let config = AgentConfig::read(Some(&file)).unwrap();
    let shutdown = Shutdown::new();
    let log = LogHandle::detached(LogLevel::Warn);
    let agent = Agent::build(&config, Some(file), log, shutdown.clone()).unwrap();
    tokio::spawn(agent.run());
    shutdown
}

fn private_directory(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
    path
}
