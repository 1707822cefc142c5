//! No secret stands where it can be read by those who should not: logs at every level, statuses, listings, the store.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use relay_agent::body;
use relay_agent::identity::{key_file, to_base64};
use relay_agent::invitation::Invitation;

use crate::harness::agent::AgentHome;
use crate::harness::program::{self, AGENT, Daemon, RELAY};
use crate::harness::relay::RelayHome;
use crate::harness::{CONNECTION, Caller, Home as _, Upstream, answers};

const CREDENTIAL: &str = "Basic bWFya2VkLWNyZWRlbnRpYWwtb2YtdGhlLXVwc3RyZWFt";
const OF_THE_CALLER: &str = "Basic bWFya2VkLWNyZWRlbnRpYWwtb2YtdGhlLWNhbGxlcg";
const WRONG_TOKEN: &str = "rt_marked-token-that-nobody-has-made-0123456789";
const IN_A_BODY: &str = "marked-word-in-a-body";

/// Both programs as processes that log everything.
struct Scene {
    relay_home: RelayHome,
    agent_home: AgentHome,
    relay: Daemon,
    agent: Daemon,
}

impl Scene {
    async fn start(upstream: &Upstream) -> Self {
        let relay_home = RelayHome::new("[log]\nlevel = 'trace'\n");
        let agent_home = AgentHome::new("");
        let credential = agent_home.directory().join("credential");
        fs::write(&credential, CREDENTIAL).unwrap();
        fs::set_permissions(&credential, fs::Permissions::from_mode(0o600)).unwrap();
        let headers = format!(
            "set_headers = {{ Authorization = {{ file = '{}' }} }}",
            credential.display()
        );
        let upstream = upstream.configuration("web", &headers);
        agent_home.configure("", &format!("[log]\nlevel = 'trace'\n{upstream}"));
        let start = |program, command, file: PathBuf, directory: &Path| {
            let arguments = [command, "--config", file.to_str().unwrap()];
            Daemon::start(program, &arguments, &directory.join("log"))
        };
        let relay = start(RELAY, "serve", relay_home.file(), relay_home.directory());
        let agent = start(AGENT, "run", agent_home.file(), agent_home.directory());
        relay.until_logged("the relay is serving").await;
        agent.until_logged("the agent runs").await;
        Self {
            relay_home,
            agent_home,
            relay,
            agent,
        }
    }

    async fn ask_relay(&self, line: &str) -> program::Output {
        ask(RELAY, &self.relay_home.socket(), line, "").await
    }

    async fn ask_agent(&self, line: &str, input: &str) -> program::Output {
        ask(AGENT, &self.agent_home.socket(), line, input).await
    }
}

async fn ask(program: &'static str, socket: &Path, line: &str, input: &str) -> program::Output {
    let mut arguments: Vec<&str> = line.split(' ').collect();
    arguments.extend(["--socket", socket.to_str().unwrap()]);
    program::run_with(program, &arguments, input)
        .await
        .succeeded()
}

#[tokio::test]
async fn secrets_stay_out_of_logs_statuses_listings_and_the_store() {
    let upstream = Upstream::new(answers::done).await;
    let scene = Scene::start(&upstream).await;
    let code = scene
        .ask_relay("initiate --local acme --remote widgets")
        .await;
    let code = code.out.trim();
    let token = scene.ask_relay("token create --admin").await;
    let token = token.out.trim();
    scene.ask_agent("accept --yes", code).await;
    scene.agent.until_logged("the link is up").await;
    call(&scene.relay_home, token).await;
    assert_eq!(upstream.call().header("authorization"), CREDENTIAL);

    let mut secrets = vec![
        ("the token", token.to_owned()),
        ("the code", code.to_owned()),
        ("the credential", CREDENTIAL.to_owned()),
        ("the caller's credential", OF_THE_CALLER.to_owned()),
        ("a wrong token", WRONG_TOKEN.to_owned()),
        ("a body", IN_A_BODY.to_owned()),
    ];
    let one_time = Invitation::decode(code).unwrap().one_time_key;
    let mut seeds = vec![("the one-time key", one_time)];
    let identity = scene.relay_home.state().join("identity.key");
    seeds.push((
        "the relay's key",
        key_file::load(&identity).unwrap().unwrap(),
    ));
    for path in files(&scene.agent_home.state()) {
        if path.extension().is_some_and(|extension| extension == "key") {
            seeds.push(("the agent's key", key_file::load(&path).unwrap().unwrap()));
        }
    }
    assert_eq!(seeds.len(), 3);
    for (what, key) in &seeds {
        let seed = key.seed().expose();
        secrets.push((what, to_base64(seed)));
        let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        secrets.push((what, hex));
    }

    let mut places: Vec<(String, Vec<u8>)> = Vec::new();
    for line in [
        "status",
        "status --json",
        "connections --json",
        "token list",
        "token list --json",
    ] {
        let output = scene.ask_relay(line).await;
        places.push((format!("relay {line}"), format!("{output:?}").into_bytes()));
    }
    for line in [
        "status",
        "status --json",
        "connections",
        "connections --json",
    ] {
        let output = scene.ask_agent(line, "").await;
        places.push((format!("agent {line}"), format!("{output:?}").into_bytes()));
    }
    assert!(scene.agent.log().contains("DEBUG"));
    for log in [scene.relay.log(), scene.agent.log()] {
        assert!(log.contains("INFO"), "{log}");
        places.push((log.clone(), log.into_bytes()));
    }
    let states = [scene.relay_home.state(), scene.agent_home.state()];
    for path in states.iter().flat_map(|state| files(state)) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let is_public = path.ends_with("self-signed-certificate.pem");
        assert!(mode == 0o600 || is_public, "{path:?} has mode {mode:o}");
        if !path.to_str().unwrap().contains("key") {
            places.push((format!("{path:?}"), fs::read(&path).unwrap()));
        }
    }
    for (place, bytes) in &places {
        for (what, secret) in &secrets {
            assert!(!holds(bytes, secret.as_bytes()), "{what} is in {place}");
        }
        for (what, key) in &seeds {
            let raw = key.seed().expose();
            assert!(!holds(bytes, raw), "{what} is in {place}");
        }
    }
}

/// A call that passes, one with a wrong token, and one that is denied.
async fn call(home: &RelayHome, token: &str) {
    let mut caller = Caller::http1(home, token).await;
    let mut request = caller.request("POST", "/open", body::full(IN_A_BODY));
    let value = OF_THE_CALLER.parse().unwrap();
    request.headers_mut().insert("authorization", value);
    assert_eq!(caller.whole(request).await.text(), "done");
    let request = caller.request("TRACE", "/denied", body::empty());
    assert_eq!(caller.whole(request).await.status, 403);
    caller.show(WRONG_TOKEN);
    assert_eq!(caller.get_from(CONNECTION, "/web/").await.status, 401);
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}
