//! How the relay is: gathers what its conditions are found in, and notes in the log when one begins or ends.

use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::api::views::ConnectionView;
use super::clock;
use super::conditions::{self, Seen};
use super::config::TlsMode;
use super::metrics::page;
use super::shared::Shared;
use crate::body::{self, Body};
use crate::condition::Condition;
use crate::disk::Room;
use crate::metric::process::Process;
use crate::metric::text::Format;

/// How long the database may take to say that it is there. A disk that stands still must not hold up who asks how
/// the relay is.
const STORE_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked, whoever asks: several times within the interval of an ordinary monitor.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// The first look after the start: agents come back within moments.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Looks now and then until it is dropped, which is harmless at any point.
pub(super) async fn follow(shared: &Shared) {
    let mut pause = FIRST_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        look(shared).await;
        pause = LOOK_EVERY;
    }
}

/// What is the matter now, the worst first. What began or ended since the last look is in the log.
pub async fn look(shared: &Shared) -> Vec<Condition> {
    look_and_measure(shared).await.0
}

/// The same, and the room there is.
async fn look_and_measure(shared: &Shared) -> (Vec<Condition>, Vec<Room>) {
    let metrics = &shared.metrics;
    let answers = tokio::time::timeout(STORE_ANSWERS_WITHIN, shared.store.is_healthy());
    // Side by side: when the disk is dead, the database on it is silent too.
    let (answers, disks) = tokio::join!(answers, shared.disks.look());
    let seen = Seen {
        draining: shared.draining(),
        store_answers: answers.unwrap_or(false),
        store_trouble: shared.store.trouble(),
        disks,
        listeners: metrics.listeners(),
        is_trial: matches!(shared.config.tls, TlsMode::SelfSigned),
        certificate: shared.tls.as_ref().map(|tls| tls.health()),
        sockets_turned_away: metrics.sockets_turned_away.happened(),
        agents_turned_away: metrics.agents_turned_away.happened(),
        calls_turned_away: metrics.calls_turned_away.happened(),
        accepts_failed: metrics.accepts_failed.happened(),
        connections: views(shared),
    };
    let now = SystemTime::now();
    let findings = conditions::of(&seen, now);
    let mut ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let news = ledger.look(findings, now);
    let conditions = ledger.conditions();
    drop(ledger);
    news.log();
    (conditions, seen.disks.rooms)
}

/// The metrics, in the format that is asked for.
pub async fn metrics(shared: &Shared, accept: Option<&HeaderValue>) -> Response<Body> {
    let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
    let (conditions, rooms) = look_and_measure(shared).await;
    let text = page::page(format, shared, &conditions, &rooms, &Process::now());
    let mut response = Response::new(body::full(text));
    let kind = HeaderValue::from_static(format.content_type());
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn views(shared: &Shared) -> Vec<ConnectionView> {
    let now = clock::now();
    let all = shared.registry.list();
    let views = all
        .iter()
        .map(|connection| ConnectionView::new(connection, now));
    views.collect()
}
