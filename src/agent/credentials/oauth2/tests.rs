//! What is asked of a token endpoint, and what is made of its answers, good and bad.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::agent::config::AuthConfig;
use crate::agent::config::tests::read;
use crate::agent::credentials::kept::Kept;
use crate::error_chain::chain;

#[test]
fn a_token_is_renewed_before_it_ends_and_never_used_after() {
    let seconds = |text: &str| {
        let value: Option<Value> = serde_json::from_str(text).unwrap();
        let life = life(value.as_ref());
        [life.renew_after, life.good_for, life.last_resort].map(|it| it.as_secs())
    };
    assert_eq!(seconds("3600"), [3540, 3590, 3600]);
    assert_eq!(seconds("\"3600\""), [3540, 3590, 3600]);
    assert_eq!(seconds("20"), [15, 18, 20]);
    assert_eq!(seconds("0"), [0, 0, 0]);
    assert_eq!(seconds("-1"), [0, 0, 0]);
    assert_eq!(seconds("null"), [240, 290, 300]);
    assert_eq!(seconds("1e300"), [86_340, 86_390, 86_400]);
}

#[test]
fn what_an_endpoint_says_is_shown_short_and_without_the_secret() {
    let shown = |answer: &str| {
        refusal(StatusCode::UNAUTHORIZED, answer.as_bytes(), b"s3cr3t-word").to_string()
    };
    let answer = r#"{"error":"invalid_client","error_description":"no\nclient has s3cr3t-word"}"#;
    assert_eq!(
        shown(answer),
        "it answered 401 Unauthorized: invalid_client (no client has ***)"
    );
    let long = format!(r#"{{"error":"{}"}}"#, "x".repeat(5_000));
    assert!(shown(&long).len() < 300);
    assert!(
        shown("<html>").contains("without an access token"),
        "{}",
        shown("<html>")
    );
}

#[tokio::test]
async fn an_answer_gives_a_token_or_says_why_there_is_none() {
    let json = |status: &str, text: &str| {
        let length = text.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{text}")
    };
    let ok = |text: &str| json("200 OK", text);
    let bearer = |more: &str| {
        ok(&format!(
            r#"{{"access_token":"t0ken","token_type":"Bearer"{more}}}"#
        ))
    };
    let long = format!(r#","scope":"{}""#, "x".repeat(70_000));
    for (answer, expected) in [
        (bearer(""), "t0ken for 300s"),
        (
            bearer(r#","expires_in":60,"scope":"a b","refresh_token":"r""#),
            "t0ken for 60s",
        ),
        (bearer(r#","expires_in":"60""#), "t0ken for 60s"),
        (bearer(r#","expires_in":60.9"#), "t0ken for 60s"),
        (bearer(r#","expires_in":"soon""#), "t0ken for 300s"),
        (bearer(r#","expires_in":null"#), "t0ken for 300s"),
        (bearer(r#","expires_in":[60]"#), "t0ken for 300s"),
        (
            ok(r#"{"access_token":"t0ken","token_type":"BEARER"}"#),
            "t0ken for 300s",
        ),
        (ok(r#"{"access_token":"t0ken"}"#), "t0ken for 300s"),
        (
            ok(r#"{"access_token":"t0ken","token_type":"mac"}"#),
            "tokens of the type \"mac\"",
        ),
        (
            ok(r#"{"access_token":"","token_type":"bearer"}"#),
            "cannot be sent",
        ),
        (
            ok(r#"{"access_token":"a\nb","token_type":"bearer"}"#),
            "cannot be sent",
        ),
        (
            ok(r#"{"access_token":7,"token_type":"bearer"}"#),
            "it answered 200 OK, without",
        ),
        (
            bearer(r#","access_token":"other""#),
            "it answered 200 OK, without",
        ),
        (ok(""), "it answered 200 OK, without"),
        (
            ok("access_token=t0ken&token_type=bearer"),
            "it answered 200 OK, without",
        ),
        // As some do that never answer 400.
        (
            ok(r#"{"error":"invalid_scope"}"#),
            "it answered 200 OK: invalid_scope",
        ),
        (
            json(
                "400 Bad Request",
                r#"{"error":"invalid_grant","error_description":"no"}"#,
            ),
            "400 Bad Request: invalid_grant (no)",
        ),
        (
            json("503 Service Unavailable", "<html>"),
            "it answered 503 Service Unavailable, without",
        ),
        // Where it leads, the client's secret does not go.
        (
            json("307 Temporary Redirect\r\nLocation: /elsewhere", ""),
            "it answered 307 Temporary Redirect, without",
        ),
        (bearer(&long), "more than 65536 bytes"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_owned(),
            "no answer from it within response_timeout (200ms)",
        ),
        (
            String::new(),
            "no answer from it within response_timeout (200ms)",
        ),
        ("SSH-2.0\r\n".to_owned(), "the connection to it broke"),
    ] {
        // Where all of an answer comes, no time is too long to wait for it.
        let timeout = if expected.contains("200ms") {
            "200ms"
        } else {
            "1m"
        };
        let (endpoint, asked) = endpoint(answer.clone(), timeout, "").await;
        let told = match endpoint.ask().await {
            Ok(Fetched { reading, life }) => {
                let token = String::from_utf8_lossy(reading.expose()).into_owned();
                format!("{token} for {}s", life.last_resort.as_secs())
            }
            Err(error) => chain(&error).to_string(),
        };
        assert!(told.contains(expected), "{answer}: {told}");
        assert!(!told.contains("s3cr3t-word"), "{told}");
        assert_eq!(asked.count.load(Ordering::Relaxed), 1, "{answer}");
    }
}

#[tokio::test]
async fn the_client_says_who_it_is_in_one_place_and_what_it_wants() {
    let answer = "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n";
    let more = ", scope = 'read write', audience = 'jira', parameters = { resource = ['a b', 'c'], 't&u' = 'v=w' }";
    let asked_for = "grant_type=client_credentials&scope=read%20write&audience=jira\
                     &resource=a%20b&resource=c&t%26u=v%3Dw";
    // base64 of "the%20agent:s3cr3t-word"
    let pair = "Basic dGhlJTIwYWdlbnQ6czNjcjN0LXdvcmQ=";
    for (style, authorization, body) in [
        ("basic", Some(pair), asked_for.to_owned()),
        (
            "body",
            None,
            format!("{asked_for}&client_id=the%20agent&client_secret=s3cr3t-word"),
        ),
    ] {
        let more = format!("{more}, style = '{style}'");
        let (endpoint, asked) = endpoint(answer.to_owned(), "1m", &more).await;
        endpoint.ask().await.unwrap_err();
        let asked = asked.text.lock().unwrap().clone();
        let (head, said) = asked.split_once("\r\n\r\n").unwrap();
        let shown = head
            .lines()
            .find_map(|line| line.strip_prefix("authorization: "));
        assert_eq!((shown, said), (authorization, body.as_str()));
        assert!(head.starts_with("POST /token?t=1 HTTP/1.1"), "{head}");
        assert!(head.contains("content-type: application/x-www-form-urlencoded"));
    }
}

/// What an endpoint was asked.
struct WasAsked {
    count: AtomicUsize,
    text: std::sync::Mutex<String>,
    /// Where the client's secret is.
    directory: tempfile::TempDir,
}

/// An endpoint that says this, byte for byte, to whatever it is asked.
async fn endpoint(
    answer: String,
    timeout: &str,
    more: &str,
) -> (Arc<TokenEndpoint>, Arc<WasAsked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(WasAsked {
        count: AtomicUsize::new(0),
        text: std::sync::Mutex::default(),
        directory: tempfile::tempdir().unwrap(),
    });
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut connections = Vec::new();
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            noted.count.fetch_add(1, Ordering::Relaxed);
            let mut heard = Vec::new();
            while !is_whole(&heard) {
                tcp.read_buf(&mut heard).await.unwrap();
            }
            *noted.text.lock().unwrap() = String::from_utf8(heard).unwrap();
            tcp.write_all(answer.as_bytes()).await.unwrap();
            connections.push(tcp);
        }
    });
    let secret = asked.directory.path().join("secret");
    std::fs::write(&secret, "s3cr3t-word").unwrap();
    let text = format!(
        "[[upstream]]\nname = 'jira'\nurl = 'http://localhost'\nresponse_timeout = '{timeout}'\n\
         auth = {{ oauth2 = {{ token_url = 'http://{address}/token?t=1', client_id = 'the agent', \
         client_secret = {{ file = '{}' }}{more} }} }}\n",
        secret.display()
    );
    let upstream = read(&text).unwrap().upstreams.remove(0);
    let Some(AuthConfig::OAuth2(config)) = &upstream.credentials.auth else {
        panic!("{upstream:?}");
    };
    let (former, mut kept) = (Kept::default(), Kept::default());
    let mut opening = Opening {
        upstream: "jira",
        former: &former,
        kept: &mut kept,
    };
    let endpoint = TokenEndpoint::open(config, &upstream, None, &mut opening).unwrap();
    (endpoint, asked)
}

fn is_whole(heard: &[u8]) -> bool {
    let text = String::from_utf8_lossy(heard);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() == length.parse::<usize>().unwrap())
}
