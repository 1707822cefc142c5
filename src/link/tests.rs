//! Two ends of a link over an in-memory pipe: calls, ends, silence and back-pressure.

mod resume;

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::http2::{LaneClient, SendError, refused_stream};
use super::websocket::{self, Socket, Transport};
use super::*;
use crate::body::{self, Body, BodyError};
use crate::session::WINDOW;

/// The calling end and the handle of a link that goes nowhere.
#[cfg(feature = "relay")]
pub(crate) fn idle_link() -> (LaneClient, LinkHandle) {
    let shared = Shared::new(Session::new(WINDOW, Duration::ZERO, Duration::ZERO), None);
    let lane = LaneStream::new(&shared, Lane::Inward);
    (LaneClient::new(lane), LinkHandle { shared })
}

/// What the driver of a link shows when its WebSocket is lost.
#[cfg(feature = "relay")]
pub(crate) fn lose_path(link: &LinkHandle) {
    link.shared.show(&path::Path::Away {
        why: "cut".to_owned(),
    });
}

fn introduction() -> Introduction {
    Introduction {
        software: "test".into(),
        features: vec![EARLY_ACK.to_owned()],
        window: WINDOW,
        deactivated: false,
    }
}

async fn websocket(pipe: DuplexStream, role: Role) -> Socket {
    let pipe: Box<dyn Transport> = Box::new(pipe);
    Socket::from_raw_socket(pipe, role, Some(websocket::limits())).await
}

async fn link(pipe: DuplexStream, role: Role) -> Link {
    let connection = ConnectionId::from_bytes([1; 16]);
    let socket = websocket(pipe, role).await;
    Link::new(connection, introduction(), None, Duration::ZERO, socket)
}

/// Both ends of a link over a pipe of `size` bytes, agent first; drivers not started.
async fn pair(size: usize) -> (Link, Link) {
    let (agent, relay) = tokio::io::duplex(size);
    (
        link(agent, Role::Client).await,
        link(relay, Role::Server).await,
    )
}

fn drive(driver: LinkDriver) -> JoinHandle<LinkEnd> {
    tokio::spawn(driver.run())
}

async fn echo(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(body::streaming(request.into_body())))
}

fn post(content: impl Into<Bytes>) -> Request<Body> {
    Request::post("http://jira/echo")
        .body(body::full(content))
        .unwrap()
}

async fn call(client: &LaneClient, content: impl Into<Bytes>) -> Bytes {
    let response = client.send(post(content)).await.unwrap();
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn calls_travel_on_both_lanes_at_once() {
    let (agent, relay) = pair(64 * 1024).await;
    drive(agent.driver);
    drive(relay.driver);
    tokio::spawn(http2::serve(
        agent.inward,
        service_fn(echo),
        std::future::pending(),
    ));
    tokio::spawn(http2::serve(
        relay.outward,
        service_fn(echo),
        std::future::pending(),
    ));
    let inward = LaneClient::new(relay.inward);
    let outward = LaneClient::new(agent.outward);
    let large = Bytes::from(vec![7; 8 * 1024 * 1024]);
    let (large_in, large_out, small) = tokio::join!(
        call(&inward, large.clone()),
        call(&outward, large.clone()),
        call(&inward, "small")
    );
    assert!(large_in == large && large_out == large);
    assert_eq!(small, "small");
}

#[tokio::test]
async fn a_close_tells_the_other_side_why_after_what_was_written() {
    let (agent, mut relay) = pair(1024).await;
    let relay_end = drive(relay.driver);
    let agent_end = drive(agent.driver);
    let mut lane = agent.outward;
    lane.write_all(b"last words").await.unwrap();
    agent.handle.close(CloseCode::Removed, "no longer wanted");
    let mut words = [0; 10];
    relay.outward.read_exact(&mut words).await.unwrap();
    assert_eq!(&words, b"last words");
    let LinkEnd::ClosedByPeer { code, text } = relay_end.await.unwrap() else {
        panic!("the relay does not know why")
    };
    assert_eq!(
        (code, text.as_str()),
        (CloseCode::Removed, "no longer wanted")
    );
    assert!(matches!(
        agent_end.await.unwrap(),
        LinkEnd::ClosedHere(CloseCode::Removed)
    ));
    assert!(
        relay.outward.read(&mut words).await.is_err(),
        "a lane ends with its link"
    );
    assert!(lane.write_all(b"x").await.is_err());
}

#[tokio::test]
async fn a_vanished_peer_is_a_lost_link() {
    let (agent, relay) = pair(1024).await;
    drop(relay);
    assert!(matches!(
        drive(agent.driver).await.unwrap(),
        LinkEnd::Lost(_)
    ));
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_told_and_left() {
    let (pipe, other) = tokio::io::duplex(1024);
    let agent = link(pipe, Role::Client).await;
    let mut peer = websocket(other, Role::Server).await;
    let end = drive(agent.driver);
    peer.send(Message::Binary(Bytes::from_static(&[0x77])))
        .await
        .unwrap();
    assert!(matches!(end.await.unwrap(), LinkEnd::Violation(_)));
    let Some(Ok(Message::Binary(close))) = peer.next().await else {
        panic!("nothing was said")
    };
    assert_eq!(&close[..3], [0x14, 0, 4]);
}

#[tokio::test]
async fn http2_that_ends_with_its_link_is_told_from_http2_that_was_broken() {
    for is_broken in [true, false] {
        let (mut agent, relay) = pair(64 * 1024).await;
        let agent_end = drive(agent.driver);
        drive(relay.driver);
        let serving = http2::serve(relay.outward, service_fn(echo), std::future::pending());
        let serving = tokio::spawn(serving);
        if is_broken {
            agent.outward.write_all(&[0xff; 100]).await.unwrap();
        } else {
            call(&LaneClient::new(agent.outward), "small").await;
            agent_end.abort();
        }
        let error = serving.await.unwrap().unwrap_err();
        assert_eq!(http2::ended_with_its_lane(&error), !is_broken, "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_found_dead_when_idle_and_when_data_waits() {
    for (written, seconds) in [(&b""[..], 25), (b"into the void", 10)] {
        let (pipe, _kept_open) = tokio::io::duplex(64 * 1024);
        let mut agent = link(pipe, Role::Client).await;
        let began = tokio::time::Instant::now();
        agent.inward.write_all(written).await.unwrap();
        let end = drive(agent.driver).await.unwrap();
        assert!(matches!(end, LinkEnd::Silent(_)));
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_nothing_blocks_the_writer_without_spinning() {
    let (pipe, _never_read) = tokio::io::duplex(64);
    let mut agent = link(pipe, Role::Client).await;
    let end = drive(agent.driver);
    let writing = tokio::spawn(async move { agent.inward.write_all(&vec![0; 10 << 20]).await });
    assert!(matches!(end.await.unwrap(), LinkEnd::Silent(_)));
    assert!(writing.await.unwrap().is_err());
}

#[tokio::test]
async fn a_refused_call_and_a_lost_one_are_told_apart() {
    let (agent, relay) = pair(64 * 1024).await;
    let agent_end = drive(agent.driver);
    drive(relay.driver);
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let refuse = move |request: Request<Incoming>| {
        let arrived = arrived.clone();
        async move {
            if request.uri().path() == "/refuse" {
                return Err::<Response<Body>, BodyError>(refused_stream());
            }
            arrived.send(()).unwrap();
            std::future::pending().await
        }
    };
    tokio::spawn(http2::serve(
        agent.inward,
        service_fn(refuse),
        std::future::pending(),
    ));
    let client = LaneClient::new(relay.inward);
    let request = |path: &str| {
        Request::get(format!("http://jira{path}"))
            .body(body::empty())
            .unwrap()
    };
    assert!(matches!(
        client.send(request("/refuse")).await,
        Err(SendError::Refused)
    ));

    let hanging = tokio::spawn({
        let (client, request) = (client.clone(), request("/hang"));
        async move { client.send(request).await }
    });
    arrivals.recv().await.unwrap();
    agent.handle.close(CloseCode::Internal, "gone");
    agent_end.await.unwrap();
    assert!(matches!(
        hanging.await.unwrap(),
        Err(SendError::OutcomeUnknown(_))
    ));
    assert!(matches!(
        client.send(request("/late")).await,
        Err(SendError::NotSent)
    ));
}

#[tokio::test]
async fn dropping_a_call_drops_it_on_the_other_side() {
    struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (agent, relay) = pair(64 * 1024).await;
    drive(agent.driver);
    drive(relay.driver);
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let (dropped, mut drops) = tokio::sync::mpsc::unbounded_channel();
    let hang = move |_: Request<Incoming>| {
        let (arrived, guard) = (arrived.clone(), Dropped(dropped.clone()));
        async move {
            let _guard = guard;
            arrived.send(()).unwrap();
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        }
    };
    tokio::spawn(http2::serve(
        agent.inward,
        service_fn(hang),
        std::future::pending(),
    ));
    let client = LaneClient::new(relay.inward);
    let calling = tokio::spawn(async move { client.send(post("x")).await.map(drop) });
    arrivals.recv().await.unwrap();
    calling.abort();
    drops.recv().await.unwrap();
}

#[tokio::test]
async fn a_crowd_of_callers_that_leave_together_does_not_end_the_link() {
    let (agent, relay) = pair(64 * 1024).await;
    drive(relay.driver);
    let client = LaneClient::new(relay.inward);
    let calling: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send(post("x")).await.map(drop) })
        })
        .collect();
    settle().await;
    for call in calling {
        call.abort();
    }
    settle().await;
    // Only now does the other side look, and finds a hundred calls that were taken back.
    drive(agent.driver);
    tokio::spawn(http2::serve(
        agent.inward,
        service_fn(echo),
        std::future::pending(),
    ));
    assert_eq!(call(&client, "still here").await, "still here");
}

/// Lets every other task do what it can do now.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_draining_server_finishes_what_it_has() {
    let (agent, relay) = pair(64 * 1024).await;
    drive(agent.driver);
    drive(relay.driver);
    let (drain, draining) = tokio::sync::oneshot::channel::<()>();
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let slow = move |request: Request<Incoming>| {
        arrived.send(()).unwrap();
        echo(request)
    };
    let draining = async move { draining.await.unwrap_or(()) };
    let serving = tokio::spawn(http2::serve(agent.inward, service_fn(slow), draining));
    let client = LaneClient::new(relay.inward);
    let (mut sender, body) = pieces_of_a_body::pieces();
    let request = Request::post("http://jira/slow").body(body).unwrap();
    let calling = tokio::spawn(async move { call_with(&client, request).await });
    arrivals.recv().await.unwrap();
    drain.send(()).unwrap();
    sender
        .send(Bytes::from_static(b"still served"))
        .await
        .unwrap();
    drop(sender);
    assert_eq!(calling.await.unwrap(), "still served");
    serving.await.unwrap().unwrap();
}

async fn call_with(client: &LaneClient, request: Request<Body>) -> Bytes {
    client
        .send(request)
        .await
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
}

/// A body that is written piece by piece.
mod pieces_of_a_body {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http_body::Frame;
    use tokio::sync::mpsc;

    use crate::body::{self, Body};

    pub(super) struct Sender(mpsc::Sender<Bytes>);
    struct Pieces(mpsc::Receiver<Bytes>);

    pub(super) fn pieces() -> (Sender, Body) {
        let (sender, receiver) = mpsc::channel(1);
        (Sender(sender), body::streaming(Pieces(receiver)))
    }

    impl Sender {
        pub(super) async fn send(
            &mut self,
            piece: Bytes,
        ) -> Result<(), mpsc::error::SendError<Bytes>> {
            self.0.send(piece).await
        }
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.get_mut()
                .0
                .poll_recv(cx)
                .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_is_not_put_off_by_a_peer_that_talks_and_does_not_read() {
    let (agent, relay) = tokio::io::duplex(1024);
    let agent = link(agent, Role::Client).await;
    let mut relay = websocket(relay, Role::Server).await;
    let end = drive(agent.driver);
    let mut lane = agent.outward;
    lane.write_all(&[0; 64 * 1024]).await.unwrap();
    agent.handle.close(CloseCode::Removed, "no longer wanted");
    let talking = async {
        for token in 0..60 {
            let ping = crate::protocol::frame::Frame::Ping(token).encode();
            if relay.send(Message::Binary(ping)).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (end, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(30), end), talking);
    let end = end.unwrap().unwrap();
    assert!(matches!(end, LinkEnd::ClosedHere(CloseCode::Removed)));
}
