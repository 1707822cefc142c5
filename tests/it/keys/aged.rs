//! No key expires: one that is old, or cannot be replaced, goes on being used.

use std::time::{Duration, SystemTime};

use super::*;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Stops the agent, makes its key a year old, and starts it again after `before_start`.
async fn age(scene: &mut Scene, before_start: impl FnOnce(&PathBuf)) {
    scene.agent.stop().await;
    let [key] = key_files(scene.agent.home()).try_into().unwrap();
    let file = fs::File::options().write(true).open(&key).unwrap();
    file.set_modified(SystemTime::now() - YEAR).unwrap();
    before_start(&key);
    scene.agent.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    scene.agent.until_online(CONNECTION).await;
}

#[tokio::test]
async fn an_agent_that_was_off_for_a_year_links_and_replaces_its_key_then() {
    let mut scene = scene().await;
    let (first, _) = keys_on(&scene.relay).await;
    age(&mut scene, |_| {}).await;
    wait_until("the key is replaced on both sides", async || {
        let accepted = keys_on(&scene.relay).await;
        accepted == (key_of(&scene.agent).await, None) && accepted.0 != first
    })
    .await;
    assert_eq!(scene.caller().await.get("/").await.status, StatusCode::OK);
}

/// What is said to be the matter: the codes.
async fn codes(agent: &TestAgent) -> Vec<String> {
    let conditions = agent.status().await.conditions;
    conditions.into_iter().map(|one| one.code).collect()
}

#[tokio::test]
async fn a_rotation_that_keeps_failing_is_told_and_the_old_key_stays_good() {
    let mut scene = scene().await;
    let (first, _) = keys_on(&scene.relay).await;
    let mut in_the_way = PathBuf::new();
    age(&mut scene, |key| {
        // No new key can be written where a directory stands.
        in_the_way = key.with_extension("next.key");
        fs::create_dir(&in_the_way).unwrap();
    })
    .await;
    let rotation = async |agent: &TestAgent| {
        let connection = agent.connection(CONNECTION).await.unwrap();
        let key = connection.key.unwrap();
        (key.rotation, key.failures)
    };
    wait_until("the rotation has failed", async || {
        rotation(&scene.agent).await == ("failing".to_owned(), 1)
    })
    .await;
    assert_eq!(codes(&scene.agent).await, [""; 0], "once is nothing");
    let target = format!("/v1/connections/{CONNECTION}/rotate");
    let (status, answer) = scene.agent.ask(Method::POST, &target, None).await;
    assert_ne!(status, StatusCode::OK, "{answer}");
    assert_eq!(rotation(&scene.agent).await, ("failing".to_owned(), 2));
    assert_eq!(codes(&scene.agent).await, ["key-not-replaced"]);
    assert_eq!(scene.caller().await.get("/").await.status, StatusCode::OK);
    // A link that is made anew has the old key, and is as good.
    scene.relay.stop().await;
    scene.relay.go_on().await;
    scene.relay.until_online(CONNECTION).await;
    scene.agent.until_online(CONNECTION).await;
    assert_eq!(keys_on(&scene.relay).await.0, first);
    assert_eq!(scene.caller().await.get("/").await.status, StatusCode::OK);

    fs::remove_dir(&in_the_way).unwrap();
    let key = rotate(&scene.agent).await.unwrap();
    until_alone(&scene.relay, &key).await;
    assert_eq!(codes(&scene.agent).await, [""; 0]);
}
