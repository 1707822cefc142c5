//! What callers do meanwhile, and how it went: each part of the load checks every byte of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_agent::body;
use relay_agent::error_chain::chain;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::service::{event, pattern, patterned};
use crate::harness::caller::{AnswerHead, RELAY_AUTHORIZATION};
use crate::harness::{CONNECTION, Caller, DEADLINE, Scene, Whole, soon};

/// The longest that anything of the load may stand still.
const STANDSTILL: Duration = DEADLINE;

/// What became of one order, as its caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was done.
    Done,
    /// It was never sent.
    NotSent,
    /// Nobody knows.
    Unknown,
    /// The relay went away, or never answered.
    Nothing,
    /// Something that no caller may be told.
    Wrong,
}

/// Orders, by what callers were told and by what the service knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) done: usize,
    pub(crate) not_sent: usize,
    pub(crate) unknown: usize,
    pub(crate) unanswered: usize,
    /// Answers that no caller may get.
    pub(crate) wrong: usize,
    /// Told to be done, but the service never saw them.
    pub(crate) lost: usize,
    /// The service saw them more than once.
    pub(crate) done_twice: usize,
    /// Told not to be sent, but the service saw them.
    pub(crate) denied: usize,
}

impl Told {
    /// What an answer, or its absence, tells.
    pub(crate) fn by(answer: Option<&Whole>) -> Self {
        let Some(answer) = answer else {
            return Self::Nothing;
        };
        if answer.status == StatusCode::OK && answer.body == b"done" {
            return Self::Done;
        }
        let delivery = relay_agent::problem::parse(&answer.body)
            .and_then(|problem| Some(problem.members.get("delivery")?.as_str()?.to_owned()));
        match (answer.status.as_u16(), delivery.as_deref()) {
            (503, Some("not-sent")) => Self::NotSent,
            (502, Some("unknown")) => Self::Unknown,
            _ => Self::Wrong,
        }
    }
}

impl Tally {
    /// All done, none twice.
    pub(crate) fn all_done(done: usize) -> Self {
        Self {
            done,
            ..Self::default()
        }
    }

    /// Whether everything that callers were told is true.
    pub(crate) const fn is_truthful(&self) -> bool {
        self.wrong + self.lost + self.done_twice + self.denied == 0
    }

    /// Puts what callers were told beside what the service saw.
    pub(crate) fn of(scene: &Scene, told: &[(String, Told)]) -> Self {
        let mut seen = BTreeMap::<String, usize>::new();
        for call in scene.upstream.calls() {
            *seen.entry(call.target.clone()).or_default() += 1;
        }
        let mut tally = Self::default();
        for (target, told) in told {
            let times = seen.get(target).copied().unwrap_or_default();
            tally.done_twice += usize::from(times > 1);
            match told {
                Told::Done => {
                    tally.done += 1;
                    tally.lost += usize::from(times == 0);
                }
                Told::NotSent => {
                    tally.not_sent += 1;
                    tally.denied += usize::from(times > 0);
                }
                Told::Unknown => tally.unknown += 1,
                Told::Nothing => tally.unanswered += 1,
                Told::Wrong => tally.wrong += 1,
            }
        }
        tally
    }
}

/// Orders that are under way: where they go, and what their callers will be told.
pub(crate) type Orders = Vec<(String, JoinHandle<Told>)>;

/// Sends orders to places that begin so, one begun after the other at this pace.
pub(crate) async fn begin_orders(
    caller: &mut Caller,
    place: &str,
    count: usize,
    pace: Duration,
) -> Orders {
    let mut orders = Vec::new();
    for number in 0..count {
        let target = format!("{place}/{number}");
        let body = body::full(format!("order {number}"));
        let answer = whole(caller.begin(caller.request("POST", &target, body)));
        let told = tokio::spawn(async { Told::by(answer.await.as_ref().ok()) });
        orders.push((target, told));
        tokio::time::sleep(pace).await;
    }
    orders
}

/// What the callers of these orders were told.
pub(crate) async fn told(orders: Orders) -> Vec<(String, Told)> {
    let mut all = Vec::new();
    for (target, told) in orders {
        all.push((target, told.await.unwrap()));
    }
    all
}

/// Sends orders at this pace; returns what their callers were told.
pub(crate) async fn orders(scene: &Scene, count: usize, pace: Duration) -> Vec<(String, Told)> {
    let mut caller = scene.caller2().await;
    let orders = begin_orders(&mut caller, "/orders", count, pace).await;
    told(orders).await
}

/// An answer to its end; an error says how it broke off, or that nothing more came.
pub(crate) async fn whole(answer: AnswerHead) -> Result<Whole, String> {
    let answer = tokio::time::timeout(STANDSTILL, answer)
        .await
        .map_err(|_| "no answer".to_owned())?;
    rest(answer).await
}

/// What comes after an answer's head.
async fn rest(answer: hyper::Result<Response<Incoming>>) -> Result<Whole, String> {
    let answer = answer.map_err(|error| chain(&error).to_string())?;
    let (parts, mut pieces) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = tokio::time::timeout(STANDSTILL, pieces.frame())
        .await
        .map_err(|_| format!("{}: nothing comes after byte {}", parts.status, body.len()))?
    {
        let piece = piece.map_err(|error| format!("{}: {}", parts.status, chain(&error)))?;
        body.extend(piece.into_data().into_iter().flatten());
    }
    Ok(Whole {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

/// Takes a long body and compares every byte; an error says at which byte it went wrong.
pub(crate) async fn download(mut caller: Caller, length: u64) -> Result<(), String> {
    let request = caller.request("GET", &format!("/download/{length}"), body::empty());
    let answer = caller.send(request).await;
    if answer.status() != StatusCode::OK {
        let whole = Whole::of(answer).await;
        return Err(format!("download: {} {}", whole.status, whole.text()));
    }
    let mut body = answer.into_body();
    let mut at = 0;
    while let Some(frame) = tokio::time::timeout(STANDSTILL, body.frame())
        .await
        .map_err(|_| format!("download: nothing comes after byte {at}"))?
    {
        let frame = frame.map_err(|error| format!("download: byte {at}: {error}"))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if pattern(at, data.len()) != *data {
            return Err(format!("download: not what was sent, from byte {at} on"));
        }
        at += data.len() as u64;
    }
    match at == length {
        true => Ok(()),
        false => Err(format!("download: {at} bytes look whole")),
    }
}

/// Sends a long body; the service must have all of it, once.
pub(crate) async fn upload(scene: &Scene, length: u64) -> Result<(), String> {
    let mut caller = scene.caller().await;
    let request = caller.request("POST", "/upload", patterned(length));
    let answer = while_it_arrives(scene, caller.begin(request)).await;
    if Told::by(answer.as_ref().ok()) != Told::Done {
        let arrived = arrived(scene);
        let answer = answer.map(|whole| whole.text().to_owned());
        return Err(format!("upload: {answer:?} after {arrived} bytes"));
    }
    let calls = scene.upstream.calls();
    let uploads: Vec<_> = calls
        .iter()
        .filter(|call| call.target == "/upload")
        .collect();
    let [upload] = uploads[..] else {
        return Err(format!("upload: arrived {} times", uploads.len()));
    };
    match upload.body() == pattern(0, usize::try_from(length).unwrap()) {
        true => Ok(()),
        false => Err("upload: not what was sent".to_owned()),
    }
}

/// The answer to an upload, which comes when the service has all of it; it is waited for as long as more arrives.
async fn while_it_arrives(scene: &Scene, mut answer: AnswerHead) -> Result<Whole, String> {
    let mut arrived_before = 0;
    loop {
        if let Ok(answer) = tokio::time::timeout(STANDSTILL, &mut answer).await {
            return rest(answer).await;
        }
        let arrived = arrived(scene);
        if arrived == arrived_before {
            return Err("nothing more arrives".to_owned());
        }
        arrived_before = arrived;
    }
}

/// How many bytes of uploads the service has.
fn arrived(scene: &Scene) -> usize {
    let calls = scene.upstream.calls();
    let uploads = calls.iter().filter(|call| call.target == "/upload");
    uploads.map(|call| call.body().len()).sum()
}

/// Listens to a stream of events; each must come once and in order.
pub(crate) async fn events(mut caller: Caller, count: usize) -> Result<(), String> {
    let request = caller.request("GET", &format!("/events/{count}"), body::empty());
    let answer = whole(caller.begin(request)).await;
    let wanted: String = (0..count).map(event).collect();
    match answer {
        Ok(answer) if answer.text() == wanted => Ok(()),
        other => Err(format!("events: {:?}", other.map(|whole| whole.body.len()))),
    }
}

/// Talks over a WebSocket to the service, which says everything again; each message once and in order.
pub(crate) async fn conversation(
    scene: &Scene,
    count: usize,
    pace: Duration,
) -> Result<(), String> {
    let relay = scene.relay.home().plain_authority();
    let address = format!("ws://{relay}/c/{CONNECTION}/web/socket");
    let mut request = address.into_client_request().unwrap();
    let token = format!("Bearer {}", scene.token).parse().unwrap();
    request.headers_mut().insert(RELAY_AUTHORIZATION, token);
    let stream = TcpStream::connect(relay).await.unwrap();
    let opened = soon(
        "a WebSocket",
        tokio_tungstenite::client_async(request, stream),
    );
    let (socket, _) = opened
        .await
        .map_err(|error| format!("conversation: {error}"))?;
    let (mut say, mut hear) = socket.split();
    let saying = async {
        for number in 0..count {
            say.send(Message::text(number.to_string()))
                .await
                .map_err(|error| format!("conversation: said {number}: {error}"))?;
            tokio::time::sleep(pace).await;
        }
        Ok(())
    };
    let hearing = async {
        for number in 0..count {
            let heard = tokio::time::timeout(STANDSTILL, hear.next()).await;
            match heard {
                Ok(Some(Ok(message))) if message == Message::text(number.to_string()) => {}
                other => return Err(format!("conversation: in place of {number}: {other:?}")),
            }
        }
        Ok(())
    };
    tokio::try_join!(saying, hearing).map(|_| ())
}
