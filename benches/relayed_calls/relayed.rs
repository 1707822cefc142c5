//! What is measured: load → relay ◂── the link ── agent → upstream, as release binaries with one connection.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::connections;
use crate::failure::Failure;
use crate::process::{self, Process};
use crate::target::Target;
use crate::upstream::Upstream;
use crate::wrk;

/// By then the agent has linked, or something is wrong.
const LINK_DEADLINE: Duration = Duration::from_secs(120);

/// How often to look whether the link is up: well under the time that is measured with it.
const LINK_POLL: Duration = Duration::from_millis(2);

/// The relay to measure: `RELAY_BINARY`, else the one that `cargo bench` built with its own profile, which inherits
/// from release, but with the features that tests switch on in dependencies.
pub(crate) fn relay_binary() -> OsString {
    env::var_os("RELAY_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_relay").into())
}

/// The agent to measure: `AGENT_BINARY`, else as with the relay.
pub(crate) fn agent_binary() -> OsString {
    env::var_os("AGENT_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_agent").into())
}

/// The running pair.
pub(crate) struct Relayed {
    target: Target,
    relay: Process,
    agent: Process,
    pub(crate) relay_config: PathBuf,
    pub(crate) agent_config: PathBuf,
    directory: PathBuf,
}

impl Relayed {
    /// Starts both in a new directory, makes a connection named `bench`, and waits until calls pass.
    pub(crate) fn start(directory: &Path, upstream: &Upstream) -> Result<Self, Failure> {
        for private in ["", "relay-state", "agent-state"] {
            make_private(&directory.join(private))?;
        }
        let (listen, callers) = (process::free_address()?, process::free_address()?);
        let relay_config = directory.join("relay.toml");
        process::write(
            &relay_config,
            &relay_configuration(directory, listen, callers),
        )?;
        let agent_config = directory.join("agent.toml");
        process::write(&agent_config, &agent_configuration(directory, upstream))?;

        let relay = start_relay(&relay_config, directory, callers)?;
        let token = connections::token(&relay_config)?;
        let code = connections::initiate(&relay_config, "bench")?;
        // No daemon runs yet: accepting works alone, and the agent finds the connection when it starts.
        connections::accept(&agent_config, &code)?;
        let agent = start_agent(&agent_config, directory)?;
        let target = Target {
            name: "relay + agent",
            address: callers,
            small: "/c/bench/files/small".to_owned(),
            large: "/c/bench/files/large".to_owned(),
            sink: "/c/bench/sink/sink".to_owned(),
            authorization: Some(format!("Bearer {token}")),
            processes: vec![relay.id(), agent.id()],
        };
        let mut relayed = Self {
            target,
            relay,
            agent,
            relay_config,
            agent_config,
            directory: directory.to_owned(),
        };
        let linked = relayed.wait_for_link();
        if linked.is_err() {
            relayed.print_log_tails();
        }
        linked.map(|()| relayed)
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn relay_id(&self) -> u32 {
        self.relay.id()
    }

    pub(crate) fn agent_id(&self) -> u32 {
        self.agent.id()
    }

    /// Ends the agent, starts it anew, and returns the time from there to the first call answered.
    pub(crate) fn restart_agent(&mut self) -> Result<Duration, Failure> {
        self.stop_agent();
        let began = Instant::now();
        self.start_agent()?;
        self.wait_for_link()?;
        Ok(began.elapsed())
    }

    /// Ends the agent; the relay goes on.
    pub(crate) fn stop_agent(&mut self) {
        self.agent.stop();
    }

    /// Starts the agent again, without waiting for its links.
    pub(crate) fn start_agent(&mut self) -> Result<(), Failure> {
        self.agent = start_agent(&self.agent_config, &self.directory)?;
        self.target.processes = vec![self.relay.id(), self.agent.id()];
        Ok(())
    }

    /// Ends the relay and starts it anew.
    pub(crate) fn restart_relay(&mut self) -> Result<(), Failure> {
        self.relay.stop();
        self.relay = start_relay(&self.relay_config, &self.directory, self.target.address)?;
        self.target.processes = vec![self.relay.id(), self.agent.id()];
        Ok(())
    }

    /// For the person who has to find out why the bench failed.
    pub(crate) fn print_log_tails(&self) {
        eprintln!(
            "--- relay\n{}\n--- agent\n{}",
            self.relay.log_tail(),
            self.agent.log_tail()
        );
    }

    fn wait_for_link(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + LINK_DEADLINE;
        loop {
            match wrk::check_answer(&self.target) {
                Ok(()) => return Ok(()),
                Err(failure) if Instant::now() > deadline => return Err(failure),
                Err(_) => thread::sleep(LINK_POLL),
            }
        }
    }
}

fn start_relay(config: &Path, directory: &Path, callers: SocketAddr) -> Result<Process, Failure> {
    let mut command = Command::new(relay_binary());
    command.arg("serve").arg("--config").arg(config);
    let mut relay = Process::start("relay", &mut command, directory.join("relay.log"))?;
    relay.wait_for_listener(callers)?;
    wait_for_socket(&directory.join("relay.sock"))?;
    Ok(relay)
}

/// Waits until somebody listens on the admin socket, which with many connections is later than on the network.
fn wait_for_socket(path: &Path) -> Result<(), Failure> {
    let deadline = Instant::now() + LINK_DEADLINE;
    while let Err(error) = UnixStream::connect(path) {
        if Instant::now() > deadline {
            return Err(Failure::because(format!("reach {}", path.display()))(error));
        }
        thread::sleep(LINK_POLL);
    }
    Ok(())
}

fn start_agent(config: &Path, directory: &Path) -> Result<Process, Failure> {
    let mut command = Command::new(agent_binary());
    command.arg("run").arg("--config").arg(config);
    Process::start("agent", &mut command, directory.join("agent.log"))
}

/// TLS for the link, as on a network; none for the callers on this machine, as with the chain.
fn relay_configuration(directory: &Path, listen: SocketAddr, callers: SocketAddr) -> String {
    format!(
        r#"listen = "{listen}"
plain_listen = "{callers}"
public_url = "https://{listen}"
state_dir = "{here}/relay-state"

[tls]
mode = "self-signed"

[admin]
socket = "{here}/relay.sock"

[log]
level = "warn"
"#,
        here = directory.display()
    )
}

/// More calls in flight than the load has callers, so that no limit is what is measured.
fn agent_configuration(directory: &Path, upstream: &Upstream) -> String {
    format!(
        r#"state_dir = "{here}/agent-state"

[admin]
socket = "{here}/agent.sock"

[log]
level = "warn"

[network]
proxy = "none"

[[upstream]]
name = "files"
url = "http://{files}"
max_in_flight = 1024

[[upstream.allow]]
methods = ["GET"]
path = "/{{name}}"

[[upstream]]
name = "sink"
url = "http://{sink}"

[[upstream.allow]]
methods = ["POST"]
path = "/sink"
"#,
        here = directory.display(),
        files = upstream.files,
        sink = upstream.sink,
    )
}

fn make_private(directory: &Path) -> Result<(), Failure> {
    fs::create_dir(directory)
        .and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(0o700)))
        .map_err(Failure::because(format!("make {}", directory.display())))
}
