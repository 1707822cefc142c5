//! No secret stands where it can be read by those who should not: logs at every level and in every format, answers,
//! statuses, listings, the audit log, the state, and what the system tells of a process.

mod marks;
mod proxy;
mod scene;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use http::{HeaderValue, Method};
use relay_agent::admin_socket::client;
use relay_agent::body;
use relay_agent::identity::{key_file, to_base64};
use relay_agent::invitation::Invitation;

use self::marks::{Marks, Place};
use self::scene::{Scene, VARIABLE};
use crate::harness::{CONNECTION, Caller, Home as _, Whole};

const OF_THE_CALLER: &str = "marked+caller/password~";
const COOKIE_OF_THE_CALLER: &str = "marked-caller-cookie~";
const WRONG_TOKEN: &str = "rt_marked-token-that-nobody-has-made-0123456789";
const IN_A_BODY: &str = "marked+word/in-a-body";
const IN_A_QUERY: &str = "marked-value-of-a-query~";
const IN_A_QUESTION: &str = "marked-header-of-a-question~";

#[tokio::test]
async fn no_secret_is_shown_where_logs_are_text() {
    look_everywhere("text").await;
}

#[tokio::test]
async fn no_secret_is_shown_where_logs_are_json() {
    look_everywhere("json").await;
}

#[tokio::test]
async fn no_secret_is_shown_where_logs_go_to_the_journal() {
    look_everywhere("journald").await;
}

async fn look_everywhere(format: &str) {
    let mut marks = Marks::default();
    let Some(scene) = Scene::start(format, &mut marks).await else {
        return;
    };
    let mut places = Vec::new();
    let token = join(&scene, &mut marks, &mut places).await;
    call(&scene, &token, &mut marks, &mut places).await;
    ask(&scene, &mut places).await;
    reload_with_mistakes(&scene, &mut marks, &mut places).await;
    scene.assert_used();
    keys(&scene, &mut marks);

    places.extend(scene.logs());
    let logged: String = places
        .iter()
        .map(|place| String::from_utf8_lossy(&place.bytes))
        .collect();
    for said in [
        // Of each kind of trouble, or nothing would be known of what it shows.
        "a command for a credential says",
        "a credential could not be fetched",
        "invalid_client (no client has ***)",
        "a call has no answer",
        "the configuration was not reloaded",
        "it wants to know who is asking (407)",
        "network.proxy: is not a proxy",
    ] {
        assert!(logged.contains(said), "nobody said {said:?}:\n{logged}");
    }
    let (debug, level) = match format {
        "text" => ("DEBUG", "INFO"),
        "json" => ("\"level\":\"DEBUG\"", "\"level\":\"INFO\""),
        // As the journal's protocol has it: a length, and so many bytes.
        _ => (
            "PRIORITY\n\u{1}\0\0\0\0\0\0\u{0}7\n",
            "PRIORITY\n\u{1}\0\0\0\0\0\0\u{0}6\n",
        ),
    };
    assert!(logged.contains(debug) && logged.contains(level), "{logged}");
    places.extend(kept(&scene));
    places.extend(told_by_the_system(&scene));
    marks.assert_absent(&places);
}

/// A link, and a token; what is refused on the way there.
async fn join(scene: &Scene, marks: &mut Marks, places: &mut Vec<Place>) -> String {
    let initiated = scene
        .ask_relay("initiate --local acme --remote widgets")
        .await;
    let code = initiated.succeeded().out.trim().to_owned();
    let created = scene.ask_relay("token create --admin").await;
    let token = created.succeeded().out.trim().to_owned();
    marks.add("the code", &code);
    marks.add("the token", &token);
    let seed = Invitation::decode(&code).unwrap().one_time_key;
    add_key(marks, "the one-time key", seed.seed().expose());
    // The proxy wants the password and does not take it yet.
    let refused = scene.ask_agent("accept --yes", &code).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    places.push(output("agent accept, refused by the proxy", &refused));
    let mistyped = scene.ask_agent("accept --yes", &format!("{code}x")).await;
    assert_ne!(mistyped.code, 0, "{mistyped:?}");
    places.push(output("agent accept, mistyped", &mistyped));
    let accepted = scene.ask_agent("accept --yes", &code).await.succeeded();
    places.push(output("agent accept", &accepted));
    scene.until_logged("the link is up").await;
    let again = scene.ask_agent("accept --yes", &code).await;
    places.push(output("agent accept again", &again));
    let inspected = scene.ask_agent("inspect", &code).await;
    places.push(output("agent inspect", &inspected));
    token
}

/// Calls that pass, that fail in each way, and that are denied.
async fn call(scene: &Scene, token: &str, marks: &mut Marks, places: &mut Vec<Place>) {
    marks.add("the caller's credential", OF_THE_CALLER);
    marks.add("the caller's cookie", COOKIE_OF_THE_CALLER);
    marks.add("a wrong token", WRONG_TOKEN);
    marks.add("a body", IN_A_BODY);
    marks.add("a query", IN_A_QUERY);
    let mut caller = Caller::http1(&scene.relay_home, token).await;
    let credential = format!("Bearer {OF_THE_CALLER}");
    for (path, status) in [
        ("/web/", 200),
        ("/basic/", 200),
        ("/command/", 200),
        ("/oauth/", 200),
        ("/command/refused", 401),
        ("/oauth/refused", 401),
        // What was refused is fetched anew, in vain.
        ("/command/", 200),
        ("/oauth/", 200),
        ("/gone/", 502),
        ("/web/cut", 502),
        ("/command/?key=mine", 403),
        ("/web//", 403),
    ] {
        let mut request = caller.request_to(CONNECTION, "POST", path, body::full(IN_A_BODY));
        let headers = request.headers_mut();
        headers.insert("authorization", credential.parse().unwrap());
        headers.insert("cookie", HeaderValue::from_static(COOKIE_OF_THE_CALLER));
        let answer = caller.whole(request).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        places.push(shown(path, &answer));
    }
    // Where nobody else sees it, the query is the service's.
    let asked = format!("/web/?word={IN_A_QUERY}");
    let request = caller.request_to(CONNECTION, "GET", &asked, body::empty());
    assert_eq!(caller.whole(request).await.status, 200);
    let request = caller.request("TRACE", "/denied", body::empty());
    places.push(shown("a denied call", &caller.whole(request).await));
    caller.show(WRONG_TOKEN);
    let answer = caller.get_from(CONNECTION, "/web/").await;
    assert_eq!(answer.status, 401);
    places.push(shown("a call with a wrong token", &answer));
}

/// Everything that both programs can be asked.
async fn ask(scene: &Scene, places: &mut Vec<Place>) {
    for line in [
        "status",
        "status --json",
        "connections",
        "connections --json",
        "token list",
        "token list --json",
    ] {
        let output = scene.ask_relay(line).await.succeeded();
        places.push(self::output(&format!("relay {line}"), &output));
    }
    for line in [
        "status",
        "status --json",
        "connections",
        "connections --json",
        "doctor",
        "doctor --json",
        "policy explain GET /x --upstream web",
        "policy explain GET /x?key=1 --upstream command --json",
        "log-level trace",
    ] {
        let output = scene.ask_agent(line, "").await;
        places.push(self::output(&format!("agent {line}"), &output));
    }
    let header = format!("policy explain GET /x --upstream web -H Authorization:{IN_A_QUESTION}");
    let output = scene.ask_agent(&header, "").await;
    places.push(self::output("agent policy explain", &output));
    // Of expectations that are not met, too.
    let at = scene.agent_home.directory();
    let table = format!(
        "version = 1\n[[case]]\nmethod = 'TRACE'\npath = '/x'\nupstream = 'web'\nexpect = 'allow'\n\
         headers = {{ Authorization = '{IN_A_QUESTION}' }}\nbody = '{IN_A_BODY}'\n"
    );
    fs::write(at.join("table"), table).unwrap();
    fs::write(at.join("body"), IN_A_BODY).unwrap();
    let (at, config) = (at.display(), scene.agent_home.file());
    let config = config.display();
    for line in [
        format!("policy test {at}/table --config {config}"),
        format!("policy test {at}/table --config {config} --json"),
        format!("policy explain POST /x --upstream web --body {at}/body"),
    ] {
        let output = scene.ask_agent(&line, "").await;
        assert!(!output.out.is_empty(), "{line}: {output:?}");
        places.push(self::output(&line, &output));
    }
    let sockets = [scene.relay_home.socket(), scene.agent_home.socket()];
    for socket in sockets {
        for target in [
            "/v1/status",
            "/v1/connections",
            "/v1/doctor",
            "/metrics",
            "/healthz",
            "/readyz",
        ] {
            let (_, bytes) = client::request(&socket, Method::GET, target, None)
                .await
                .unwrap();
            let name = format!("{target} of {}", socket.display());
            places.push(Place {
                name,
                bytes: bytes.to_vec(),
            });
        }
    }
}

/// A configuration whose mistakes stand beside secrets.
async fn reload_with_mistakes(scene: &Scene, marks: &mut Marks, places: &mut Vec<Place>) {
    let (good, bad) = scene.with_mistakes(marks);
    let file = scene.agent_home.file();
    fs::write(&file, bad).unwrap();
    let check = format!("config check --config {}", file.display());
    for line in ["reload", "status", "status --json", &check] {
        let output = scene.ask_agent(line, "").await;
        places.push(self::output(
            &format!("agent {line}, with mistakes"),
            &output,
        ));
    }
    fs::write(&file, good).unwrap();
    scene
        .until_logged("the configuration was not reloaded")
        .await;
    scene.until_logged("the configuration was reloaded").await;
}

/// Every key of an identity is a secret too.
fn keys(scene: &Scene, marks: &mut Marks) {
    marks.add("a header of a question", IN_A_QUESTION);
    let of_relay = scene.relay_home.state().join("identity.key");
    let of_agent = files(&scene.agent_home.state()).into_iter();
    let of_agent: Vec<PathBuf> = of_agent
        .filter(|path| path.extension().is_some_and(|extension| extension == "key"))
        .collect();
    assert!(!of_agent.is_empty());
    for path in of_agent.iter().chain([&of_relay]) {
        let key = key_file::load(path).unwrap().unwrap();
        add_key(
            marks,
            &format!("the key in {}", path.display()),
            key.seed().expose(),
        );
    }
}

fn add_key(marks: &mut Marks, what: &str, seed: &[u8; 32]) {
    marks.add(what, seed);
    marks.add(what, to_base64(seed));
}

/// What both programs keep, but for their keys: nobody else may even read it.
fn kept(scene: &Scene) -> Vec<Place> {
    let mut places = Vec::new();
    let states = [scene.relay_home.state(), scene.agent_home.state()];
    for path in states.iter().flat_map(|state| files(state)) {
        // Both programs run, and what they write is for a moment a file of another name.
        let (Ok(metadata), Ok(bytes)) = (fs::metadata(&path), fs::read(&path)) else {
            continue;
        };
        let mode = metadata.permissions().mode() & 0o777;
        let is_public = path.ends_with("self-signed-certificate.pem");
        assert!(mode == 0o600 || is_public, "{path:?} has mode {mode:o}");
        if !path.to_str().unwrap().contains("key") {
            places.push(Place {
                name: path.display().to_string(),
                bytes,
            });
        }
    }
    let audit = places
        .iter()
        .find(|place| place.name.ends_with("audit.jsonl"));
    let audit = String::from_utf8(audit.unwrap().bytes.clone()).unwrap();
    assert!(
        audit.contains("<redacted>") && audit.contains("denied-by-policy"),
        "{audit}"
    );
    places
}

/// What the system shows of the processes: their arguments; their environment, as far as anyone may read it; and no
/// dumps of their memory.
fn told_by_the_system(scene: &Scene) -> Vec<Place> {
    let mut places = Vec::new();
    for (name, daemon) in [("relay", &scene.relay), ("agent", &scene.agent)] {
        let told = |file: &str| fs::read(format!("/proc/{}/{file}", daemon.id()));
        let limits = String::from_utf8(told("limits").unwrap()).unwrap();
        let dumps = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        let values: Vec<&str> = dumps.split_whitespace().skip(4).take(2).collect();
        assert_eq!(values, ["0", "0"], "{dumps}");
        places.push(Place {
            name: format!("the arguments of {name}"),
            bytes: told("cmdline").unwrap(),
        });
        // Nobody but root may read it: the programs say that they are not to be looked into.
        if let Ok(environment) = told("environ") {
            let theirs = environment.split(|byte| *byte == 0);
            let others = theirs.filter(|variable| !variable.starts_with(VARIABLE.as_bytes()));
            places.push(Place {
                name: format!("the environment of {name}"),
                bytes: others.collect::<Vec<_>>().join(&b'\n'),
            });
        }
    }
    places
}

fn output(name: &str, output: &crate::harness::program::Output) -> Place {
    Place {
        name: name.to_owned(),
        bytes: format!("{}\n{}", output.out, output.err).into_bytes(),
    }
}

/// An answer as its caller got it. What the caller sent himself may come back to him.
fn shown(path: &str, answer: &Whole) -> Place {
    let mut headers = answer.headers.clone();
    headers.remove("x-was-relay-authorization");
    let mut bytes = format!("{headers:?}\n").into_bytes();
    bytes.extend_from_slice(&answer.body);
    Place {
        name: format!("the answer to {path}"),
        bytes,
    }
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
