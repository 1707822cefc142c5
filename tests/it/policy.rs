//! Questions about the rules, asked of the real program: single calls of a running agent, and whole tables.

use std::collections::BTreeMap;
use std::fs;

use http::{HeaderValue, Method};
use relay_agent::admin_socket::client;
use relay_agent::body;

use crate::harness::agent::AgentHome;
use crate::harness::program::{AGENT, Output, run, run_with};
use crate::harness::{
    CONNECTION, Caller, Home as _, Scene, TestAgent, TestRelay, Upstream, answers,
};

/// An upstream nobody calls, with rules that look at everything.
const UPSTREAM: &str = "
    [[upstream]]
    name = 'jira'
    url = 'http://127.0.0.1:9'
    [[upstream.deny]]
    path = '/admin/{*rest}'
    [[upstream.allow]]
    methods = ['GET']
    path = '/issue/{key}'
    [[upstream.allow]]
    methods = ['POST']
    path = '/issue'
    [[upstream.allow.body]]
    pointer = '/project'
    equals = 'OPS'
";

/// Rules that are not for everybody.
const RULES_WITH_CALLERS: &str = "
    [[upstream.deny]]
    path = '/all/not-for-backup'
    callers = ['backup']
    [[upstream.allow]]
    methods = ['GET']
    path = '/reports/{number}'
    callers = ['reports']
    [[upstream.allow]]
    methods = ['GET']
    path = '/all/{*rest}'
";

#[tokio::test]
async fn explain_shows_each_rule_with_the_first_condition_that_failed_of_bodies_too() {
    let agent = TestAgent::start_with(UPSTREAM).await;
    let socket = agent.home().socket();
    let explain = async |body: &[&str], input: &str| {
        let call = "policy explain POST /issue --upstream jira -H Content-Type:application/json";
        let mut words: Vec<&str> = call.split(' ').collect();
        words.extend(["--socket", socket.to_str().unwrap()]);
        words.extend(body);
        run_with(AGENT, &words, input).await
    };
    let from_input = ["--body", "-"];
    let shown = explain(&from_input, r#"{"project": "OPS"}"#).await;
    assert_eq!(
        shown.succeeded().out,
        "POST /issue of upstream jira: allowed (rule 2: POST /issue (body /project=OPS))\n  \
         deny /admin/{*rest}: the path is not one of the template, however it is read\n  \
         GET /issue/{key}: the method is not among those of the rule\n  \
         POST /issue (body /project=OPS): allows it\n"
    );
    let shown = explain(&from_input, r#"{"project": "WEB"}"#).await;
    shown.failed(77, &["such a call would be denied"]);
    let why = "POST /issue (body /project=OPS): the body's \"/project\" is not as the rule says";
    assert!(shown.out.contains(why), "{shown:?}");

    let file = agent.home().directory().join("body.json");
    fs::write(&file, r#"{"project": "OPS"}"#).unwrap();
    let shown = explain(&["--body", file.to_str().unwrap()], "").await;
    assert!(shown.succeeded().out.contains("allowed"));
    explain(&[], "").await.failed(77, &["Give the body too"]);
    explain(&["--body", "/nowhere"], "")
        .await
        .failed(64, &["cannot be read"]);
}

#[tokio::test]
async fn a_table_is_held_against_the_files_without_a_daemon() {
    let home = AgentHome::new(UPSTREAM);
    let case = |method: &str, path: &str, expected: &str| {
        format!(
            "[[case]]\nmethod = '{method}'\npath = '{path}'\nupstream = 'jira'\nexpect = '{expected}'\n"
        )
    };
    let table = home.directory().join("policy.test.toml");
    let write = |cases: &[String]| {
        fs::write(&table, format!("version = 1\n{}", cases.concat())).unwrap();
    };
    let good = [
        case("GET", "/issue/A-1", "allow"),
        case("GET", "/admin/keys", "deny"),
    ];
    write(&good);
    let beside = test(&home, &[]).await.succeeded();
    let named = test(&home, &[table.to_str().unwrap()]).await.succeeded();
    let shown = format!("2 of 2 cases of {} are as expected.\n", table.display());
    assert_eq!((&beside.out, &named.out), (&shown, &shown));

    write(&[good.concat(), case("PUT", "/issue/A-1", "allow")]);
    let failed = test(&home, &[]).await;
    failed.failed(65, &["1 of 3 expectations are not met"]);
    let lines: Vec<&str> = failed.out.lines().collect();
    assert_eq!(
        lines[0],
        "case 3, PUT /issue/A-1 of upstream jira: expected allow; happened: deny, no-rule: no rule of the private side \
         allows this method on this path; nearest: GET /issue/{key}: the method is not among those of the rule"
    );
    assert_eq!(lines.len(), 2, "{failed:?}");
    let failed = test(&home, &["--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!(
        (&json["unmet"], &json["cases"][2]["met"]),
        (&1.into(), &false.into())
    );

    let tried =
        "observe = true\n[[upstream.candidate.allow]]\nmethods = ['GET']\npath = '/other'\n";
    let trying = UPSTREAM.replace("[[upstream.deny]]", &format!("{tried}[[upstream.deny]]"));
    home.configure("", &trying);
    write(&good);
    let shown = test(&home, &[]).await.succeeded().out;
    assert!(
        shown.contains("case 1, GET /issue/A-1 of upstream jira: as expected, but: allow by")
            && shown.ends_with("The candidate rules would deny 1 of those that pass.\n"),
        "{shown}"
    );

    write(&[case("GET", "/issue/A-1", "allow").replace("expect", "expcet")]);
    test(&home, &[])
        .await
        .failed(65, &["case[#1].expcet", "did you mean expect?"]);
    fs::remove_file(&table).unwrap();
    test(&home, &[]).await.failed(65, &["does not exist"]);
}

#[tokio::test]
async fn rules_that_are_tried_let_pass_what_they_would_deny_and_everything_shows_it() {
    let of_upstream = "
        observe = true
        [[upstream.candidate.deny]]
        path = '/closed/{*rest}'
        [[upstream.candidate.allow]]
        methods = ['GET']
        path = '/{*rest}'
    ";
    let scene = Scene::with("", of_upstream, Upstream::new(answers::echo).await).await;
    let mut caller = scene.caller().await;
    assert_eq!(caller.get("/open/x").await.status, 200);
    assert_eq!(caller.get("/closed/x").await.status, 200);
    let posted = caller.post("/open/x", "as it came").await;
    assert_eq!((posted.status.as_u16(), posted.text()), (200, "as it came"));

    let home = scene.agent.home();
    let log = fs::read_to_string(home.state().join("audit.jsonl")).unwrap();
    let candidates: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["kind"] == "call")
        .map(|line| {
            assert_eq!(line["decision"], "allowed");
            line["candidate"].clone()
        })
        .collect();
    let denied = |reason: &str, rule: Option<&str>| serde_json::json!({"decision": "denied", "reason": reason, "rule": rule});
    let by_rule = denied("by-rule", Some("deny 1: /closed/{*rest}"));
    assert_eq!(
        candidates,
        [serde_json::Value::Null, by_rule, denied("no-rule", None)]
    );

    let socket = home.socket();
    let ask = async |words: &str| {
        let mut words: Vec<&str> = words.split(' ').collect();
        words.extend(["--socket", socket.to_str().unwrap()]);
        run(AGENT, &words).await.succeeded().out
    };
    let status = ask("status").await;
    let line = "web: candidate rules are tried: they would deny 2 of 3 calls that passed\n";
    assert!(status.contains(line), "{status}");
    let explained = ask("policy explain GET /closed/x --upstream web").await;
    let would = "the candidate rules would deny it; it passes (a rule of the private side denies this call)";
    assert!(explained.contains(would), "{explained}");
    let metrics = client::request(&socket, Method::GET, "/metrics", None).await;
    let metrics = String::from_utf8(metrics.unwrap().1.to_vec()).unwrap();
    let metric = r#"relay_agent_candidate_calls_total{upstream="web",verdict="denied"} 2"#;
    assert!(metrics.contains(metric), "{metrics}");
}

#[tokio::test]
async fn a_rule_serves_the_callers_that_it_names_and_nobody_else_is_told_of_it() {
    let upstream = Upstream::new(answers::echo).await;
    let agent = TestAgent::start_with(&format!(
        "[[upstream]]\nname = 'web'\nurl = 'http://{}'\n{RULES_WITH_CALLERS}",
        upstream.address()
    ))
    .await;
    let relay = TestRelay::start().await;
    agent.accept(&relay.initiate("acme", "widgets").await).await;
    relay.until_online(CONNECTION).await;
    let mut callers = BTreeMap::new();
    for name in ["reports", "backup", "other"] {
        let body = serde_json::json!({"connection": CONNECTION, "name": name});
        let (_, made) = relay.ask(Method::POST, "/v1/tokens", Some(body)).await;
        let token = made["token"].as_str().unwrap();
        callers.insert(name, Caller::http1(relay.home(), token).await);
    }
    for (name, path, expected) in [
        ("reports", "/reports/1", 200),
        ("backup", "/reports/1", 403),
        ("other", "/reports/1", 403),
        ("reports", "/all/1", 200),
        ("other", "/all/1", 200),
        ("reports", "/all/not-for-backup", 200),
        ("backup", "/all/not-for-backup", 403),
    ] {
        let caller = callers.get_mut(name).unwrap();
        // Whoever says to be another is not.
        let mut request = caller.request("GET", path, body::empty());
        let claimed = HeaderValue::from_static("reports");
        request.headers_mut().insert("relay-caller", claimed);
        let answer = caller.whole(request).await;
        assert_eq!(answer.status, expected, "{name} {path}");
        if expected == 403 {
            let told = answer.text();
            assert!(told.contains("denied-by-policy"), "{told}");
            for hidden in ["reports", "not-for", "{number}", "127.0.0.1"] {
                assert!(!told.contains(hidden), "{hidden}: {told}");
            }
        }
    }
    assert_eq!(upstream.calls().len(), 4);
}

async fn test(home: &AgentHome, more: &[&str]) -> Output {
    let config = home.file();
    let mut words = vec!["policy", "test", "--config", config.to_str().unwrap()];
    words.extend(more);
    run(AGENT, &words).await
}
