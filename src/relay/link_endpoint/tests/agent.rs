//! Links of an agent in miniature that does not do what an agent should.

use std::convert::Infallible;

use futures_util::{SinkExt as _, StreamExt as _};
use http::Response;
use hyper::service::service_fn;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::*;
use crate::identity::SigningKey;
use crate::link::client::{self, ConnectError, Connected, LinkTarget};
use crate::link::dial::{Dialer, ProxySetting};
use crate::link::lane::LaneStream;
use crate::link::tls::client::{ClientTls, Purpose};
use crate::link::{LinkEnd, http2};
use crate::protocol::CloseCode;
use crate::protocol::handshake::{AgentHello, Introduction, RefusalCode};
use crate::relay::clock;
use crate::relay::record::tests::accepted;
use crate::relay::record::{Removed, Side};
use crate::relay::registry::{Connection, LinkStatus};

const NAME: &str = "acme_to_widgets";

/// A link that is up on both sides.
struct Linked {
    inward: LaneStream,
    outward: LaneStream,
    end: JoinHandle<LinkEnd>,
    connection: Arc<Connection>,
}

async fn linked(shared: &Arc<Shared>, relay: SocketAddr) -> Linked {
    let key = SigningKey::generate().unwrap();
    let record = accepted(NAME, key.public_key());
    let connection = shared.registry.put(record).unwrap();
    let Connected::New(link) = dial(shared, relay, &connection, &key).await else {
        panic!("there was no link to go on with");
    };
    let end = tokio::spawn(link.driver.run());
    until(|| matches!(connection.link_status(), LinkStatus::Online(_))).await;
    Linked {
        inward: link.inward,
        outward: link.outward,
        end,
        connection,
    }
}

async fn dial(
    shared: &Shared,
    relay: SocketAddr,
    connection: &Connection,
    key: &SigningKey,
) -> Connected {
    try_dial(shared, relay, connection, key).await.unwrap()
}

async fn try_dial(
    shared: &Shared,
    relay: SocketAddr,
    connection: &Connection,
    key: &SigningKey,
) -> Result<Connected, ConnectError> {
    let tls = ClientTls::new([], Purpose::Link).unwrap();
    let dialer = Dialer::new(&ProxySetting::None, tls);
    let target = LinkTarget {
        relay_url: &format!("http://{relay}").parse().unwrap(),
        tls_pin: None,
        relay_identity: shared.identity.public_key(),
        connection: connection.id(),
        key,
        allow_tls_inspection: false,
        deactivated: false,
        resume: None,
        succeeds: None,
    };
    client::connect(&dialer, &target).await
}

/// What the relay closes the link with.
async fn closed_with(end: JoinHandle<LinkEnd>) -> CloseCode {
    let end = tokio::time::timeout(DEADLINE, end).await;
    let LinkEnd::ClosedByPeer { code, .. } = end.unwrap().unwrap() else {
        panic!("the relay did not close the link");
    };
    code
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_does_not_take_what_it_is_told_loses_its_link_so_that_the_next_one_tells() {
    let directory = tempfile::tempdir().unwrap();
    let shared = relay_in(directory.path()).await;
    let relay = listen(&shared);
    let linked = linked(&shared, relay).await;
    let refuse = service_fn(async |_| {
        let mut answer = Response::new(crate::body::empty());
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        Ok::<_, Infallible>(answer)
    });
    tokio::spawn(http2::serve(linked.inward, refuse, std::future::pending()));
    let mut changed = linked.connection.record().as_ref().clone();
    changed.deactivated.here = true;
    shared.registry.put(changed);
    assert_eq!(closed_with(linked.end).await, CloseCode::Internal);
    shared.shutdown.stop_now();
}

#[tokio::test]
async fn an_agent_that_breaks_http2_loses_its_link() {
    let directory = tempfile::tempdir().unwrap();
    let shared = relay_in(directory.path()).await;
    let relay = listen(&shared);
    let mut linked = linked(&shared, relay).await;
    linked.outward.write_all(&[0xff; 100]).await.unwrap();
    until(|| !matches!(linked.connection.link_status(), LinkStatus::Online(_))).await;
    tokio::time::timeout(DEADLINE, linked.end)
        .await
        .unwrap()
        .unwrap();
    shared.shutdown.stop_now();
}

#[tokio::test]
async fn agents_are_asked_to_move_when_the_certificate_changes() {
    let directory = tempfile::tempdir().unwrap();
    let shared = relay_in(directory.path()).await;
    let (relay, endpoint) = listen_with(&shared);
    let linked = linked(&shared, relay).await;
    let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
    let hear = service_fn(move |request: Request<Incoming>| {
        asked.send(request.uri().path().to_owned()).unwrap();
        async { Ok::<_, Infallible>(Response::new(crate::body::empty())) }
    });
    tokio::spawn(http2::serve(linked.inward, hear, std::future::pending()));
    endpoint.certificate_changed();
    let question = tokio::time::timeout(DEADLINE, questions.recv()).await;
    assert_eq!(question.unwrap().unwrap(), "/v1/move");
    shared.shutdown.stop_now();
}

#[tokio::test]
async fn a_relay_that_drains_does_not_wait_for_an_agent_that_it_would_turn_away() {
    let directory = tempfile::tempdir().unwrap();
    let shared = relay_in(directory.path()).await;
    let relay = listen(&shared);
    let linked = linked(&shared, relay).await;
    let _call = linked.connection.begin_call().unwrap();
    shared.shutdown.start_drain();
    linked.end.abort();
    until(|| linked.connection.live().is_none()).await;
    shared.shutdown.stop_now();
}

#[tokio::test]
async fn a_drain_does_not_wait_for_an_agent_that_does_not_answer_what_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let shared = relay_in(directory.path()).await;
    let (relay, endpoint) = listen_with(&shared);
    let linked = linked(&shared, relay).await;
    let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
    let hear = service_fn(move |request: Request<Incoming>| {
        asked.send(request.uri().path().to_owned()).unwrap();
        std::future::pending::<Result<Response<Body>, Infallible>>()
    });
    tokio::spawn(http2::serve(linked.inward, hear, std::future::pending()));
    let mut changed = linked.connection.record().as_ref().clone();
    changed.deactivated.here = true;
    shared.registry.put(changed);
    let question = tokio::time::timeout(DEADLINE, questions.recv()).await;
    assert_eq!(question.unwrap().unwrap(), "/v1/state");
    shared.shutdown.start_drain();
    let nobody = (Ipv4Addr::LOCALHOST, 1).into();
    endpoint.look_for_successor(nobody).await;
    assert_eq!(closed_with(linked.end).await, CloseCode::Draining);
}

#[tokio::test]
async fn a_handshake_is_given_up_when_it_takes_too_long_in_all() {
    let directory = tempfile::tempdir().unwrap();
    let shared = relay_in(directory.path()).await;
    let relay = listen(&shared);
    let key = SigningKey::generate().unwrap();
    let record = accepted(NAME, key.public_key());
    let connection = shared.registry.put(record).unwrap();
    // Its agent does not answer, so that who comes next is told after some seconds.
    let Connected::New(_silent) = dial(&shared, relay, &connection, &key).await else {
        panic!("there was no link to go on with");
    };
    until(|| connection.live().is_some()).await;

    let request = format!("ws://{relay}/v1/link").into_client_request();
    let mut request = request.unwrap();
    let subprotocol = http::HeaderValue::from_static(crate::protocol::SUBPROTOCOL);
    request
        .headers_mut()
        .insert(http::header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    let stream = TcpStream::connect(relay).await.unwrap();
    let upgraded = tokio_tungstenite::client_async(request, stream).await;
    let (mut websocket, _) = upgraded.unwrap();
    let introduction = Introduction {
        software: "slow".to_owned(),
        features: Vec::new(),
        window: crate::session::WINDOW,
        deactivated: false,
    };
    let identity = shared.identity.public_key();
    let hello = AgentHello::new(connection.id(), identity, &introduction, Binding::None).unwrap();
    // Each message comes in time, and time stands still for none of them.
    let nearly = Duration::from_secs(9);
    let pass = async || {
        tokio::time::pause();
        tokio::time::sleep(nearly).await;
        tokio::time::resume();
    };
    pass().await;
    let message = Message::binary(hello.message().to_vec());
    websocket.send(message).await.unwrap();
    let challenge = websocket.next().await.unwrap().unwrap().into_data();
    pass().await;
    let (proof, _) = hello.handle_challenge(&challenge, &key, None).unwrap();
    websocket.send(Message::binary(proof)).await.unwrap();
    let word = websocket.next().await;
    assert!(
        !matches!(word, Some(Ok(Message::Binary(_)))),
        "it was let go without a word: {word:?}"
    );
    assert!(connection.live().is_some(), "nothing was taken from it");
    shared.shutdown.stop_now();
}

/// Its lanes are open, and nobody reads them: no control message is ever answered.
#[tokio::test]
async fn an_agent_that_takes_nothing_is_cut_off_all_the_same_and_told_by_the_close() {
    let directory = tempfile::tempdir().unwrap();
    let shared = relay_in(directory.path()).await;
    let relay = listen(&shared);
    for is_removed in [true, false] {
        let linked = linked(&shared, relay).await;
        let mut changed = linked.connection.record().as_ref().clone();
        let expected = if is_removed {
            let (at, by) = (clock::now(), Side::Public);
            changed.removed = Some(Removed { at, by });
            CloseCode::Removed
        } else {
            changed.accepted = None;
            changed.agent_revoked_at = Some(clock::now());
            CloseCode::Revoked
        };
        shared.registry.put(changed);
        // Far sooner than an answer that is owed to the relay is given up.
        assert_eq!(closed_with(linked.end).await, expected);
        let connection = linked.connection;
        until(|| connection.live().is_none()).await;
    }
    shared.shutdown.stop_now();
}

#[tokio::test]
async fn a_revoked_agent_is_told_so_when_it_comes_again_before_and_after_it_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let shared = relay_in(directory.path()).await;
    let relay = listen(&shared);
    let key = SigningKey::generate().unwrap();
    let mut record = accepted(NAME, key.public_key());
    record.accepted = None;
    record.agent_revoked_at = Some(7);
    let connection = shared.registry.put(record).unwrap();
    let Err(error) = try_dial(&shared, relay, &connection, &key).await else {
        panic!("a link for a revoked agent");
    };
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.code, RefusalCode::Revoked);
    assert!(
        refusal.text.contains("revoked at 1970-01-01"),
        "{}",
        refusal.text
    );
    shared.shutdown.stop_now();
}
