//! Each way in which an invitation is not accepted has its own words and its exit code, with a daemon
//! and without one.

use std::net::SocketAddr;

use http::{Method, Response};
use relay_agent::body;
use relay_agent::identity::SigningKey;
use relay_agent::invitation::Invitation;

use crate::harness::agent::AgentHome;
use crate::harness::program::{self, AGENT};
use crate::harness::upstream::nobody;
use crate::harness::{CONNECTION, TestAgent, TestRelay, Upstream, answers};

/// That `agent accept` fails so by itself, and through a daemon.
async fn is_refused(code: &str, exit_code: i32, words: &[&str]) {
    let alone = AgentHome::new("");
    accept(&alone, code).await.failed(exit_code, words);
    let daemon = TestAgent::start().await;
    accept(daemon.home(), code).await.failed(exit_code, words);
    assert!(daemon.status().await.connections.is_empty());
}

async fn accept(home: &AgentHome, code: &str) -> program::Output {
    let file = home.file();
    let arguments = ["accept", "--yes", "--config", file.to_str().unwrap()];
    program::run_with(AGENT, &arguments, code).await
}

/// An invitation with something in it changed, and whole again.
fn changed(code: &str, change: impl FnOnce(&mut Invitation)) -> String {
    let mut invitation = Invitation::decode(code).unwrap();
    change(&mut invitation);
    invitation.encode().expose().clone()
}

/// An invitation of a relay that speaks no TLS, at another address.
fn leading_to(code: &str, address: SocketAddr) -> String {
    changed(code, |invitation| {
        invitation.relay_url = format!("http://{address}").parse().unwrap();
        invitation.tls_pin = None;
    })
}

#[tokio::test]
async fn a_text_that_is_no_code() {
    is_refused("hello", 65, &["not an invitation code"]).await;
}

#[tokio::test]
async fn a_mistyped_code_and_one_with_a_piece_missing_are_told_apart() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let middle = code.len() / 2;
    let other = if &code[middle..=middle] == "A" {
        "B"
    } else {
        "A"
    };
    let mistyped = format!("{}{other}{}", &code[..middle], &code[middle + 1..]);
    is_refused(&mistyped, 65, &["wrong character"]).await;
    is_refused(&code[..middle], 65, &["piece", "missing"]).await;
    assert_eq!(relay.connection(CONNECTION).await["state"], "pending");
}

#[tokio::test]
async fn a_code_of_a_later_version() {
    let later = format!("inv3_{}", "A".repeat(250));
    is_refused(&later, 65, &["version 3", "newe"]).await;
}

#[tokio::test]
async fn an_expired_code() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    relay.rewrite_store("UPDATE invitation SET expires_at = 1000000000");
    let words = ["expired at 2001-09-09", "invitation reissue"];
    is_refused(&code, 77, &words).await;
}

#[tokio::test]
async fn a_code_that_another_agent_has_used() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let first = TestAgent::start().await;
    first.accept(&code).await;
    let by = relay.connection(CONNECTION).await["far_side"]["agent"].clone();
    let words = ["already used", by.as_str().unwrap()];
    is_refused(&code, 77, &words).await;
    relay.until_online(CONNECTION).await;
}

#[tokio::test]
async fn a_revoked_code() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let target = format!("/v1/connections/{CONNECTION}/invitation");
    let (status, _) = relay.ask(Method::DELETE, &target, None).await;
    assert!(status.is_success());
    is_refused(&code, 77, &["revoked at 2", "public side"]).await;
}

#[tokio::test]
async fn a_code_whose_connection_was_removed() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    relay.remove(CONNECTION).await;
    is_refused(&code, 77, &["removed the connection"]).await;
}

#[tokio::test]
async fn a_code_that_was_signed_for_another_connection() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let forged = changed(&code, |invitation| {
        invitation.one_time_key = SigningKey::generate().unwrap();
    });
    is_refused(&forged, 77, &["not signed with this invitation"]).await;
    assert_eq!(relay.connection(CONNECTION).await["state"], "pending");
}

#[tokio::test]
async fn a_relay_with_another_identity_than_the_code_says() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let other = SigningKey::generate().unwrap().public_key();
    let code = changed(&code, |invitation| invitation.relay_identity = other);
    let words = ["not the relay that issued", "Do not go on"];
    let alone = AgentHome::new("");
    accept(&alone, &code).await.failed(77, &words);
    let daemon = TestAgent::start().await;
    let again = accept(daemon.home(), &code).await;
    assert_eq!(again.code, 77, "{again:?}");
    assert!(daemon.status().await.connections.is_empty());
}

#[tokio::test]
async fn a_relay_with_another_certificate_than_the_code_says() {
    let relay = TestRelay::start().await;
    let other = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let elsewhere = changed(&code, |invitation| {
        let url = format!("https://{}", other.home().authority());
        invitation.relay_url = url.parse().unwrap();
    });
    is_refused(&elsewhere, 69, &["not reached", "pin"]).await;
}

#[tokio::test]
async fn a_relay_that_is_not_reached() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let code = leading_to(&code, nobody());
    let words = ["refused", "run the same command again"];
    is_refused(&code, 69, &words).await;
}

#[tokio::test]
async fn something_that_is_no_relay() {
    let relay = TestRelay::start().await;
    let code = relay.initiate("acme", "widgets").await;
    let website =
        Upstream::new(|_| answers::at_once(Response::new(body::full("<html>hello</html>")))).await;
    let code = leading_to(&code, website.address());
    is_refused(&code, 69, &["is not a relay", "200"]).await;
}
