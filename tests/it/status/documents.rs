//! What the documents say of conditions and metrics against what there is, both ways.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use relay_agent::agent::conditions::Code as AgentCode;
use relay_agent::condition::Kind;
use relay_agent::relay::conditions::Code as RelayCode;

use super::metrics_of;
use crate::harness::{Scene, Upstream, answers};

fn document(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("docs")
        .join(name);
    fs::read_to_string(file).unwrap()
}

/// The rows of the table that follows a heading, and the first cell of each.
fn rows<'a>(document: &'a str, section: &str, heading: &str) -> Vec<&'a str> {
    let section = document.split_once(&format!("\n## {section}\n")).unwrap().1;
    let after = section.split_once(&format!("\n### {heading}\n")).unwrap().1;
    let lines = after.lines().skip_while(|line| !line.starts_with('|'));
    lines
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .collect()
}

#[test]
fn every_condition_is_documented_as_it_is_and_no_other() {
    let text = document("status.md");
    let check = |heading: &str, kinds: Vec<Kind>| {
        let expected: Vec<String> = kinds
            .iter()
            .map(|kind| {
                let (code, severity) = (kind.code, kind.severity.word());
                format!(
                    "| `{code}` | {severity} | {} | {} |",
                    kind.means, kind.remedy
                )
            })
            .collect();
        assert_eq!(rows(&text, "Conditions", heading), expected);
    };
    check(
        "Of the agent",
        AgentCode::ALL.iter().map(|it| it.kind()).collect(),
    );
    check(
        "Of the relay",
        RelayCode::ALL.iter().map(|it| it.kind()).collect(),
    );
}

/// The families of a page, by the names of their samples without what histograms add.
fn families(page: &str) -> BTreeSet<String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

/// The words of a text that look like names of ours.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let ours = ["relay_", "process_"];
    words
        .filter(|word| ours.iter().any(|it| word.starts_with(it)))
        .map(|word| {
            let parts = ["_bucket", "_sum", "_count"];
            let part = parts.iter().find_map(|it| word.strip_suffix(it));
            part.unwrap_or(word).to_owned()
        })
        .collect()
}

#[tokio::test]
async fn every_metric_is_documented_and_dashboards_and_alerts_use_no_other() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    assert_eq!(scene.caller().await.get("/x").await.status, 200);
    let agent = families(&metrics_of(scene.agent.home()).await);
    let relay = families(&metrics_of(scene.relay.home()).await);
    let text = document("status.md");
    let documented = |heading: &str| -> BTreeSet<String> {
        let rows = rows(&text, "Metrics", heading).into_iter();
        rows.map(|row| row.split('`').nth(1).unwrap().to_owned())
            .collect()
    };
    let process = documented("Of both processes");
    let with_process = |of: BTreeSet<String>| of.union(&process).cloned().collect::<BTreeSet<_>>();
    assert_eq!(agent, with_process(documented("Of the agent")));
    assert_eq!(relay, with_process(documented("Of the relay")));

    let all: BTreeSet<String> = agent.union(&relay).cloned().collect();
    for name in [
        "alerts.yml",
        "alerts.test.yml",
        "dashboards/relay-agent.json",
        "dashboards/relay.json",
    ] {
        let used = names(&document(name));
        assert!(used.len() > 3, "{name}");
        let unknown: Vec<_> = used.difference(&all).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?}");
    }
}
