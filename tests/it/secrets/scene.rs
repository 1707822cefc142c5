//! Both programs as processes that log everything, with a marked secret in every place that can have one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use relay_agent::body;

use super::marks::{Marks, Place};
use super::proxy::Proxy;
use crate::harness::agent::AgentHome;
use crate::harness::journal::Journal;
use crate::harness::program::{self, AGENT, Daemon, RELAY};
use crate::harness::relay::RelayHome;
use crate::harness::upstream::{Answer, Recorded};
use crate::harness::{Home as _, Upstream, wait_until};

const IN_A_FILE: &str = "marked+file/secret~1";
const IN_THE_ENVIRONMENT: &str = "marked+environment/secret~2";
const OF_SYSTEMD: &str = "marked+systemd/secret~3";
const OF_A_COMMAND: &str = "marked+command/secret~4";
const OF_THE_CLIENT: &str = "marked+client/secret~5";
const OF_THE_PROXY: &str = "marked-proxy~password";
/// Names the variable that one secret is in; its value is in the environment of the agent, and belongs there.
pub(crate) const VARIABLE: &str = "JIRA_KEY";

/// The scene.
pub(crate) struct Scene {
    pub(crate) relay_home: RelayHome,
    pub(crate) agent_home: AgentHome,
    pub(crate) relay: Daemon,
    pub(crate) agent: Daemon,
    pub(crate) upstream: Upstream,
    endpoint: Upstream,
    proxy: Proxy,
    journal: Option<Journal>,
}

impl Scene {
    /// With logs of this format; nothing where the machine has no journal for us.
    pub(crate) async fn start(format: &str, marks: &mut Marks) -> Option<Self> {
        let level = format!("[log]\nlevel = 'trace'\nformat = '{format}'\n");
        let (relay_home, agent_home) = (RelayHome::new(&level), AgentHome::new(""));
        let journal = match format {
            "journald" => {
                let directory = agent_home.directory().join("journal");
                fs::create_dir(&directory).unwrap();
                Some(Journal::new(&directory).await?)
            }
            _ => None,
        };
        let (upstream, endpoint) = (Upstream::new(showing).await, Upstream::new(tokens()).await);
        let shown = STANDARD.encode(format!("agent:{OF_THE_PROXY}"));
        let proxy = Proxy::new(format!("Basic {shown}")).await;
        let relay_line =
            ["serve", "--config", relay_home.file().to_str().unwrap()].map(str::to_owned);
        let agent_line =
            ["run", "--config", agent_home.file().to_str().unwrap()].map(str::to_owned);
        let credentials = agent_home.directory().join("credentials");
        let environment = [
            (VARIABLE, IN_THE_ENVIRONMENT),
            ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()),
        ];
        plant(agent_home.directory());
        for (what, secret) in [
            ("what is in a file", IN_A_FILE),
            ("what is in the environment", IN_THE_ENVIRONMENT),
            ("the credential of systemd", OF_SYSTEMD),
            ("what a command prints", OF_A_COMMAND),
            ("the client's secret", OF_THE_CLIENT),
            ("the proxy's password", OF_THE_PROXY),
            ("an access token", "marked+access/token~"),
        ] {
            marks.add(what, secret);
        }
        let start = |program, line: &[String], directory: &Path, environment: &[(&str, &str)]| {
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            let log = directory.join("log");
            match &journal {
                Some(journal) => journal.daemon(program, &line, &log, environment),
                None => Daemon::start_with(program, &line, &log, environment),
            }
        };
        let configuration = configuration(&agent_home, &upstream, &endpoint, &proxy, &level);
        fs::write(agent_home.file(), configuration).unwrap();
        let relay = start(RELAY, &relay_line, relay_home.directory(), &[]);
        let agent = start(AGENT, &agent_line, agent_home.directory(), &environment);
        let scene = Self {
            relay_home,
            agent_home,
            relay,
            agent,
            upstream,
            endpoint,
            proxy,
            journal,
        };
        scene.until_logged("the relay is serving").await;
        scene.until_logged("the agent runs").await;
        Some(scene)
    }

    /// Waits for a text in either log.
    pub(crate) async fn until_logged(&self, text: &str) {
        wait_until(text, async || {
            let mut logs = self.logs().into_iter();
            logs.any(|log| String::from_utf8_lossy(&log.bytes).contains(text))
        })
        .await;
    }

    /// All that was logged.
    pub(crate) fn logs(&self) -> Vec<Place> {
        let place = |name: &str, bytes: Vec<u8>| Place {
            name: name.to_owned(),
            bytes,
        };
        let mut logs = vec![
            place("the relay's log", self.relay.log().into_bytes()),
            place("the agent's log", self.agent.log().into_bytes()),
        ];
        if let Some(journal) = &self.journal {
            logs.push(place("the journal", journal.entries().concat()));
        }
        logs
    }

    /// The configuration as it is, and another one with two mistakes beside secrets.
    pub(crate) fn with_mistakes(&self, marks: &mut Marks) -> (String, String) {
        let good = fs::read_to_string(self.agent_home.file()).unwrap();
        let proxy = format!("http://agent:{OF_THE_PROXY}@{}", self.proxy.address());
        let bad = good
            .replace(&proxy, "ftp://agent:marked-other~password@proxy")
            .replace("{ env = 'JIRA_KEY' }", "'marked+inline/secret~'");
        assert_ne!(good, bad);
        marks.add("a password in a mistake", "marked-other~password");
        marks.add("a secret in a mistake", "marked+inline/secret~");
        (good, bad)
    }

    /// That the secrets reached those for whom they are, without which their absence elsewhere says nothing.
    pub(crate) fn assert_used(&self) {
        let dumps: String = self
            .upstream
            .calls()
            .iter()
            .map(|seen| seen.dump())
            .collect();
        let basic = STANDARD.encode(format!("svc:{OF_SYSTEMD}"));
        for (what, sent) in [
            ("what is in a file", format!("Bearer {IN_A_FILE}")),
            ("what is in the environment", IN_THE_ENVIRONMENT.to_owned()),
            ("the credential of systemd", format!("Basic {basic}")),
            (
                "what a command prints",
                "key=marked%2Bcommand%2Fsecret~4".to_owned(),
            ),
            ("an access token", "Bearer marked+access/token~1".to_owned()),
        ] {
            assert!(dumps.contains(&sent), "{what} was not sent:\n{dumps}");
        }
        assert!(self.endpoint.calls().len() > 1);
    }

    /// Runs a command of the relay.
    pub(crate) async fn ask_relay(&self, line: &str) -> program::Output {
        ask(RELAY, &self.relay_home.socket(), line, "").await
    }

    /// Runs a command of the agent.
    pub(crate) async fn ask_agent(&self, line: &str, input: &str) -> program::Output {
        ask(AGENT, &self.agent_home.socket(), line, input).await
    }
}

async fn ask(program: &'static str, socket: &Path, line: &str, input: &str) -> program::Output {
    let mut arguments: Vec<&str> = line.split(' ').collect();
    arguments.extend(["--socket", socket.to_str().unwrap()]);
    program::run_with(program, &arguments, input).await
}

/// Writes the files that hold secrets, and the command that prints one.
fn plant(directory: &Path) {
    let write = |name: &str, text: &str, mode: u32| {
        let path: PathBuf = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("file", IN_A_FILE, 0o600);
    write("credentials/jira", OF_SYSTEMD, 0o600);
    write("client", OF_THE_CLIENT, 0o600);
    write("printed", OF_A_COMMAND, 0o600);
    // Talks about the secret all the time, and fails from the second time on.
    let here = directory.display();
    let script = format!(
        "#!/bin/sh\nsecret=$(cat {here}/printed)\necho \"the lease of $secret ($(printf %s \"$secret\" | base64)) ends\" >&2\n\
         [ -e {here}/ran ] && exit 3\ntouch {here}/ran\necho \"$secret\"\n"
    );
    write("command", &script, 0o700);
}

fn configuration(
    home: &AgentHome,
    upstream: &Upstream,
    endpoint: &Upstream,
    proxy: &Proxy,
    level: &str,
) -> String {
    let at = home.directory().display();
    let web = upstream.configuration(
        "web",
        &format!(
            "auth = {{ bearer = {{ file = '{at}/file' }} }}\nset_headers = {{ X-Key = {{ env = '{VARIABLE}' }} }}"
        ),
    );
    let basic = upstream.configuration(
        "basic",
        "auth = { basic = { username = 'svc', password = { credential = 'jira' } } }",
    );
    let command = upstream.configuration(
        "command",
        &format!("set_query = {{ key = {{ command = ['{at}/command'] }} }}"),
    );
    let token_url = format!("http://{}/token", endpoint.address());
    let oauth = upstream.configuration(
        "oauth",
        &format!(
            "auth = {{ oauth2 = {{ token_url = '{token_url}', client_id = 'agent', client_secret = {{ file = '{at}/client' }} }} }}"
        ),
    );
    // A port on which nobody listens.
    let gone = web
        .replace("name = 'web'", "name = 'gone'")
        .replace(&upstream.address().to_string(), "127.0.0.1:9");
    format!(
        "state_dir = '{at}/state'\n[admin]\nsocket = '{at}/admin.sock'\n\
         [network]\nproxy = 'http://agent:{OF_THE_PROXY}@{}'\n{level}\n{web}\n{basic}\n{command}\n{oauth}\n{gone}",
        proxy.address()
    )
}

/// A service that shows in headers all that it was sent, refuses `/refused`, and cuts the connection at `/cut`.
fn showing(request: Request<Recorded>) -> Answer {
    let path = request.uri().path().to_owned();
    let mut answer = Response::new(body::full("done"));
    for (name, value) in request.headers() {
        if let Ok(name) = http::HeaderName::try_from(format!("x-was-{name}")) {
            answer.headers_mut().append(name, value.clone());
        }
    }
    let target = request.uri().to_string().try_into().unwrap();
    answer.headers_mut().insert("x-was-asked", target);
    if path == "/refused" {
        *answer.status_mut() = http::StatusCode::UNAUTHORIZED;
    }
    Box::pin(async move {
        if path == "/cut" {
            return Err("cut".into());
        }
        request.into_body().collect().await?;
        Ok(answer)
    })
}

/// An endpoint that gives one token, and then refuses with the secret in its words.
fn tokens() -> impl Fn(Request<Recorded>) -> Answer {
    let asked = AtomicUsize::new(0);
    move |request| {
        let is_first = asked.fetch_add(1, Ordering::Relaxed) == 0;
        Box::pin(async move {
            request.into_body().collect().await?;
            let (status, text) = if is_first {
                let token = r#"{"access_token":"marked+access/token~1","token_type":"Bearer","expires_in":3600}"#;
                (200, token.to_owned())
            } else {
                let words = format!("no client has {OF_THE_CLIENT}");
                (
                    401,
                    format!(r#"{{"error":"invalid_client","error_description":"{words}"}}"#),
                )
            };
            let answer = Response::builder().status(status).body(body::full(text));
            Ok(answer.unwrap())
        })
    }
}
