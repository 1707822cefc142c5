//! What the relay does now and then: notes when agents were last seen, and tells systemd how it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use super::clock;
use super::shared::Shared;
use crate::error_chain::chain;

/// How often the times of agents that are linked are stored: what a power cut may make them old.
pub(super) const LAST_SEEN_EVERY: Duration = Duration::from_secs(60);
/// How long after a link came up or ended its time is stored, so that a thousand together are one write.
const SETTLE: Duration = Duration::from_millis(500);

/// How often a relay that shares its store looks whether another has changed it: what is revoked or removed
/// there takes effect here, a live link included, within this and half a second.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often the line of status is looked at while calls under way finish.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// Runs until it is dropped, which is harmless at any point.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            // Both are cancel-safe: a wake-up that is lost here is made good by the next interval.
            () = tokio::time::sleep(LAST_SEEN_EVERY) => {}
            () = shared.registry.link_changed() => tokio::time::sleep(SETTLE).await,
        }
        note_last_seen(&shared).await;
        tell_status(&shared);
    }
}

/// Keeps systemd's watchdog quiet for as long as tasks still get their turn. Not with the rest: a disk
/// that stands still for a minute is no reason to cut every link.
pub(super) async fn watchdog() {
    // Half of what systemd allows, as sd_watchdog_enabled(3) advises.
    let Some(pause) = sd_notify::watchdog_enabled().map(|allowed| allowed / 2) else {
        return;
    };
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(pause).await;
    }
}

/// Keeps memory in step with a store that another relay may change. Never returns; harmless to drop.
pub(super) async fn follow_the_store(shared: Arc<Shared>) {
    let mut seen = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let changes = match shared.store.foreign_changes().await {
            Ok(changes) => changes,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "could not see whether another relay has changed the store");
                continue;
            }
        };
        // The first look takes over what was changed since the start.
        if seen == Some(changes) {
            continue;
        }
        match shared.connections.catch_up().await {
            Ok(()) => seen = Some(changes),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "what another relay has stored could not be read");
            }
        }
    }
}

/// Stores when agents were last seen, where that has changed.
pub(super) async fn note_last_seen(shared: &Shared) {
    let now = clock::now();
    let connections = shared.registry.list();
    let seen: Vec<_> = connections
        .iter()
        .filter_map(|connection| connection.take_last_seen(now))
        .collect();
    if seen.is_empty() {
        return;
    }
    if let Err(error) = shared.store.set_last_seen(seen).await {
        tracing::warn!(error = %chain(&error), "could not note when agents were last seen");
    }
}

/// Says again and again what the relay waits for until it stops. Harmless to drop.
pub(super) async fn tell_stopping(shared: &Shared) -> Infallible {
    let mut told = None;
    loop {
        let waits_for = shared.draining();
        if told != waits_for
            && let Some(waits_for) = &waits_for
        {
            let line = format!("stopping: {}", waits_for.in_words());
            tell(&[NotifyState::Status(&line)]);
        }
        told = waits_for;
        tokio::time::sleep(TELL_AGAIN).await;
    }
}

fn tell_status(shared: &Shared) {
    // What it stops for is told by another then.
    if shared.shutdown.is_draining() {
        return;
    }
    let all = shared.registry.list();
    let online = all.iter().filter(|one| one.is_online()).count();
    let line = format!("{online} of {} connections linked", all.len());
    tell(&[NotifyState::Status(&line)]);
}

/// Tells systemd; outside of it this does nothing.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
