//! What is measured: relay and agent as programs, with a cable between them and an upstream behind, in a thread of
//! their own.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cable::Cable;
use crate::caller::Caller;
use crate::connections;
use crate::failure::Failure;
use crate::process::{self, Process};
use crate::upstream;

/// By then the relay takes commands and the agent has linked, or something is wrong.
const START_DEADLINE: Duration = Duration::from_secs(60);

const RELAY_CONFIG: &str = "relay.toml";
/// What the paths of calls over the link begin with.
pub(crate) const LINKED: &str = "/c/bench/files";
/// The file of the agent's configuration.
pub(crate) const AGENT_CONFIG: &str = "agent.toml";

/// The relay to measure: `RELAY_BINARY`, else the one that `cargo bench` built.
pub(crate) fn relay_binary() -> OsString {
    env::var_os("RELAY_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_relay").into())
}

/// The agent to measure: `AGENT_BINARY`, else the one that `cargo bench` built.
pub(crate) fn agent_binary() -> OsString {
    env::var_os("AGENT_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_agent").into())
}

/// The running pair; dropping it ends both.
pub(crate) struct Relayed {
    /// The link's path.
    pub(crate) cable: Cable,
    /// A path of the same kind straight to the upstream.
    pub(crate) beside: Cable,
    relay: Process,
    agent: Process,
    callers: SocketAddr,
    token: String,
    directory: TempDir,
}

impl Relayed {
    pub(crate) fn start() -> Result<Self, Failure> {
        let directory = tempfile::tempdir().map_err(Failure::because("make a directory"))?;
        let here = directory.path();
        for state in ["relay-state", "agent-state"] {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(here.join(state))
                .map_err(Failure::because("make a directory"))?;
        }
        let (listen, callers) = (process::free_address()?, process::free_address()?);
        let (cable, beside, upstream) = around(listen)?;
        let relay_config = here.join(RELAY_CONFIG);
        let agent_config = here.join(AGENT_CONFIG);
        process::write(
            &relay_config,
            &relay_configuration(here, listen, callers, cable.address()),
        )?;
        process::write(&agent_config, &agent_configuration(here, upstream))?;

        let mut serve = Command::new(relay_binary());
        serve.arg("serve").arg("--config").arg(&relay_config);
        let mut relay = Process::start("relay", &mut serve, here.join("relay.log"))?;
        relay.wait_for_listener(callers)?;
        wait_until("the relay takes no command", || {
            Ok(UnixStream::connect(here.join("relay.sock")).is_ok())
        })?;
        let token = connections::token(&relay_config)?;
        connect(here, "bench")?;
        let mut run = Command::new(agent_binary());
        run.arg("run").arg("--config").arg(&agent_config);
        let agent = Process::start("agent", &mut run, here.join("agent.log"))?;
        let relayed = Self {
            cable,
            beside,
            relay,
            agent,
            callers,
            token,
            directory,
        };
        wait_for_links(relayed.folder(), 1)?;
        Ok(relayed)
    }

    /// Where their configuration is.
    pub(crate) fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// A caller of the relay.
    pub(crate) async fn caller(&self) -> Result<Caller, Failure> {
        Caller::connect(self.callers(), LINKED, self.token()).await
    }

    /// A caller that reaches the upstream by the path beside the link.
    pub(crate) async fn caller_beside(&self) -> Result<Caller, Failure> {
        Caller::connect(self.beside.address(), "", "").await
    }

    /// Where the relay's callers connect.
    pub(crate) fn callers(&self) -> SocketAddr {
        self.callers
    }

    /// What callers show.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Ends both, so that they can write down what they have to.
    pub(crate) fn end(mut self, patience: Duration) -> Result<(), Failure> {
        for (name, process) in [("agent", &mut self.agent), ("relay", &mut self.relay)] {
            if !process.ends_within(patience) {
                return Err(Failure::new(format!("{name} does not end")));
            }
        }
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
}

/// The cables to the relay and beside it, and the upstream. They work in threads of their own until the bench ends: a call
/// is not to wait in the upstream for what the cable carries.
fn around(relay: SocketAddr) -> Result<(Cable, Cable, SocketAddr), Failure> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let begin = async {
            let upstream = upstream::start()?;
            let cable = Cable::new("127.0.0.1", relay.to_string()).await;
            let beside = Cable::new("127.0.0.1", upstream.to_string()).await;
            // Whoever waits for it goes on as long as the bench.
            let _ = sender.send((cable, beside, upstream));
            std::future::pending::<std::io::Result<()>>().await
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(begin)
    });
    receiver
        .recv()
        .map_err(Failure::because("start the upstream"))
}

/// Makes a connection: by the agent if it runs, else by its command alone.
pub(crate) fn connect(folder: &Path, name: &str) -> Result<(), Failure> {
    let code = connections::initiate(&folder.join(RELAY_CONFIG), name)?;
    connections::accept(&folder.join(AGENT_CONFIG), &code)
}

/// Waits until so many connections have a link.
pub(crate) fn wait_for_links(folder: &Path, wanted: usize) -> Result<(), Failure> {
    wait_until("too few links came up", || {
        Ok(connections::online(&folder.join(RELAY_CONFIG))? >= wanted)
    })
}

fn wait_until(
    failure: &str,
    mut happened: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + START_DEADLINE;
    while !happened()? {
        if Instant::now() > deadline {
            return Err(Failure::new(failure));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn relay_configuration(
    here: &Path,
    listen: SocketAddr,
    callers: SocketAddr,
    public: SocketAddr,
) -> String {
    let here = here.display();
    format!(
        "listen = '{listen}'\nplain_listen = '{callers}'\npublic_url = 'https://{public}'\n\
         state_dir = '{here}/relay-state'\n[tls]\nmode = 'self-signed'\n\
         [admin]\nsocket = '{here}/relay.sock'\n[log]\nlevel = 'warn'\n"
    )
}

fn agent_configuration(here: &Path, upstream: SocketAddr) -> String {
    let here = here.display();
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
url = "http://{upstream}"
max_in_flight = 1024

[[upstream.allow]]
methods = ["GET"]
path = "/{{name}}"

[[upstream.allow]]
methods = ["GET", "POST"]
path = "/{{*rest}}"
"#
    )
}
