//! Redirects: nobody follows them but the caller, who is led where it can go, and is told no private address.

use http::Response;
use relay_agent::body;

use crate::harness::{Scene, Upstream, answers};

/// An upstream that answers `/to?LOCATION` with that location, with its own address for `{me}`.
async fn redirecting() -> Upstream {
    Upstream::new(|request| {
        let me = request.headers()["host"].to_str().unwrap().to_owned();
        let to = request
            .uri()
            .query()
            .unwrap_or_default()
            .replace("{me}", &me);
        let answer = Response::builder()
            .status(302)
            .header("location", &to)
            .header("content-location", to)
            .header("relay-location", "/of-the-upstream-itself")
            .body(body::full("moved"));
        answers::at_once(answer.unwrap())
    })
    .await
}

#[tokio::test]
async fn a_location_within_the_upstream_is_one_that_the_caller_can_follow() {
    let scene = Scene::around(redirecting().await).await;
    let mut caller = scene.caller().await;
    for (location, expected) in [
        (
            "http://{me}/browse/A-1",
            "/c/acme_to_widgets/web/browse/A-1",
        ),
        ("/browse/A-1", "/c/acme_to_widgets/web/browse/A-1"),
        ("//{me}/x", "/c/acme_to_widgets/web/x"),
        ("browse/A-1", "browse/A-1"),
        ("https://elsewhere.example/x", "https://elsewhere.example/x"),
    ] {
        let answer = caller.get(&format!("/to?{location}")).await;
        assert_eq!(answer.status, 302);
        assert_eq!(answer.header("location"), expected, "{location}");
        assert_eq!(answer.header("content-location"), expected, "{location}");
        assert_eq!(answer.header("relay-location"), "", "{location}");
        assert_eq!(answer.text(), "moved");
    }
    assert_eq!(scene.upstream.calls().len(), 5, "nobody followed one");
}

#[tokio::test]
async fn a_caller_over_http2_is_led_the_same_way() {
    let scene = Scene::around(redirecting().await).await;
    let mut caller = scene.caller2().await;
    let answer = caller.get("/to?/login").await;
    assert_eq!(answer.header("location"), "/c/acme_to_widgets/web/login");
}
