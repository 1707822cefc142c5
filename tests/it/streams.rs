//! Bodies stream: nothing is gathered on the way, nobody waits for another, and what is not read is not sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt as _;
use relay_agent::body;

use crate::harness::answers::in_pieces;
use crate::harness::caller::next_piece;
use crate::harness::{Scene, Upstream, Whole, answers, soon, wait_until};

/// What may lie on the way of one call that nobody reads: the windows of a lane, of the caller's connection and of
/// the sockets between, whose kernel buffers take some MiB each.
const MOST_UNDER_WAY: u64 = 64 * 1024 * 1024;

/// Waits until a count stands still: three looks in a row see the same.
async fn until_still(count: impl Fn() -> u64) {
    let mut last = [0, 0, 0];
    wait_until("a count stands still", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        last = [last[1], last[2], count()];
        last[0] > 0 && last[0] == last[1] && last[1] == last[2]
    })
    .await;
}

#[tokio::test]
async fn each_piece_of_a_body_arrives_before_the_next_is_sent() {
    let scene = Scene::around(Upstream::new(answers::echo).await).await;
    for mut caller in [scene.caller().await, scene.caller2().await] {
        let (pieces, body) = in_pieces();
        let request = caller.request("POST", "/", body);
        let answer = tokio::spawn(caller.begin(request));
        pieces.send("1");
        let answer = answer.await.unwrap().unwrap();
        let mut back = answer.into_body();
        assert_eq!(next_piece(&mut back).await.unwrap(), "1");
        for piece in ["2", "3", "4"] {
            pieces.send(piece);
            assert_eq!(next_piece(&mut back).await.unwrap(), piece);
        }
        drop(pieces);
        assert_eq!(next_piece(&mut back).await, None);
    }
    for seen in scene.upstream.calls() {
        assert_eq!(seen.body(), b"1234");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_taken_no_further_than_the_windows() {
    let scene = Scene::around(Upstream::new(answers::endless).await).await;
    let mut caller = scene.caller2().await;
    let request = caller.request("GET", "/", body::empty());
    let answer = caller.send(request).await;
    let seen = scene.upstream.call();
    until_still(|| seen.taken()).await;
    assert!(seen.taken() > 0 && seen.taken() < MOST_UNDER_WAY);
    assert!(!seen.is_over());
    drop(answer);
    wait_until("the private service is rid of it", async || seen.is_over()).await;
}

#[tokio::test]
async fn one_reader_that_stands_still_does_not_hold_up_ninety_nine_others() {
    let upstream = Upstream::new(|request| match request.uri().path() {
        "/endless" => answers::endless(request),
        _ => answers::echo(request),
    })
    .await;
    let scene = Scene::with("", "max_in_flight = 200", upstream).await;
    let mut stalled = scene.caller().await;
    let request = stalled.request("GET", "/endless", body::empty());
    let unread = stalled.send(request).await;
    let mut caller = scene.caller2().await;
    let others: Vec<_> = (0..99)
        .map(|number| {
            let body = body::full(format!("call {number}"));
            let request = caller.request("POST", "/echo", body);
            tokio::spawn(caller.begin(request))
        })
        .collect();
    for (number, other) in others.into_iter().enumerate() {
        let answer = soon("one of 99", other).await.unwrap();
        let whole = Whole::of(answer.unwrap()).await;
        assert_eq!(whole.text(), format!("call {number}"));
    }
    drop(unread);
}

#[tokio::test]
async fn an_upload_that_the_service_does_not_read_is_held_back() {
    let scene = Scene::around(Upstream::new(answers::hang).await).await;
    let mut caller = scene.caller().await;
    let sent = Arc::new(AtomicU64::new(0));
    let request = caller.request("POST", "/", answers::counted(Arc::clone(&sent)));
    let _answer = tokio::spawn(caller.begin(request));
    scene.upstream.until_called(1).await;
    let count = || sent.load(Ordering::Relaxed);
    until_still(count).await;
    assert!(count() < MOST_UNDER_WAY, "{}", count());
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for is_http2 in [false, true] {
        let (pieces, body) = in_pieces();
        let body = Mutex::new(Some(body));
        let upstream = Upstream::new(move |_| {
            let body = body.lock().unwrap().take().unwrap();
            answers::at_once(Response::new(body))
        })
        .await;
        let scene = Scene::around(upstream).await;
        let mut caller = match is_http2 {
            true => scene.caller2().await,
            false => scene.caller().await,
        };
        let request = caller.request("GET", "/", body::empty());
        let mut answer = caller.send(request).await.into_body();
        pieces.send("half");
        assert_eq!(next_piece(&mut answer).await.unwrap(), "half");
        pieces.fail();
        assert!(soon("the end", answer.collect()).await.is_err());
    }
}

#[tokio::test]
async fn the_private_service_sees_its_own_host_and_neither_token_nor_the_callers_claims() {
    let scene = Scene::around(Upstream::new(answers::done).await).await;
    for mut caller in [scene.caller().await, scene.caller2().await] {
        let mut request = caller.request("POST", "/a%20b/c=%C3%A9?d=%26%2F&&e+f", body::empty());
        let headers = request.headers_mut();
        for (name, value) in [
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("relay-caller", "root"),
            ("authorization", "Basic b3duOnBhc3M="),
            ("cookie", "session=1"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        assert_eq!(caller.whole(request).await.text(), "done");
    }
    for seen in scene.upstream.calls() {
        assert_eq!(seen.target, "/a%20b/c=%C3%A9?d=%26%2F&&e+f");
        assert_eq!(seen.header("host"), scene.upstream.address().to_string());
        assert_eq!(seen.header("authorization"), "");
        assert_eq!(seen.header("cookie"), "");
        let all = seen.dump();
        for absent in [
            scene.token.as_str(),
            "10.0.0.1",
            "relay-",
            scene.relay.home().host(),
        ] {
            let is_own_via = absent == "relay-" && seen.header("via").contains(absent);
            assert!(!all.contains(absent) || is_own_via, "{absent} in {all}");
        }
        assert!(
            seen.headers
                .keys()
                .all(|name| !name.as_str().starts_with("relay-"))
        );
        assert!(
            seen.header("forwarded").contains("proto=https"),
            "{}",
            seen.dump()
        );
    }
    assert_eq!(scene.upstream.connections(), 1, "connections are kept");
}

#[tokio::test]
async fn a_caller_that_goes_away_while_its_upload_is_held_back_gives_its_place_to_another() {
    let upstream = Upstream::new(|request| match request.uri().path() {
        "/hang" => answers::hang(request),
        _ => answers::done(request),
    })
    .await;
    let scene = Scene::with("", "max_in_flight = 1", upstream).await;
    let mut caller = scene.caller2().await;
    let sent = Arc::new(AtomicU64::new(0));
    let body = answers::counted(Arc::clone(&sent));
    let answer = tokio::spawn(caller.begin(caller.request("POST", "/hang", body)));
    scene.upstream.until_called(1).await;
    until_still(|| sent.load(Ordering::Relaxed)).await;
    let mut other = scene.caller().await;
    assert_eq!(other.get("/").await.problem().code, "upstream-busy");
    answer.abort();
    // The service itself does not read, and so does not see that its request has ended.
    wait_until("the place is free", async || {
        other.get("/").await.status.is_success()
    })
    .await;
}
