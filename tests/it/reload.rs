//! A new configuration while links and calls go on.

use std::fs;

use http::Response;
use nix::sys::signal::Signal;
use relay_agent::body;

use crate::harness::agent::AgentHome;
use crate::harness::caller::next_piece;
use crate::harness::program::{AGENT, run};
use crate::harness::{CONNECTION, Scene, Upstream, answers, wait_until};

#[tokio::test]
async fn a_changed_file_is_put_into_force_and_calls_under_way_keep_what_admitted_them() {
    let (pieces, stream) = answers::in_pieces();
    let stream = std::sync::Mutex::new(Some(stream));
    let upstream = Upstream::new(move |_| {
        let taken = stream.lock().unwrap().take();
        answers::at_once(Response::new(taken.unwrap_or_else(|| body::full("done"))))
    })
    .await;
    let scene = Scene::around(upstream).await;
    let mut caller = scene.caller2().await;
    let mut under_way = caller
        .send(caller.request("GET", "/stream", body::empty()))
        .await;
    pieces.send("before");
    assert_eq!(next_piece(under_way.body_mut()).await.unwrap(), "before");

    deny_all(&scene);
    wait_until("the new rules are in force", async || {
        caller.get("/x").await.status == 403
    })
    .await;
    pieces.send("after");
    assert_eq!(next_piece(under_way.body_mut()).await.unwrap(), "after");
    drop(pieces);
    assert_eq!(next_piece(under_way.body_mut()).await, None, "whole");
    assert!(scene.agent.is_online(CONNECTION).await);
}

#[tokio::test]
async fn a_bad_configuration_leaves_the_former_in_force_and_the_status_says_so_until_it_is_mended()
{
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let home = scene.agent.home();
    let good = fs::read_to_string(home.file()).unwrap();
    // As editors do it: another file is renamed over it.
    let replace = |text: &str| {
        let next = home.directory().join("agent.toml.new");
        fs::write(&next, text).unwrap();
        fs::rename(&next, home.file()).unwrap();
    };
    replace(&good.replace("[[upstream]]", "[[upstream]]\ncolour = 'red'\n"));
    wait_until("the mistake is told", async || {
        scene.agent.status().await.refused_configuration.is_some()
    })
    .await;
    let refused = scene.agent.status().await.refused_configuration.unwrap();
    assert!(
        refused.why.contains("colour") && refused.why.contains("agent.toml"),
        "{refused:?}"
    );
    assert_eq!(scene.caller().await.get("/x").await.status, 200);
    let socket = home.directory().join("admin.sock");
    let shown = run(AGENT, &["status", "--socket", socket.to_str().unwrap()])
        .await
        .succeeded();
    for words in ["NOT IN FORCE", "colour"] {
        assert!(shown.out.contains(words), "{}", shown.out);
    }

    replace(&good);
    wait_until("the mended one is in force", async || {
        scene.agent.status().await.refused_configuration.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_empty_or_cut_off_while_it_is_written_withdraws_nothing() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let file = scene.agent.home().file();
    let whole = fs::read_to_string(&file).unwrap();
    let cut_off = whole.split("[[upstream]]").next().unwrap();

    fs::write(&file, "").unwrap();
    wait_until("the empty file is refused", async || {
        let refused = scene.agent.status().await.refused_configuration;
        refused.is_some_and(|refused| refused.why.contains("is empty or gone"))
    })
    .await;
    assert_eq!(scene.caller().await.get("/x").await.status, 200);

    let mut steps = 0;
    wait_until("the file that is cut off is withheld", async || {
        // Never so long as it is that it would settle.
        steps += 1;
        fs::write(&file, format!("{cut_off}# {steps}\n")).unwrap();
        scene.agent.status().await.withheld_configuration.is_some()
    })
    .await;
    assert_eq!(scene.caller().await.get("/x").await.status, 200);

    fs::write(&file, whole).unwrap();
    wait_until("the whole file is in force", async || {
        let status = scene.agent.status().await;
        status.withheld_configuration.is_none() && status.refused_configuration.is_none()
    })
    .await;
    let status = scene.agent.status().await;
    assert_eq!(status.withdrawn_upstreams, None);
    assert_eq!(status.upstreams.len(), 1);
}

#[tokio::test]
async fn an_upstream_that_the_files_no_longer_have_is_withdrawn_and_told_until_somebody_reloads() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let home = scene.agent.home();
    let whole = fs::read_to_string(home.file()).unwrap();
    let cut_off = whole.split("[[upstream]]").next().unwrap();
    fs::write(home.file(), cut_off).unwrap();
    wait_until("the upstream is gone, and that is told", async || {
        let status = scene.agent.status().await;
        status.upstreams.is_empty() && status.withdrawn_upstreams.is_some()
    })
    .await;
    let withdrawn = scene.agent.status().await.withdrawn_upstreams.unwrap();
    assert_eq!(withdrawn.names, ["web"]);
    let socket = home.directory().join("admin.sock");
    let socket = socket.to_str().unwrap();
    let shown = run(AGENT, &["status", "--socket", socket])
        .await
        .succeeded();
    assert!(
        shown.out.contains("upstreams are gone") && shown.out.contains(": web"),
        "{}",
        shown.out
    );
    run(AGENT, &["reload", "--socket", socket])
        .await
        .succeeded();
    assert_eq!(scene.agent.status().await.withdrawn_upstreams, None);

    // Who asks waits for nothing, and is told what is gone.
    fs::write(home.file(), &whole).unwrap();
    run(AGENT, &["reload", "--socket", socket])
        .await
        .succeeded();
    fs::write(home.file(), cut_off).unwrap();
    let reloaded = run(AGENT, &["reload", "--socket", socket])
        .await
        .succeeded();
    assert!(
        reloaded.out.contains("1 upstream is gone (web)"),
        "{}",
        reloaded.out
    );
    assert_eq!(scene.agent.status().await.upstreams, []);
}

#[tokio::test]
async fn where_drop_ins_say_it_all_what_they_no_longer_have_is_withdrawn_though_there_is_no_file_beside_them()
 {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let home = scene.agent.home();
    let whole = fs::read_to_string(home.file()).unwrap();
    let cut_off = whole.split("[[upstream]]").next().unwrap();
    let drop_ins = home.directory().join("agent.d");
    fs::create_dir(&drop_ins).unwrap();
    let drop_in = drop_ins.join("all.toml");
    // The file has become empty, with the same in its stead: nothing is gone, and from now on it is not missed.
    fs::write(home.file(), "").unwrap();
    fs::write(&drop_in, &whole).unwrap();
    let socket = home.directory().join("admin.sock");
    let socket = socket.to_str().unwrap();
    run(AGENT, &["reload", "--socket", socket])
        .await
        .succeeded();
    assert_eq!(scene.agent.status().await.upstreams.len(), 1);

    fs::write(&drop_in, cut_off).unwrap();
    wait_until("the upstream is gone", async || {
        scene.agent.status().await.upstreams.is_empty()
    })
    .await;
    assert_eq!(scene.agent.status().await.refused_configuration, None);
}

#[tokio::test]
async fn a_drop_in_that_appears_counts_and_can_be_mended_in_place() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let drop_ins = scene.agent.home().directory().join("agent.d");
    fs::create_dir(&drop_ins).unwrap();
    let more = crate::harness::upstream::configuration(scene.upstream.address(), "other", "");
    // First with a mistake, which is then mended in place.
    fs::write(drop_ins.join("other.toml"), format!("{more}\n[colour]")).unwrap();
    wait_until("the mistake is told", async || {
        scene.agent.status().await.refused_configuration.is_some()
    })
    .await;
    fs::write(drop_ins.join("other.toml"), more).unwrap();
    wait_until("the other upstream is there", async || {
        scene.agent.status().await.upstreams.len() == 2
    })
    .await;
}

#[tokio::test]
async fn a_credential_file_for_which_a_reload_was_refused_heals_it_by_coming() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    let home = scene.agent.home();
    // Not even its directory is there yet.
    let directory = home.directory().join("secrets");
    let file = directory.join("token");
    let lines = format!("auth = {{ bearer = {{ file = '{}' }} }}", file.display());
    home.configure("", &scene.upstream.configuration("web", &lines));
    let is_refused_for = async |why: &str| {
        let refused = scene.agent.status().await.refused_configuration;
        refused.is_some_and(|refused| refused.why.contains(why))
    };
    wait_until("it is refused", async || {
        is_refused_for("cannot be read").await
    })
    .await;
    fs::create_dir(&directory).unwrap();
    fs::write(&file, "").unwrap();
    wait_until("it is refused for what the file holds", async || {
        is_refused_for("it is empty").await
    })
    .await;
    fs::write(&file, "late-token").unwrap();
    wait_until("it is in force", async || {
        scene.agent.status().await.refused_configuration.is_none()
    })
    .await;
    assert_eq!(scene.caller().await.get("/x").await.status, 200);
    let seen = scene.upstream.call();
    assert_eq!(seen.header("authorization"), "Bearer late-token");
}

#[tokio::test]
async fn sighup_reloads() {
    let mut scene = Scene::around(Upstream::new(answers::echo).await).await;
    scene.agent.stop().await;
    let daemon = scene.agent.home().process();
    scene.relay.until_online(CONNECTION).await;
    daemon.signal(Signal::SIGHUP);
    daemon.until_logged("SIGHUP").await;
    daemon.until_logged("the configuration was reloaded").await;
    assert_eq!(scene.caller().await.get("/x").await.status, 200);
}

/// Takes the upstream's rules away.
fn deny_all(scene: &Scene) {
    let home: &AgentHome = scene.agent.home();
    let address = scene.upstream.address();
    home.configure(
        "",
        &format!("[[upstream]]\nname = 'web'\nurl = 'http://{address}'"),
    );
}
