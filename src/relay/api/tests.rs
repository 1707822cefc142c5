//! The routes as a client sees them, on both ways in.

use std::net::Ipv4Addr;

use http::Method;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::*;
use crate::identity::SigningKey;
use crate::invitation::Invitation;
use crate::problem::CONTENT_TYPE_PROBLEM;
use crate::protocol::redeem::{RedeemAnswer, RedeemRequest};
use crate::relay::shared::tests::relay_in;

const SOCKET: Origin = Origin::AdminSocket { uid: 0 };
const NETWORK: Origin = Origin::Network(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));

struct Fixture {
    _directory: tempfile::TempDir,
    relay: Arc<Shared>,
    api: Api,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let relay = relay_in(directory.path()).await;
    Fixture {
        _directory: directory,
        api: Api::new(Arc::clone(&relay)),
        relay,
    }
}

struct Answer {
    status: u16,
    kind: String,
    json: Value,
}

impl Fixture {
    async fn ask(&self, request: Request<Full<Bytes>>, origin: Origin) -> Answer {
        let response = self.api.respond(request, origin).await;
        let kind = response.headers().get("content-type");
        let kind = kind.map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, kind, json }
    }

    async fn socket(&self, method: Method, path: &str, body: Value) -> Answer {
        self.ask(request(method, path, body.to_string()), SOCKET)
            .await
    }

    async fn initiated(&self) -> Invitation {
        let body = json!({"local": "acme", "remote": "widgets"});
        let answer = self.socket(Method::POST, "/v1/connections", body).await;
        assert_eq!(answer.status, 201);
        Invitation::decode(answer.json["invitation_code"].as_str().unwrap()).unwrap()
    }
}

fn request(method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path);
    builder.body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn a_connection_goes_through_its_life_over_the_socket() {
    let fixture = fixture().await;
    let invitation = fixture.initiated().await;
    let path = "/v1/connections/acme_to_widgets";
    let shown = fixture.socket(Method::GET, path, Value::Null).await;
    assert_eq!(shown.json["state"], "pending");
    assert_eq!(shown.json["far_side"], Value::Null);
    assert_eq!(shown.json["invitation"]["state"], "open");

    let agent = SigningKey::generate().unwrap();
    let redeem = RedeemRequest::new(&invitation, &agent, Some("OPS".into()), "agent/1".into());
    let redeem = redeem.unwrap();
    let post = request(Method::POST, REDEEM_PATH, redeem.to_json());
    let answer = fixture.ask(post, NETWORK).await;
    assert_eq!(answer.status, 200);
    let answer = RedeemAnswer::from_json(answer.json.to_string().as_bytes()).unwrap();
    let identity = fixture.relay.identity.public_key();
    assert_eq!(answer.verify(&redeem, &identity), Ok(()));

    let list = fixture.socket(Method::GET, "/v1/connections", Value::Null);
    let one = &list.await.json["connections"][0];
    assert_eq!(one["state"], "active");
    assert_eq!(one["far_side"]["name"], "widgets");
    assert_eq!(one["far_side"]["project"], "OPS");
    assert_eq!(one["invitation"]["state"], "used");
    assert_eq!(one["link"]["status"], "offline");

    let deactivate = format!("{path}/deactivate");
    let changed = fixture.socket(Method::POST, &deactivate, Value::Null).await;
    assert_eq!(changed.json["state_text"], "deactivated by this side");
    let activate = format!("{path}/activate");
    let changed = fixture.socket(Method::POST, &activate, Value::Null).await;
    assert_eq!(changed.json["state"], "active");
    let removed = fixture.socket(Method::DELETE, path, Value::Null).await;
    assert_eq!(removed.status, 200);
    let gone = fixture.socket(Method::GET, path, Value::Null).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn every_failed_redemption_says_why() {
    let fixture = fixture().await;
    let former = fixture.initiated().await;
    let reissue = "/v1/connections/acme_to_widgets/invitation";
    let issued = fixture.socket(Method::POST, reissue, Value::Null).await;
    let code = issued.json["invitation_code"].as_str().unwrap();
    let newer = Invitation::decode(code).unwrap();
    let first = SigningKey::generate().unwrap();
    let second = SigningKey::generate().unwrap();

    let refused = async |invitation: &Invitation, agent: &SigningKey| {
        let redeem = RedeemRequest::new(invitation, agent, None, "agent/1".into()).unwrap();
        let post = request(Method::POST, REDEEM_PATH, redeem.to_json());
        let answer = fixture.ask(post, NETWORK).await;
        let kind = answer.json["type"].as_str().unwrap_or_default().to_owned();
        (answer.status, kind.rsplit(':').next().unwrap().to_owned())
    };
    let revoked = refused(&former, &first).await;
    assert_eq!(revoked, (410, "invitation-revoked".into()));
    assert_eq!(refused(&newer, &first).await, (200, String::new()));
    let used = refused(&newer, &second).await;
    assert_eq!(used, (409, "invitation-used".into()));
    let forged = Invitation {
        one_time_key: SigningKey::generate().unwrap(),
        ..former
    };
    let bad = refused(&forged, &second).await;
    assert_eq!(bad, (403, "invitation-bad-proof".into()));
    let path = "/v1/connections/acme_to_widgets";
    fixture.socket(Method::DELETE, path, Value::Null).await;
    let removed = refused(&newer, &second).await;
    assert_eq!(removed, (410, "connection-removed".into()));
    let newer_agent = request(Method::POST, REDEEM_PATH, r#"{"version":9}"#);
    let answer = fixture.ask(newer_agent, NETWORK).await;
    assert_eq!(
        answer.json["type"],
        "urn:relay-agent:problem:unsupported-version"
    );
}

#[tokio::test]
async fn redemptions_of_one_address_are_bounded() {
    let fixture = fixture().await;
    let mut last = None;
    for _ in 0..100 {
        let post = request(Method::POST, REDEEM_PATH, "{}");
        last = Some(fixture.ask(post, NETWORK).await);
    }
    let last = last.unwrap();
    assert_eq!(last.status, 429);
    assert_eq!(
        last.json["type"],
        "urn:relay-agent:problem:too-many-attempts"
    );
}

#[tokio::test]
async fn over_the_network_management_needs_an_admin_token() {
    let fixture = fixture().await;
    let token = async |body: Value| {
        let answer = fixture.socket(Method::POST, "/v1/tokens", body).await;
        assert_eq!(answer.status, 201);
        answer.json["token"].as_str().unwrap().to_owned()
    };
    let admin = token(json!({"admin": true})).await;
    let caller = token(json!({})).await;
    let list = async |header: &'static str, value: String| {
        let mut get = request(Method::GET, "/v1/connections", "");
        get.headers_mut().insert(header, value.parse().unwrap());
        fixture.ask(get, NETWORK).await.status
    };
    assert_eq!(
        list("relay-authorization", format!("Bearer {admin}")).await,
        200
    );
    assert_eq!(list("authorization", format!("bearer {admin}")).await, 200);
    assert_eq!(list("authorization", format!("Bearer {caller}")).await, 403);
    assert_eq!(list("authorization", "Bearer rt_wrong".into()).await, 401);
    assert_eq!(list("authorization", format!("Basic {admin}")).await, 401);
    assert_eq!(list("x-other", "x".into()).await, 401);
}

#[tokio::test]
async fn every_management_route_is_closed_to_strangers() {
    let fixture = fixture().await;
    let routes = [
        (Method::GET, "/v1/status", 401),
        (Method::GET, "/v1/connections", 401),
        (Method::POST, "/v1/connections", 401),
        (Method::GET, "/v1/connections/a", 401),
        (Method::DELETE, "/v1/connections/a", 401),
        (Method::POST, "/v1/connections/a/activate", 401),
        (Method::POST, "/v1/connections/a/deactivate", 401),
        (Method::POST, "/v1/connections/a/invitation", 401),
        (Method::DELETE, "/v1/connections/a/invitation", 401),
        (Method::GET, "/v1/tokens", 401),
        (Method::POST, "/v1/tokens", 401),
        (Method::DELETE, "/v1/tokens/a", 401),
        (Method::PUT, "/v1/log-level", 403),
        (Method::GET, "/healthz", 200),
        (Method::GET, "/readyz", 200),
        (Method::GET, "/nowhere", 404),
        (Method::PATCH, "/v1/tokens", 405),
    ];
    for (method, path, expected) in routes {
        let answer = fixture.ask(request(method, path, ""), NETWORK).await;
        assert_eq!(answer.status, expected, "{path}");
        if expected >= 400 {
            assert_eq!(answer.kind, CONTENT_TYPE_PROBLEM, "{path}");
            assert!(answer.json["title"].is_string(), "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_is_shown_once_and_revoked_by_its_id() {
    let fixture = fixture().await;
    let body = json!({"name": "reports"});
    let made = fixture.socket(Method::POST, "/v1/tokens", body).await;
    let (id, token) = (made.json["id"].clone(), made.json["token"].clone());
    let token = token.as_str().unwrap();
    assert!(fixture.relay.tokens.authenticate(token).is_some());
    let list = fixture.socket(Method::GET, "/v1/tokens", Value::Null).await;
    assert_eq!(list.json["tokens"][0]["name"], "reports");
    assert!(!list.json.to_string().contains(token));
    let path = format!("/v1/tokens/{}", id.as_str().unwrap());
    let revoked = fixture.socket(Method::DELETE, &path, Value::Null).await;
    assert_eq!(revoked.status, 200);
    assert!(fixture.relay.tokens.authenticate(token).is_none());
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let fixture = fixture().await;
    let bad = [
        (json!({"local": "a b", "remote": "c"}), "none of them"),
        (json!({"local": "a"}), "remote"),
        (json!({"local": "a", "remote": "b", "desc": ""}), "desc"),
        (
            json!({"local": "a", "remote": "b", "description": "x\u{1b}[2J"}),
            "control character",
        ),
        (
            json!({"local": "a", "remote": "b", "description": "x".repeat(20_000)}),
            "length limit",
        ),
    ];
    for (body, expected) in bad {
        let answer = fixture.socket(Method::POST, "/v1/connections", body).await;
        assert_eq!(answer.status, 400);
        let text = answer.json.to_string();
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
}

#[tokio::test]
async fn what_is_the_matter_is_told_to_who_asks_on_the_socket_and_to_no_stranger() {
    let fixture = fixture().await;
    let told = fixture.socket(Method::GET, "/healthz", Value::Null).await;
    assert_eq!(
        (told.status, &told.json["health"]),
        (200, &json!("critical"))
    );
    // Nothing listens in this test.
    assert_eq!(told.json["conditions"][0]["code"], "no-listener");
    let stranger = fixture
        .ask(request(Method::GET, "/healthz", ""), NETWORK)
        .await;
    assert_eq!((stranger.status, stranger.json), (200, Value::Null));
}

#[tokio::test]
async fn the_status_counts_and_the_log_level_changes() {
    let fixture = fixture().await;
    fixture.initiated().await;
    let level = json!({"level": "debug"});
    let changed = fixture.socket(Method::PUT, "/v1/log-level", level).await;
    assert_eq!(changed.status, 200);
    let status = fixture.socket(Method::GET, "/v1/status", Value::Null).await;
    assert_eq!(status.json["connections"]["pending"], 1);
    assert_eq!(status.json["log_level"], "debug");
    let for_ever = json!({"level": "debug", "for": "9days"});
    let refused = fixture.socket(Method::PUT, "/v1/log-level", for_ever);
    assert_eq!(refused.await.status, 400);
    assert_eq!(status.json["status"], "serving");
    fixture.relay.shutdown.start_drain();
    let ready = fixture.socket(Method::GET, "/readyz", Value::Null).await;
    assert_eq!(ready.status, 503);
}
