//! State from one machine to another: on purpose by `agent export` and `agent import`, not by accident.

use std::fs;
use std::path::Path;

use crate::harness::agent::AgentHome;
use crate::harness::program::{AGENT, Output, run_with};
use crate::harness::{CONNECTION, Scene, TestAgent, Upstream, answers};

const PASSPHRASE: &str = "correct horse battery\n";

async fn agent(home: &AgentHome, words: &[&str]) -> Output {
    let config = home.file();
    let mut arguments = words.to_vec();
    arguments.extend(["--config", config.to_str().unwrap()]);
    run_with(AGENT, &arguments, PASSPHRASE).await
}

async fn scene() -> Scene {
    Scene::around(Upstream::new(answers::echo).await).await
}

/// A scene whose agent was exported to a file, and goes on.
async fn backed_up() -> (Scene, String) {
    let mut scene = scene().await;
    let file = path_in(scene.relay.home().directory(), "export");
    scene.agent.stop().await;
    let kept = agent(scene.agent.home(), &["export", "--keep", "--to", &file]).await;
    kept.succeeded();
    scene.agent.go_on().await;
    scene.agent.until_online(CONNECTION).await;
    (scene, file)
}

/// As if the state had been used on another machine before.
fn move_to_another_machine(home: &AgentHome) {
    let path = home.state().join("machine");
    let other = "{\"version\":1,\"machine\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}\n";
    fs::write(path, other).unwrap();
}

fn path_in(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

#[tokio::test]
async fn an_exported_agent_goes_on_on_the_new_machine_and_not_on_the_old_one() {
    let mut scene = scene().await;
    let file = path_in(scene.relay.home().directory(), "export");
    let busy = agent(scene.agent.home(), &["export", "--to", &file]).await;
    busy.failed(75, &["in use", "systemctl stop relay-agent"]);
    scene.agent.stop().await;
    let old = scene.agent.home();
    agent(old, &["export", "--to", &file]).await.succeeded();
    let again = agent(old, &["export", "--to", &file]).await;
    again.failed(73, &["exists already"]);
    let refused = agent(old, &["run"]).await;
    refused.failed(77, &["handed over to another machine", "agent adopt"]);

    let new = AgentHome::new("");
    let wrong = {
        let config = new.file();
        let arguments = ["import", &file, "--config", config.to_str().unwrap()];
        run_with(AGENT, &arguments, "another phrase").await
    };
    wrong.failed(77, &["the passphrase does not open"]);
    agent(&new, &["import", &file]).await.succeeded();
    let agent = TestAgent::at(new).await;
    agent.until_online(CONNECTION).await;
}

#[tokio::test]
async fn a_backup_leaves_the_agent_as_it_is() {
    backed_up().await;
}

#[tokio::test]
async fn a_backup_that_is_used_elsewhere_while_the_agent_runs_is_refused_and_the_agent_goes_on() {
    let (scene, file) = backed_up().await;
    let new = AgentHome::new("");
    agent(&new, &["import", &file]).await.succeeded();
    let second = TestAgent::at(new).await;
    second
        .until(CONNECTION, |one| {
            one.link.trouble.as_deref() == Some("no-link-duplicate")
        })
        .await;
    assert!(scene.agent.is_online(CONNECTION).await);
    let connection = scene.agent.connection(CONNECTION).await.unwrap();
    assert_eq!(connection.link.links_made, 1);
    assert_eq!(scene.caller().await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_copy_on_another_machine_does_not_run_until_it_is_adopted() {
    let mut scene = scene().await;
    scene.agent.stop().await;
    let home = scene.agent.home();
    let lines = scene.upstream.configuration("web", "");
    home.configure(
        "",
        &format!("{lines}\n[identity]\nbind_to_machine = 'always'\n"),
    );
    scene.agent.go_on().await;
    scene.agent.stop().await;
    let home = scene.agent.home();
    if !home.state().join("machine").exists() {
        eprintln!("SKIPPED: this machine has no id");
        return;
    }
    move_to_another_machine(home);
    let refused = agent(home, &["run"]).await;
    refused.failed(77, &["another machine", "agent adopt", "agent export"]);
    agent(home, &["adopt", "--yes"]).await.succeeded();
    scene.agent.go_on().await;
    scene.agent.until_online(CONNECTION).await;
}
