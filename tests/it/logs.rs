//! What both programs log: one line for what an operator cares about, and each call by one name on all sides.

use std::fs;
use std::path::Path;

use http::{HeaderValue, Method};
use relay_agent::admin_socket::client;
use relay_agent::body;
use serde_json::Value;

use crate::harness::agent::AgentHome;
use crate::harness::journal::Journal;
use crate::harness::program::{self, AGENT, Daemon, RELAY};
use crate::harness::relay::RelayHome;
use crate::harness::{CONNECTION, Caller, Home as _, Upstream, Whole, answers, wait_until};

pub(crate) const REQUEST_ID: &str = "x-request-id";
pub(crate) const TRACE_PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
pub(crate) const TRACE_STATE: &str = "rojo=00f067aa0ba902b7, congo=t61rcWkgMzE;x";

/// Both programs as processes, joined by a link, with the services `web`, which answers, and `gone`, which is not there.
pub(crate) struct Scene {
    relay_home: RelayHome,
    agent_home: AgentHome,
    pub(crate) relay: Daemon,
    pub(crate) agent: Daemon,
    pub(crate) upstream: Upstream,
    journal: Option<Journal>,
    token: String,
}

impl Scene {
    async fn start(log: &str) -> Self {
        Self::start_in(log, None, &[]).await
    }

    /// With a journal of its own, if any, and these variables.
    pub(crate) async fn start_in(
        log: &str,
        journal: Option<Journal>,
        environment: &[(&str, &str)],
    ) -> Self {
        let log = format!("[log]\n{log}\n");
        let (relay_home, agent_home) = (RelayHome::new(&log), AgentHome::new(""));
        let upstream = Upstream::new(answers::done).await;
        let web = upstream.configuration("web", "");
        // A port on which nobody listens.
        let gone = upstream
            .configuration("gone", "")
            .replace(&upstream.address().to_string(), "127.0.0.1:9");
        agent_home.configure("", &format!("{log}\n{web}\n{gone}"));
        let start = |program, command, file: &Path, directory: &Path| {
            let line = [command, "--config", file.to_str().unwrap()];
            let log = directory.join("log");
            match &journal {
                Some(journal) => journal.daemon(program, &line, &log, environment),
                None => Daemon::start_with(program, &line, &log, environment),
            }
        };
        let relay = start(RELAY, "serve", &relay_home.file(), relay_home.directory());
        let agent = start(AGENT, "run", &agent_home.file(), agent_home.directory());
        let mut scene = Self {
            relay_home,
            agent_home,
            relay,
            agent,
            upstream,
            journal,
            token: String::new(),
        };
        let sockets = [scene.relay_home.socket(), scene.agent_home.socket()];
        for socket in &sockets {
            wait_until("a daemon answers", async || {
                let asked = client::request(socket, Method::GET, "/healthz", None).await;
                asked.is_ok_and(|(status, _)| status == 200)
            })
            .await;
        }
        let code = scene
            .ask_relay("initiate --local acme --remote widgets")
            .await;
        scene.ask_agent("accept --yes", &code).await;
        scene.token = scene.ask_relay("token create --admin").await;
        wait_until("the link is up", async || {
            scene.ask_relay("connections").await.contains("online")
        })
        .await;
        scene
    }

    async fn ask_relay(&self, line: &str) -> String {
        ask(RELAY, &self.relay_home.socket(), line, "").await
    }

    async fn ask_agent(&self, line: &str, input: &str) -> String {
        ask(AGENT, &self.agent_home.socket(), line, input).await
    }

    pub(crate) async fn caller(&self) -> Caller {
        Caller::http1(&self.relay_home, &self.token).await
    }

    /// The last line of the audit log.
    fn audited(&self) -> Value {
        let text = fs::read_to_string(self.agent_home.state().join("audit.jsonl")).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }
}

async fn ask(program: &'static str, socket: &Path, line: &str, input: &str) -> String {
    let mut arguments: Vec<&str> = line.split(' ').collect();
    arguments.extend(["--socket", socket.to_str().unwrap()]);
    let output = program::run_with(program, &arguments, input).await;
    output.succeeded().out.trim().to_owned()
}

/// The lines of a log that have all these words.
fn lines<'a>(log: &'a str, words: &[&str]) -> Vec<&'a str> {
    let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
    log.lines().filter(has_all).collect()
}

pub(crate) async fn get(
    caller: &mut Caller,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Whole {
    let mut request = caller.request_to(CONNECTION, "GET", path, body::empty());
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).unwrap();
        request.headers_mut().append(*name, value);
    }
    caller.whole(request).await
}

#[tokio::test]
async fn one_name_finds_a_call_on_all_sides() {
    let scene = Scene::start("level = 'debug'").await;
    let mut caller = scene.caller().await;
    let given = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    let answer = get(&mut caller, "/web/x", &[(REQUEST_ID, given)]).await;
    assert_eq!(answer.header(REQUEST_ID), given);
    assert_eq!(scene.upstream.call().header(REQUEST_ID), given);
    assert_eq!(scene.audited()["request_id"], given);

    // Without one, and with one that cannot stand in a log, the relay makes it.
    let (long, several) = ("x".repeat(129), ["one", "two"].map(|id| (REQUEST_ID, id)));
    let mut made = Vec::new();
    for headers in [
        &[][..],
        &[(REQUEST_ID, "a b")],
        &[(REQUEST_ID, &long)],
        &several,
        &[("x_request_id", "mine")],
    ] {
        let answer = get(&mut caller, "/web/x", headers).await;
        let id = answer.header(REQUEST_ID).to_owned();
        let number: u64 = id.parse().unwrap();
        assert!(number > 0 && !made.contains(&id), "{id}");
        let calls = scene.upstream.calls();
        let seen = calls.last().unwrap();
        assert_eq!(seen.headers.get_all(REQUEST_ID).iter().count(), 1);
        assert_eq!(
            (seen.header(REQUEST_ID), seen.header("x_request_id")),
            (id.as_str(), "")
        );
        let audited = scene.audited();
        assert_eq!(
            (audited["request"].as_str(), audited.get("request_id")),
            (Some(id.as_str()), None)
        );
        made.push(id);
    }

    // Whoever answers, and whatever.
    let unreachable = get(
        &mut caller,
        "/gone/x",
        &[(REQUEST_ID, "of-an-unreachable-one")],
    )
    .await;
    assert_eq!(
        (unreachable.status.as_u16(), unreachable.header(REQUEST_ID)),
        (502, "of-an-unreachable-one")
    );
    let nobody = get(&mut caller, "/no~body/x", &[(REQUEST_ID, "of-nobody")]).await;
    assert_eq!(
        (nobody.status.as_u16(), nobody.header(REQUEST_ID)),
        (404, "of-nobody")
    );
    let large = "x".repeat(60_000);
    let unread = get(&mut scene.caller().await, "/web/x", &[("x-large", &large)]).await;
    assert_eq!(unread.status.as_u16(), 431);
    let number: u64 = unread.header(REQUEST_ID).parse().unwrap();
    let unread = format!("request_id={number}");
    caller.show("rt_nobodys");
    let stranger = get(&mut caller, "/web/x", &[(REQUEST_ID, "of-a-stranger")]).await;
    assert_eq!(
        (stranger.status.as_u16(), stranger.header(REQUEST_ID)),
        (401, "of-a-stranger")
    );

    let refused = ["refused unread", unread.as_str()];
    assert!(!lines(&scene.relay.log(), &refused).is_empty(), "{unread}");
    for (log, name) in [(scene.relay.log(), "relay"), (scene.agent.log(), "agent")] {
        let call = format!("request_id={given}");
        for id in made
            .iter()
            .map(|id| format!("request_id={id}"))
            .chain([call])
        {
            let said = lines(
                &log,
                &[
                    "a call was answered",
                    &id,
                    "status=200",
                    "connection=acme_to_widgets upstream=web",
                ],
            );
            assert_eq!(said.len(), 1, "{id} in the log of {name}:\n{log}");
        }
        let code = "relay_error=upstream-unreachable";
        assert_eq!(
            lines(&log, &["request_id=of-an-unreachable-one", code]).len(),
            1,
            "{name}: {log}"
        );
    }
    let refused = ["request_id=of-a-stranger", "relay_error=token-unknown"];
    assert_eq!(lines(&scene.relay.log(), &refused).len(), 1);
}

#[tokio::test]
async fn the_context_of_a_trace_passes_unharmed_and_is_not_invented() {
    let scene = crate::harness::Scene::around(Upstream::new(answers::done).await).await;
    for mut caller in [scene.caller().await, scene.caller2().await] {
        let headers = [
            ("traceparent", TRACE_PARENT),
            ("tracestate", TRACE_STATE),
            ("tracestate", "b=2"),
            ("baggage", "a=%20"),
        ];
        get(&mut caller, "/web/x", &headers).await;
        let calls = scene.upstream.calls();
        let seen = calls.last().unwrap();
        assert_eq!(seen.header("traceparent"), TRACE_PARENT);
        let states: Vec<_> = seen.headers.get_all("tracestate").iter().collect();
        assert_eq!(states, [TRACE_STATE, "b=2"]);
        assert_eq!(seen.header("baggage"), "a=%20");
        get(&mut caller, "/web/x", &[]).await;
        let calls = scene.upstream.calls();
        for name in ["traceparent", "tracestate", "baggage"] {
            assert_eq!(calls.last().unwrap().header(name), "");
        }
    }
}

#[tokio::test]
async fn calls_leave_no_line_at_info_and_a_service_that_is_down_few() {
    let scene = Scene::start("").await;
    let mut caller = scene.caller().await;
    for _ in 0..20 {
        assert_eq!(get(&mut caller, "/web/x", &[]).await.status, 200);
        // What callers do wrong is theirs to see.
        assert_eq!(get(&mut caller, "/web//", &[]).await.status, 403);
        assert_eq!(get(&mut caller, "/nobody/x", &[]).await.status, 404);
    }
    for log in [scene.relay.log(), scene.agent.log()] {
        assert_eq!(of_calls(&log), [""; 0], "{log}");
    }
    const FAILING: usize = 200;
    for _ in 0..FAILING {
        assert_eq!(get(&mut caller, "/gone/x", &[]).await.status, 502);
    }
    let log = scene.relay.log();
    assert_eq!(
        of_calls(&log),
        [""; 0],
        "it is the private side's business: {log}"
    );
    let log = scene.agent.log();
    let said = lines(
        &log,
        &[
            "WARN a call has no answer",
            "upstream=gone",
            "relay_error=upstream-unreachable",
            "number=",
        ],
    );
    assert_eq!(said.len(), of_calls(&log).len(), "{log}");
    assert!(!said.is_empty() && said.len() < FAILING / 4, "{log}");
}

/// The lines that tell of a call. What else is told comes when it comes, such as the end of a condition.
fn of_calls(log: &str) -> Vec<&str> {
    lines(log, &["request_id="])
}

#[tokio::test]
async fn in_the_journal_what_belongs_to_a_call_are_fields() {
    let directory = tempfile::tempdir().unwrap();
    let Some(journal) = Journal::new(directory.path()).await else {
        return;
    };
    let scene = Scene::start_in("level = 'debug'\nformat = 'journald'", Some(journal), &[]).await;
    let journal = scene.journal.as_ref().unwrap();
    let up = journal.until_said("the link is up").await;
    assert_eq!(
        (up.field("CONNECTION"), up.field("PRIORITY")),
        (CONNECTION, "6")
    );
    let mut caller = scene.caller().await;
    get(&mut caller, "/gone/x", &[(REQUEST_ID, "call-7")]).await;
    let failed = journal.until_said("a call has no answer").await;
    for (name, value) in [
        ("MESSAGE", "a call has no answer"),
        ("PRIORITY", "4"),
        ("SYSLOG_IDENTIFIER", "agent"),
        ("CONNECTION", CONNECTION),
        ("UPSTREAM", "gone"),
        ("REQUEST_ID", "call-7"),
        ("RELAY_ERROR", "upstream-unreachable"),
    ] {
        assert_eq!(failed.field(name), value, "{failed:?}");
    }
    let answered = journal.until_said("a call was answered").await;
    for (name, value) in [
        ("PRIORITY", "7"),
        ("SYSLOG_IDENTIFIER", "relay"),
        ("REQUEST_ID", "call-7"),
        ("RELAY_ERROR", "upstream-unreachable"),
        ("STATUS", "502"),
    ] {
        assert_eq!(answered.field(name), value, "{answered:?}");
    }
}

#[tokio::test]
async fn in_json_what_belongs_to_a_call_are_members() {
    let scene = Scene::start("level = 'debug'\nformat = 'json'").await;
    let mut caller = scene.caller().await;
    get(&mut caller, "/gone/x", &[(REQUEST_ID, "call-7")]).await;
    for (log, message, level) in [
        (scene.agent.log(), "a call has no answer", "WARN"),
        (scene.relay.log(), "a call was answered", "DEBUG"),
    ] {
        let read: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let said = read.iter().find(|line| line["message"] == message).unwrap();
        for (name, value) in [
            ("level", level),
            ("connection", CONNECTION),
            ("upstream", "gone"),
            ("request_id", "call-7"),
            ("relay_error", "upstream-unreachable"),
        ] {
            assert_eq!(said[name], value, "{said}");
        }
    }
}

#[tokio::test]
async fn another_level_for_a_time_goes_back_by_itself() {
    let scene = Scene::start("").await;
    let said = scene.ask_agent("log-level debug --for 1s", "").await;
    assert_eq!(
        said,
        "The log level is debug for 1s, then what it was before."
    );
    let said = scene.ask_relay("log-level debug --for 1s").await;
    assert!(said.contains("debug for 1s"), "{said}");
    for daemon in [&scene.relay, &scene.agent] {
        daemon
            .until_logged("the log level was changed level=debug time=1s")
            .await;
        daemon
            .until_logged("the log level is as before again level=info")
            .await;
    }
    get(&mut scene.caller().await, "/web/x", &[]).await;
    for daemon in [&scene.relay, &scene.agent] {
        assert!(
            !daemon.log().contains("a call was answered"),
            "{}",
            daemon.log()
        );
    }
    scene.ask_agent("log-level debug", "").await;
    get(&mut scene.caller().await, "/web/x", &[]).await;
    scene.agent.until_logged("a call was answered").await;
}
