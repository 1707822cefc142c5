//! The two sides: their configurations, their daemons, and what their administrators do.

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use http::{Method, StatusCode};
use relay_agent::admin_socket::client;
use relay_agent::agent::Agent;
use relay_agent::agent::config::AgentConfig;
use relay_agent::logging::{self, LogFormat, LogHandle, LogLevel};
use relay_agent::passed_sockets::PassedSockets;
use relay_agent::relay::Relay;
use relay_agent::relay::config::RelayConfig;
use relay_agent::shutdown::Shutdown;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::say;
use crate::steps::Callers;
use crate::tracker;

const CONNECTION: &str = "acme_to_widgets";

/// Both sides, running.
pub(crate) struct World {
    /// Where callers reach the relay on this machine, without TLS.
    pub(crate) callers: SocketAddr,
    directory: tempfile::TempDir,
    shutdowns: [Shutdown; 2],
    daemons: Vec<JoinHandle<()>>,
}

impl World {
    /// Starts the tracker, the relay and the agent.
    pub(crate) async fn start() -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700))?;
        let log = logging::init(LogLevel::Warn, LogFormat::Text)?;

        let tracker = tracker::start().await?;
        say(&format!(
            "private side   an issue tracker at http://{tracker}, which nobody outside can reach"
        ));
        let (relay, callers) = start_relay(directory.path(), log.clone()).await?;
        say(&format!(
            "public side    a relay; programs on its machine call it at http://{callers}"
        ));
        let agent = start_agent(directory.path(), tracker, log)?;
        say("private side   an agent, which opens no port and so far has no connection");

        Ok(Self {
            callers,
            shutdowns: [agent.0, relay.0],
            daemons: vec![agent.1, relay.1],
            directory,
        })
    }

    /// The public side's admin initiates a connection and gets the code.
    pub(crate) async fn initiate(&self) -> Result<String, Box<dyn Error>> {
        say("\n$ relay initiate --local acme --remote widgets --project SYNC");
        let body = json!({ "local": "acme", "remote": "widgets", "project": "SYNC" });
        let answer = self
            .relay(Method::POST, "/v1/connections", Some(body))
            .await?;
        let code = text(&answer["invitation_code"])?;
        say(&code);
        Ok(code)
    }

    /// The private side's admin accepts it, and the link comes up.
    pub(crate) async fn accept(&self, code: &str) -> Result<(), Box<dyn Error>> {
        say(
            "\n$ agent accept --project OPS        # the code goes in at the prompt, so that it stays out of the shell's history",
        );
        let body = json!({ "code": code, "project": "OPS" });
        let answer = self
            .agent(Method::POST, "/v1/connections", Some(body))
            .await?;
        say(&format!("accepted: {}", text(&answer["name"])?));
        self.wait_until_online().await?;
        say(&format!("{CONNECTION}: active, link online"));
        Ok(())
    }

    /// The public side's admin makes a token for a program that is to call.
    pub(crate) async fn create_token(&self) -> Result<String, Box<dyn Error>> {
        say(&format!(
            "\n$ relay token create --connection {CONNECTION} --name tracker-sync"
        ));
        let body = json!({ "connection": CONNECTION, "name": "tracker-sync" });
        let answer = self.relay(Method::POST, "/v1/tokens", Some(body)).await?;
        let token = text(&answer["token"])?;
        say(&token);
        Ok(token)
    }

    /// Either side can stop the traffic, and let it flow again.
    pub(crate) async fn deactivate_and_activate(
        &self,
        callers: &Callers,
    ) -> Result<(), Box<dyn Error>> {
        say(&format!("\n$ agent deactivate {CONNECTION}"));
        let path = format!("/v1/connections/{CONNECTION}/deactivate");
        self.agent(Method::POST, &path, None).await?;
        callers.wait_for(StatusCode::CONFLICT).await?;
        say("the relay was told at once: calls are refused with 409");
        say(&format!("\n$ agent activate {CONNECTION}"));
        let path = format!("/v1/connections/{CONNECTION}/activate");
        self.agent(Method::POST, &path, None).await?;
        callers.wait_for(StatusCode::OK).await?;
        say("and flow again");
        Ok(())
    }

    /// What a person can paste into another terminal.
    pub(crate) fn say_what_to_try_next(&self, callers: &Callers) {
        say("\nEverything is up until Ctrl-C. Try, in another terminal:\n");
        say(&callers.curl("", "/rest/api/2/issue/OPS-1"));
        say(&callers.curl("-i -X DELETE ", "/rest/api/2/issue/OPS-1"));
        say(&callers.curl("-N ", "/rest/api/2/events"));
        for (program, socket) in [
            ("relay", self.socket("relay")),
            ("agent", self.socket("agent")),
        ] {
            let socket = socket.display();
            say(&format!(
                "curl -s --unix-socket {socket} http://{program}/v1/status"
            ));
            say(&format!(
                "cargo run -q --release --bin {program} -- status --socket {socket}"
            ));
        }
    }

    /// Ends both sides in good order.
    pub(crate) async fn stop(self) {
        for shutdown in &self.shutdowns {
            shutdown.start_drain();
        }
        for daemon in self.daemons {
            // A daemon that panicked has said so.
            let _ = daemon.await;
        }
    }

    async fn wait_until_online(&self) -> Result<(), Box<dyn Error>> {
        for _ in 0..2_400 {
            let answer = self.relay(Method::GET, "/v1/connections", None).await?;
            if answer["connections"][0]["link"]["status"] == "online" {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Err("the link did not come up within two minutes".into())
    }

    async fn relay(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Box<dyn Error>> {
        ask(
            &self.socket("relay"),
            method,
            &format!("http://relay{path}"),
            body,
        )
        .await
    }

    async fn agent(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Box<dyn Error>> {
        ask(
            &self.socket("agent"),
            method,
            &format!("http://agent{path}"),
            body,
        )
        .await
    }

    fn socket(&self, program: &str) -> PathBuf {
        self.directory.path().join(format!("{program}.sock"))
    }
}

async fn ask(
    socket: &Path,
    method: Method,
    uri: &str,
    body: Option<Value>,
) -> Result<Value, Box<dyn Error>> {
    let (status, answer) = client::request(socket, method, uri, body.as_ref()).await?;
    if !status.is_success() {
        return Err(format!(
            "{uri} answered {status}: {}",
            String::from_utf8_lossy(&answer)
        )
        .into());
    }
    Ok(serde_json::from_slice(&answer).unwrap_or_default())
}

async fn start_relay(
    directory: &Path,
    log: LogHandle,
) -> Result<((Shutdown, JoinHandle<()>), SocketAddr), Box<dyn Error>> {
    let (listen, callers) = (free_address().await?, free_address().await?);
    let state = private_directory(directory, "relay")?;
    let file = directory.join("relay.toml");
    fs::write(
        &file,
        format!(
            "listen = '{listen}'\nplain_listen = '{callers}'\npublic_url = 'https://{listen}'\n\
             state_dir = '{}'\n[tls]\nmode = 'self-signed'\n[admin]\nsocket = '{}'\n",
            state.display(),
            directory.join("relay.sock").display()
        ),
    )?;
    let config = RelayConfig::load(Some(&file), []).map_err(|mistakes| mistakes.to_string())?;
    let shutdown = Shutdown::new();
    let relay = Relay::build(config, PassedSockets::none(), log, shutdown.clone()).await?;
    let daemon = tokio::spawn(async move {
        relay.run().await;
    });
    Ok(((shutdown, daemon), callers))
}

fn start_agent(
    directory: &Path,
    tracker: SocketAddr,
    log: LogHandle,
) -> Result<(Shutdown, JoinHandle<()>), Box<dyn Error>> {
    let state = private_directory(directory, "agent")?;
    let file = directory.join("agent.toml");
    fs::write(
        &file,
        format!(
            "state_dir = '{}'\n[admin]\nsocket = '{}'\n\
             [[upstream]]\nname = 'tracker'\nurl = 'http://{tracker}'\n\
             [[upstream.allow]]\nmethods = ['GET']\npath = '/rest/api/2/issue/{{key}}'\n\
             [[upstream.allow]]\nmethods = ['POST']\npath = '/rest/api/2/issue'\n\
             [[upstream.allow]]\nmethods = ['GET']\npath = '/rest/api/2/events'\n",
            state.display(),
            directory.join("agent.sock").display()
        ),
    )?;
    let config = AgentConfig::read(Some(&file)).map_err(|mistakes| mistakes.to_string())?;
    let shutdown = Shutdown::new();
    let agent = Agent::build(
        &config,
        Some(file),
        PassedSockets::none(),
        log,
        shutdown.clone(),
        None,
    )?;
    let daemon = tokio::spawn(async move {
        agent.run().await;
    });
    Ok((shutdown, daemon))
}

/// A port that was free a moment ago: both the listener and the invitation must name it beforehand.
async fn free_address() -> Result<SocketAddr, Box<dyn Error>> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await?
        .local_addr()?)
}

fn private_directory(parent: &Path, name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let path = parent.join(name);
    fs::DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

fn text(value: &Value) -> Result<String, Box<dyn Error>> {
    Ok(value
        .as_str()
        .ok_or("an answer lacks what it should have")?
        .to_owned())
}
