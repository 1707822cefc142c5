//! How soon an agent is cut off when its key is revoked, measured where the caller stands.

use std::time::{Duration, Instant};

use super::*;
use crate::harness::soon;

/// From the order to the end of a call that is under way on the link.
async fn cut_off(is_stopped: bool) -> Duration {
    let mut scene = Scene::around(Upstream::new(answers::hang).await).await;
    scene.agent.stop().await;
    until_unlinked(&scene.relay).await;
    let mut agent = scene.agent.home().process();
    scene.relay.until_online(CONNECTION).await;
    let mut caller = scene.caller().await;
    let request = caller.request("GET", "/", body::empty());
    let call = caller.begin(request);
    let arrived = async || !scene.upstream.calls().is_empty();
    let waiting = wait_until("the call is at the service", arrived);
    let answered = async { soon("the call ends", call).await };
    let revoked = async {
        waiting.await;
        if is_stopped {
            agent.signal(Signal::SIGSTOP);
        }
        let began = Instant::now();
        let target = format!("/v1/connections/{CONNECTION}/revoke");
        let (status, view) = scene.relay.ask(Method::POST, &target, None).await;
        assert_eq!(status, StatusCode::OK, "{view}");
        began
    };
    let (answer, began) = tokio::join!(answered, revoked);
    let cut = began.elapsed();
    assert_eq!(answer.unwrap().status(), StatusCode::BAD_GATEWAY);
    until_unlinked(&scene.relay).await;
    agent.signal(Signal::SIGKILL);
    agent.ended().await;
    cut
}

#[tokio::test]
async fn a_revocation_ends_the_calls_under_way_also_of_an_agent_that_hears_nothing() {
    for (what, is_stopped) in [("runs", false), ("is stopped (SIGSTOP)", true)] {
        let mut cuts = Vec::new();
        for _ in 0..3 {
            cuts.push(cut_off(is_stopped).await);
        }
        eprintln!("revoked to cut off, of an agent that {what}: {cuts:?}");
    }
}
