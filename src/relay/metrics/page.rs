//! The relay's figures as a page of metrics, from its parts and counters. `docs/status.md` lists them all.

use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use super::Metrics;
use crate::condition::{Condition, Severity};
use crate::disk::Room;
use crate::metric::process::Process;
use crate::metric::text::{Format, Kind, Page};
use crate::protocol::frame::Lane;
use crate::relay::record::State;
use crate::relay::registry::{Connection, LinkStatus};
use crate::relay::shared::Shared;
use crate::session::LaneTraffic;

/// Connections that have figures of their own, the first by name; the others are in the sums. So many rows a scrape
/// bears well.
const MOST_CONNECTIONS: usize = 1000;

/// The names of the lanes, in the order of [`Lane::BOTH`].
const LANES: [&str; 2] = ["inward", "outward"];

/// Name, help and value of one figure of every lane.
type LaneSeries = (&'static str, &'static str, fn(&LaneTraffic) -> u64);

/// What is told of every lane.
const LANE_SERIES: [LaneSeries; 4] = [
    (
        "relay_link_sent_bytes",
        "Bytes sent on a lane of the link there is, each counted once.",
        |lane| lane.bytes_sent,
    ),
    (
        "relay_link_received_bytes",
        "Bytes received on a lane of the link there is, each counted once.",
        |lane| lane.bytes_received,
    ),
    (
        "relay_link_sent_frames",
        "Data frames sent on a lane of the link there is, repeated ones among them.",
        |lane| lane.frames_sent,
    ),
    (
        "relay_link_received_frames",
        "Data frames received on a lane of the link there is, repeated ones among them.",
        |lane| lane.frames_received,
    ),
];

/// The whole page.
#[must_use]
pub fn page(
    format: Format,
    shared: &Shared,
    conditions: &[Condition],
    rooms: &[Room],
    process: &Process,
) -> String {
    let mut page = Page::new(format);
    let version = env!("CARGO_PKG_VERSION");
    let help = "Always 1; the label says which version runs.";
    page.family("relay_build_info", Kind::Gauge, help)
        .sample(&[("version", version)], 1);
    write_conditions(&mut page, conditions);
    let all = shared.registry.list();
    write_connections(&mut page, &all);
    write_links(&mut page, &all);
    write_reconnects(&mut page, &shared.metrics);
    write_calls(&mut page, &shared.metrics);
    write_certificate(&mut page, shared);
    write_disks(&mut page, rooms);
    process.write(
        &mut page,
        UNIX_EPOCH + Duration::from_secs(shared.started_at),
    );
    page.finish()
}

fn write_conditions(page: &mut Page, conditions: &[Condition]) {
    let help = "1 for each condition that holds; the subject is a connection, or empty.";
    let mut family = page.family("relay_condition", Kind::Gauge, help);
    for one in conditions {
        let labels = [
            ("code", one.code.as_str()),
            ("severity", one.severity.word()),
            ("subject", &one.subject),
        ];
        family.sample(&labels, 1);
    }
    let help = "How many conditions hold, by severity.";
    let mut family = page.family("relay_conditions", Kind::Gauge, help);
    for severity in [Severity::Critical, Severity::Warning] {
        let number = conditions.iter().filter(|one| one.severity == severity);
        family.sample(&[("severity", severity.word())], number.count());
    }
}

fn write_connections(page: &mut Page, all: &[std::sync::Arc<Connection>]) {
    let mut counts = [
        ("pending", 0),
        ("active", 0),
        ("deactivated", 0),
        ("removed", 0),
    ];
    for connection in all {
        let place = match connection.state() {
            State::Pending => 0,
            State::Active => 1,
            State::Deactivated(_) => 2,
            State::Removed => 3,
        };
        if let Some((_, count)) = counts.get_mut(place) {
            *count += 1;
        }
    }
    let help = "Connections by state.";
    let mut family = page.family("relay_connections", Kind::Gauge, help);
    for (state, count) in counts {
        family.sample(&[("state", state)], count);
    }
    let online = all.iter().filter(|one| one.is_online()).count();
    page.family("relay_links_online", Kind::Gauge, "Agents that are linked.")
        .sample(&[], online);
    let in_flight: usize = all.iter().map(|one| one.calls_in_flight()).sum();
    page.family("relay_calls_in_flight", Kind::Gauge, "Calls under way.")
        .sample(&[], in_flight);
    let waiting: usize = all.iter().map(|one| one.calls_waiting()).sum();
    let help = "Calls that wait for an agent that is on its way back.";
    page.family("relay_calls_waiting", Kind::Gauge, help)
        .sample(&[], waiting);
    let help = "Calls of a connection under way.";
    let mut family = page.family("relay_connection_calls_in_flight", Kind::Gauge, help);
    for connection in all.iter().take(MOST_CONNECTIONS) {
        let labels = [("connection", connection.name().as_str())];
        family.sample(&labels, connection.calls_in_flight());
    }
}

fn write_links(page: &mut Page, all: &[std::sync::Arc<Connection>]) {
    let shown = || all.iter().take(MOST_CONNECTIONS);
    let help = "Whether the connection's agent is linked.";
    let mut family = page.family("relay_link_up", Kind::Gauge, help);
    for connection in shown() {
        let up = matches!(connection.link_status(), LinkStatus::Online(_));
        family.sample(&[("connection", connection.name().as_str())], u8::from(up));
    }
    let live: Vec<_> = shown()
        .filter_map(|connection| Some((connection.name().as_str(), connection.live()?)))
        .collect();
    let help = "Since when the link is up, in seconds since 1970.";
    let mut family = page.family("relay_link_since_seconds", Kind::Gauge, help);
    for (name, live) in &live {
        family.sample(&[("connection", name)], live.since);
    }
    let help = "How often the link there is has gone on over another WebSocket.";
    let mut family = page.family("relay_link_resumed", Kind::Counter, help);
    for (name, live) in &live {
        family.sample(&[("connection", name)], live.resumed());
    }
    let stats: Vec<_> = live
        .iter()
        .map(|(name, live)| (*name, live.handle.stats()))
        .collect();
    let help = "The time to the agent and back, smoothed.";
    let mut family = page.family("relay_link_round_trip_seconds", Kind::Gauge, help);
    for (name, stats) in &stats {
        family.sample(&[("connection", name)], stats.round_trip.as_secs_f64());
    }
    for (name, help, value) in LANE_SERIES {
        let mut family = page.family(name, Kind::Counter, help);
        for (connection, stats) in &stats {
            for lane in Lane::BOTH {
                let place = lane.index();
                if let (Some(word), Some(traffic)) = (LANES.get(place), stats.traffic.get(place)) {
                    family.sample(
                        &[("connection", connection), ("lane", word)],
                        value(traffic),
                    );
                }
            }
        }
    }
    let help = "Bytes sent on a lane that the agent has not acknowledged.";
    let mut family = page.family("relay_link_unacknowledged_bytes", Kind::Gauge, help);
    for (connection, stats) in &stats {
        for (word, traffic) in LANES.iter().zip(&stats.traffic) {
            let labels = [("connection", *connection), ("lane", *word)];
            family.sample(&labels, traffic.unacknowledged);
        }
    }
}

fn write_reconnects(page: &mut Page, metrics: &Metrics) {
    let help = "Links made since the start; one that goes on over another WebSocket counts once.";
    page.family("relay_links_made", Kind::Counter, help)
        .sample(&[], metrics.links_made.load(Ordering::Relaxed));
    let help = "Links that lost their WebSocket or ended, by reason.";
    let mut family = page.family("relay_reconnects", Kind::Counter, help);
    for (reason, count) in metrics.reconnects.counted() {
        family.sample(&[("reason", reason)], count);
    }
}

fn write_certificate(page: &mut Page, shared: &Shared) {
    let help = "When the certificate in use expires, in seconds since 1970; absent where TLS ends elsewhere.";
    let mut family = page.family("relay_certificate_expires_seconds", Kind::Gauge, help);
    let expires_at = shared.tls.as_ref().and_then(|tls| tls.health().expires_at);
    if let Some(since_1970) = expires_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
        family.sample(&[], since_1970.as_secs());
    }
}

fn write_disks(page: &mut Page, rooms: &[Room]) {
    let help = "What may still be written to the directory's file system.";
    let mut family = page.family("relay_disk_free_bytes", Kind::Gauge, help);
    for room in rooms {
        family.sample(&[("directory", &room.directory)], room.free_bytes);
    }
}

fn write_calls(page: &mut Page, metrics: &Metrics) {
    let help = "Calls answered, by method and class of status.";
    let mut family = page.family("relay_calls", Kind::Counter, help);
    for (method, class, count) in metrics.calls.counted() {
        family.sample(&[("method", method), ("status", class)], count);
    }
    let help = "From the head of a call to the head of its answer.";
    page.family("relay_call_duration_seconds", Kind::Histogram, help)
        .histogram(&[], &metrics.calls.durations());
    let help = "Calls that the relay answered itself, by the code of its problem document.";
    let mut family = page.family("relay_refusals", Kind::Counter, help);
    for (reason, count) in metrics.refusals.counted() {
        family.sample(&[("reason", reason)], count);
    }
    for (name, help, hits) in [
        (
            "relay_sockets_turned_away",
            "Sockets turned away because their address has as many open as it may have.",
            &metrics.sockets_turned_away,
        ),
        (
            "relay_agents_turned_away",
            "Agents turned away because too many handshakes were under way.",
            &metrics.agents_turned_away,
        ),
        (
            "relay_accepts_failed",
            "Sockets that could not be accepted.",
            &metrics.accepts_failed,
        ),
    ] {
        page.family(name, Kind::Counter, help)
            .sample(&[], hits.happened().times);
    }
}
