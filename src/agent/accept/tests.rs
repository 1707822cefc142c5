//! Accepting against a small relay that knows one invitation, through a real dialer on loopback.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::agent::state::tests::example;
use crate::body::{self, Body, BodyError};
use crate::identity::{PublicKey, SigningKey};
use crate::invitation::Mode;
use crate::link::dial::ProxySetting;
use crate::link::tls::client::{ClientTls, Purpose};

/// A relay that redeems one invitation for whoever comes first.
struct Relay {
    identity: SigningKey,
    signs_as: SigningKey,
    one_time: PublicKey,
    redeemed_by: Mutex<Option<PublicKey>>,
    loses_the_answer: AtomicBool,
    requests: AtomicUsize,
    says: Option<RedeemRefusal>,
}

struct Stage {
    relay: Arc<Relay>,
    invitation: Invitation,
    state: Arc<StateDirectory>,
    dialer: Dialer,
    _directory: tempfile::TempDir,
}

impl Relay {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, BodyError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        assert_eq!(request.uri().path(), REDEEM_PATH);
        if let Some(refusal) = &self.says {
            return Ok(refusal.problem().into_response());
        }
        let bytes = request.into_body().collect().await?.to_bytes();
        let request = RedeemRequest::from_json(&bytes)?;
        request.verify(&self.one_time)?;
        let mut redeemed_by = self.redeemed_by.lock().unwrap();
        if let Some(other) = redeemed_by.filter(|key| *key != request.agent_key) {
            let refusal = RedeemRefusal::Used {
                at: 1,
                by: other.fingerprint(),
            };
            return Ok(refusal.problem().into_response());
        }
        *redeemed_by = Some(request.agent_key);
        if self.loses_the_answer.swap(false, Ordering::SeqCst) {
            return Err("the connection breaks here".into());
        }
        let answer = RedeemAnswer::new(&request, 1, false, &self.signs_as);
        Ok(Response::new(body::full(answer.to_json())))
    }
}

/// A relay that listens, an invitation of it, and an agent's state directory.
async fn stage(change: impl FnOnce(&mut Relay)) -> Stage {
    let one_time_key = SigningKey::generate().unwrap();
    let (identity, seed) = key_and_copy();
    let mut relay = Relay {
        identity,
        signs_as: seed,
        one_time: one_time_key.public_key(),
        redeemed_by: Mutex::new(None),
        loses_the_answer: AtomicBool::new(false),
        requests: AtomicUsize::new(0),
        says: None,
    };
    change(&mut relay);
    let relay = Arc::new(relay);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = Arc::clone(&relay);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let relay = Arc::clone(&serving);
            let service = service_fn(move |request| {
                let relay = Arc::clone(&relay);
                async move { relay.answer(request).await }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let state = StateDirectory::open(&directory.path().join("state")).unwrap();
    let invitation = Invitation {
        relay_url: format!("http://127.0.0.1:{port}").parse().unwrap(),
        connection: ConnectionId::generate().unwrap(),
        one_time_key,
        relay_identity: relay.identity.public_key(),
        tls_pin: None,
        name: "acme_to_widgets".parse().unwrap(),
        local: "acme".parse().unwrap(),
        remote: "widgets".parse().unwrap(),
        mode: Mode::Script,
        expires: 0,
    };
    Stage {
        relay,
        invitation,
        state: Arc::new(state),
        dialer: Dialer::new(
            &ProxySetting::None,
            ClientTls::new(None, Purpose::Link).unwrap(),
        ),
        _directory: directory,
    }
}

fn key_and_copy() -> (SigningKey, SigningKey) {
    let seed = crate::identity::random_bytes().unwrap();
    let key = || SigningKey::from_seed(seed).unwrap();
    (key(), key())
}

impl Stage {
    async fn accept(&self) -> Result<Acceptance, AcceptError> {
        accept(&self.state, &self.dialer, &self.invitation, None).await
    }

    async fn refusal(&self) -> AcceptCode {
        self.accept().await.unwrap_err().code()
    }

    fn requests(&self) -> usize {
        self.relay.requests.load(Ordering::SeqCst)
    }

    /// Puts another connection of the same name into the state directory.
    fn put_namesake(&self, standing: Standing) -> ConnectionId {
        let record = ConnectionRecord {
            standing,
            ..example("acme_to_widgets")
        };
        self.state.save(&record).unwrap();
        record.connection
    }
}

#[tokio::test]
async fn an_accepted_invitation_is_on_disk_even_if_it_had_long_expired_by_this_clock() {
    let stage = stage(|_| {}).await;
    let acceptance = stage.accept().await.unwrap();
    assert!(!acceptance.again);
    let loaded = stage.state.load().unwrap();
    assert_eq!(loaded.records, [acceptance.record]);
    let key = stage.state.key(stage.invitation.connection).unwrap();
    assert_eq!(
        *stage.relay.redeemed_by.lock().unwrap(),
        Some(key.public_key())
    );
}

#[tokio::test]
async fn a_lost_answer_is_cured_by_accepting_again() {
    let stage = stage(|relay| *relay.loses_the_answer.get_mut() = true).await;
    assert_eq!(stage.refusal().await, AcceptCode::Unreachable);
    assert!(stage.state.load().unwrap().records.is_empty());
    assert!(!stage.accept().await.unwrap().again);
    assert!(stage.accept().await.unwrap().again);
}

#[tokio::test]
async fn accepting_again_keeps_what_this_side_decided_meanwhile() {
    let stage = stage(|_| {}).await;
    let record = stage.accept().await.unwrap().record;
    let deactivated = ConnectionRecord {
        deactivated: true,
        project: Some("SYNC".to_owned()),
        ..record
    };
    stage.state.save(&deactivated).unwrap();
    assert_eq!(stage.accept().await.unwrap().record, deactivated);
}

#[tokio::test]
async fn another_agents_use_is_told_with_its_key() {
    let stage = stage(|relay| {
        *relay.redeemed_by.get_mut().unwrap() = Some(SigningKey::generate().unwrap().public_key());
    })
    .await;
    let error = stage.accept().await.unwrap_err();
    assert_eq!(error.code(), AcceptCode::Used);
    assert!(error.to_string().contains("already used"), "{error}");
    assert!(stage.state.load().unwrap().records.is_empty());
}

#[tokio::test]
async fn every_refusal_keeps_its_own_code() {
    for (refusal, code) in [
        (RedeemRefusal::Expired { at: 1 }, AcceptCode::Expired),
        (RedeemRefusal::Revoked { at: 1 }, AcceptCode::Revoked),
        (RedeemRefusal::Removed, AcceptCode::Removed),
        (RedeemRefusal::Unknown, AcceptCode::Unknown),
        (RedeemRefusal::BadProof, AcceptCode::BadProof),
    ] {
        let stage = stage(|relay| relay.says = Some(refusal)).await;
        assert_eq!(stage.refusal().await, code);
    }
}

#[tokio::test]
async fn an_answer_that_the_pinned_identity_did_not_sign_is_not_believed() {
    let stage = stage(|relay| relay.signs_as = SigningKey::generate().unwrap()).await;
    assert_eq!(stage.refusal().await, AcceptCode::WrongRelay);
    assert!(stage.state.load().unwrap().records.is_empty());
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_unreachable() {
    let mut stage = stage(|_| {}).await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    stage.invitation.relay_url = format!("http://127.0.0.1:{port}").parse().unwrap();
    assert_eq!(stage.refusal().await, AcceptCode::Unreachable);
}

#[tokio::test]
async fn a_name_that_is_taken_here_is_refused_before_the_invitation_is_used_up() {
    let stage = stage(|_| {}).await;
    stage.put_namesake(Standing::Kept);
    assert_eq!(stage.refusal().await, AcceptCode::NameTaken);
    assert_eq!(stage.requests(), 0);
}

#[tokio::test]
async fn the_name_of_a_connection_that_ended_is_free_again() {
    let stage = stage(|_| {}).await;
    let ended = stage.put_namesake(Standing::Ended {
        why: "removed".to_owned(),
        at: 1,
    });
    let removing = stage.put_namesake(Standing::RemovedHere);
    assert_eq!(stage.accept().await.unwrap().replaced, [ended]);
    assert!(stage.state.read(ended).unwrap().is_none());
    assert!(stage.state.read(removing).unwrap().is_some());
}

#[tokio::test]
async fn a_connection_removed_here_is_not_brought_back_behind_the_relays_back() {
    let stage = stage(|_| {}).await;
    let record = stage.accept().await.unwrap().record;
    let removed = ConnectionRecord {
        standing: Standing::RemovedHere,
        ..record
    };
    stage.state.save(&removed).unwrap();
    assert_eq!(stage.refusal().await, AcceptCode::RemovedHere);
    assert_eq!(stage.requests(), 1);
}
