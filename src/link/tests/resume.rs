//! A link over one WebSocket after another: cuts, moves, and sessions that are not resumed.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::path::Path;
use super::*;
use crate::protocol::handshake::{Resumed, SessionId};

const WINDOW_SECONDS: u64 = 120;

/// Both ends of a resumable link, and what cuts its pipe.
struct Linked {
    agent: LinkHandle,
    relay: LinkHandle,
    agent_end: JoinHandle<LinkEnd>,
    relay_end: JoinHandle<LinkEnd>,
    client: LaneClient,
    cutter: Cutter,
    /// Of the pipes that were left: they end when the other side lets go of them.
    formers: Vec<Cutter>,
}

/// Two pipes joined: dropping the joint cuts both.
struct Cutter(JoinHandle<()>);

impl Drop for Cutter {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A pipe that is cut when `most` bytes have passed in one direction.
fn pipe(most: u64) -> (DuplexStream, DuplexStream, Cutter) {
    let (agent, near) = tokio::io::duplex(16 * 1024);
    let (relay, far) = tokio::io::duplex(16 * 1024);
    let joint = tokio::spawn(async move {
        let (near_reader, mut near_writer) = tokio::io::split(near);
        let (far_reader, mut far_writer) = tokio::io::split(far);
        let (mut outward, mut inward) = (near_reader.take(most), far_reader.take(most));
        tokio::select! {
            _ = tokio::io::copy(&mut outward, &mut far_writer) => {}
            _ = tokio::io::copy(&mut inward, &mut near_writer) => {}
        }
    });
    (agent, relay, Cutter(joint))
}

/// A pipe that takes what fits into it and carries nothing, as a path does whose packets are dropped.
fn dead_pipe() -> (DuplexStream, DuplexStream, Cutter) {
    let (agent, near) = tokio::io::duplex(16 * 1024);
    let (relay, far) = tokio::io::duplex(16 * 1024);
    let joint = tokio::spawn(async move {
        let _kept_open = (near, far);
        std::future::pending::<()>().await;
    });
    (agent, relay, Cutter(joint))
}

async fn linked(resume_window: u64) -> Linked {
    let id = SessionId::generate().unwrap();
    let grant = Some(SessionGrant { id, resume_window });
    let (agent, relay, cutter) = pipe(u64::MAX);
    let make = async |pipe, role| {
        let socket = websocket(pipe, role).await;
        let connection = ConnectionId::from_bytes([1; 16]);
        Link::new(connection, introduction(), grant, Duration::ZERO, socket)
    };
    let agent = make(agent, Role::Client).await;
    let relay = make(relay, Role::Server).await;
    tokio::spawn(http2::serve(
        agent.inward,
        service_fn(echo),
        std::future::pending(),
    ));
    Linked {
        agent: agent.handle,
        relay: relay.handle,
        agent_end: drive(agent.driver),
        relay_end: drive(relay.driver),
        client: LaneClient::new(relay.inward),
        cutter,
        formers: Vec::new(),
    }
}

impl Linked {
    /// What the handshake does: the agent offers, the relay leaves and accepts, both attach.
    async fn resume(&mut self) {
        self.resume_for(u64::MAX).await;
    }

    /// The same, over a pipe that is cut after `most` bytes.
    async fn resume_for(&mut self, most: u64) {
        self.resume_over(pipe(most)).await;
    }

    async fn resume_over(&mut self, (agent, relay, cutter): (DuplexStream, DuplexStream, Cutter)) {
        let offer = self.agent.offer().unwrap();
        let leave = self.relay.leave_for(offer.received).unwrap();
        let relay = websocket(relay, Role::Server).await;
        let Resumed { from, received } = leave.resumed;
        self.relay.arrive(&leave, relay, Duration::ZERO).unwrap();
        let agent = websocket(agent, Role::Client).await;
        self.agent
            .attach(agent, received, from, Duration::ZERO)
            .unwrap();
        self.formers
            .push(std::mem::replace(&mut self.cutter, cutter));
    }

    async fn until_away(&self) {
        for handle in [&self.agent, &self.relay] {
            handle.path().wait_for(Path::is_away).await.unwrap();
        }
    }

    fn cut(&self) {
        self.cutter.0.abort();
    }
}

#[tokio::test]
async fn calls_outlive_any_number_of_cuts() {
    let mut link = linked(WINDOW_SECONDS).await;
    let large = Bytes::from(vec![7; 8 * 1024 * 1024]);
    let client = link.client.clone();
    let expected = large.clone();
    let mut calling = tokio::spawn(async move { call(&client, large).await });
    let mut cuts = 0;
    link.cut();
    let echoed = loop {
        tokio::select! {
            echoed = &mut calling => break echoed.unwrap(),
            () = link.until_away() => {}
        }
        // In the middle of a frame, mostly.
        link.resume_for(300_000 + cuts).await;
        cuts += 1;
    };
    assert!(echoed == expected, "other bytes came back");
    assert!(cuts > 20, "{cuts} cuts are no proof");
}

#[tokio::test]
async fn a_link_moves_while_its_websocket_stands_and_nobody_sees_it_away() {
    let mut link = linked(WINDOW_SECONDS).await;
    let large = Bytes::from(vec![7; 4 * 1024 * 1024]);
    for _ in 0..20 {
        let (client, body) = (link.client.clone(), large.clone());
        let calling = tokio::spawn(async move { call(&client, body).await });
        tokio::task::yield_now().await;
        link.resume().await;
        assert!(calling.await.unwrap() == large);
        assert_eq!(*link.agent.path().borrow(), Path::Up);
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_moves_at_once_from_a_websocket_that_takes_nothing_any_more() {
    let mut link = linked(WINDOW_SECONDS).await;
    link.resume_over(dead_pipe()).await;
    let (client, large) = (link.client.clone(), Bytes::from(vec![7; 1024 * 1024]));
    let body = large.clone();
    let calling = tokio::spawn(async move { call(&client, body).await });
    let mut path = link.relay.path();
    path.wait_for(|path| *path == Path::Doubtful).await.unwrap();
    let moved = tokio::time::Instant::now();
    link.resume().await;
    assert!(calling.await.unwrap() == large);
    // Time stands still but for timers, and none is to be waited for.
    assert!(
        moved.elapsed() < Duration::from_secs(1),
        "{:?}",
        moved.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_path_is_in_doubt_first_and_lost_then_and_the_link_goes_on() {
    let mut link = linked(WINDOW_SECONDS).await;
    assert_eq!(call(&link.client, "before").await, "before");
    // Nothing is carried any more, and neither side is told.
    let (agent, relay, cutter) = pipe(u64::MAX);
    link.cutter.0.abort();
    let _ = std::mem::replace(&mut link.cutter, cutter);
    drop((agent, relay));
    link.until_away().await;
    let client = link.client.clone();
    let calling = tokio::spawn(async move { call(&client, "meanwhile").await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    link.resume().await;
    assert_eq!(calling.await.unwrap(), "meanwhile");
}

#[tokio::test(start_paused = true)]
async fn doubt_is_shown_and_ends_with_the_next_sign_of_life() {
    let (pipe, other) = tokio::io::duplex(64 * 1024);
    let agent = link(pipe, Role::Client).await;
    let mut peer = websocket(other, Role::Server).await;
    let mut path = agent.handle.path();
    let _end = drive(agent.driver);
    let mut lane = agent.outward;
    lane.write_all(b"anybody there?").await.unwrap();
    path.wait_for(|path| *path == Path::Doubtful).await.unwrap();
    let pong = crate::protocol::frame::Frame::Pong(1).encode();
    peer.send(Message::Binary(pong)).await.unwrap();
    path.wait_for(|path| *path == Path::Up).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_is_kept_for_its_window_and_not_longer() {
    let link = linked(WINDOW_SECONDS).await;
    let client = link.client.clone();
    assert_eq!(call(&client, "before").await, "before");
    link.cut();
    link.until_away().await;
    let cut = tokio::time::Instant::now();
    let calling = tokio::spawn(async move { client.send(post("lost")).await.map(drop) });
    let end = link.relay_end.await.unwrap();
    assert!(matches!(end, LinkEnd::NotResumed { .. }), "{end}");
    assert_eq!(cut.elapsed().as_secs(), WINDOW_SECONDS);
    assert!(matches!(
        calling.await.unwrap(),
        Err(SendError::OutcomeUnknown(_))
    ));
    assert!(
        link.relay.offer().is_none(),
        "an ended session is not offered"
    );
}

#[tokio::test]
async fn an_abandoned_link_ends_at_once_and_says_why() {
    let link = linked(WINDOW_SECONDS).await;
    link.agent.abandon("the relay was restarted");
    let end = link.agent_end.await.unwrap();
    assert_eq!(end.to_string(), "the relay was restarted");
    assert!(link.agent.leave_for(Default::default()).is_none());
}

#[tokio::test]
async fn a_link_that_is_closed_while_it_has_no_websocket_is_closed() {
    let link = linked(WINDOW_SECONDS).await;
    link.cut();
    link.until_away().await;
    link.relay.close(CloseCode::Removed, "gone");
    let end = link.relay_end.await.unwrap();
    assert!(matches!(end, LinkEnd::ClosedHere(CloseCode::Removed)));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_was_left_for_a_websocket_that_never_came_lets_the_agent_notice() {
    let link = linked(WINDOW_SECONDS).await;
    let offer = link.agent.offer().unwrap();
    link.relay.leave_for(offer.received).unwrap();
    link.agent.path().wait_for(Path::is_away).await.unwrap();
}

#[tokio::test]
async fn a_websocket_that_comes_after_the_next_one_is_passed_over() {
    let mut link = linked(WINDOW_SECONDS).await;
    assert_eq!(call(&link.client, "before").await, "before");
    let offer = link.agent.offer().unwrap();
    let late = link.relay.leave_for(offer.received).unwrap();
    link.resume().await;
    assert_eq!(call(&link.client, "meanwhile").await, "meanwhile");
    let (_agent, relay, _cutter) = pipe(u64::MAX);
    let relay = websocket(relay, Role::Server).await;
    link.relay.arrive(&late, relay, Duration::ZERO).unwrap();
    assert_eq!(call(&link.client, "after").await, "after");
    assert_eq!(*link.agent.path().borrow(), Path::Up);
}

#[tokio::test(start_paused = true)]
async fn who_is_alive_answers_a_probe_and_who_is_not_does_not() {
    let link = linked(WINDOW_SECONDS).await;
    assert!(link.relay.answers_within(Duration::from_secs(3)).await);
    let (pipe, _kept_open) = tokio::io::duplex(64 * 1024);
    let alone = super::link(pipe, Role::Server).await;
    let _end = drive(alone.driver);
    assert!(!alone.handle.answers_within(Duration::from_secs(3)).await);
}
