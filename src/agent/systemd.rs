//! What systemd is told: ready, one line of status, stopping, and that the agent still answers.
//!
//! Outside of systemd every function here does nothing.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::agent::command::{Command, Commands};
use crate::agent::live::Live;
use crate::agent::supervisor::Summary;
use crate::shutdown::Shutdown;

/// How often the line of status is looked at while calls in flight finish.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Says that the agent is up; then keeps the status line true and the watchdog quiet, for as long as
/// the supervisor runs and answers.
pub async fn report(
    mut summaries: watch::Receiver<Summary>,
    commands: Commands,
    shutdown: Shutdown,
) {
    tell(&[NotifyState::Ready]);
    // Half of what systemd allows, as sd_watchdog_enabled(3) advises.
    let pause = sd_notify::watchdog_enabled().map(|allowed| allowed / 2);
    loop {
        let line = summaries.borrow_and_update().to_string();
        // What it stops for is told by another then.
        if !shutdown.is_draining() {
            tell(&[NotifyState::Status(&line)]);
        }
        tokio::select! {
            // Both are cancel-safe: the summary is read again, the watchdog asked again.
            changed = summaries.changed() => if changed.is_err() {
                return;
            },
            () = watchdog(pause, &commands) => return,
        }
    }
}

/// Says that another process is the service's from now on. What this one says is not listened to any more.
pub fn hand_over(process_id: u32) {
    tell(&[NotifyState::MainPid(process_id)]);
}

/// Says that no other process could take over, until there is something else to say. The time tells one try from
/// another: the packages' scripts wait for a text that is new.
pub fn not_handed_over(why: &str) {
    let at = humantime::format_rfc3339_millis(SystemTime::now());
    let line = format!("no hand-over at {at}: {why}");
    tell(&[NotifyState::Status(&line)]);
}

/// Says that the agent is about to stop.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says again and again what it waits for. Harmless to drop.
pub async fn tell_stopping(shutdown: &Shutdown, deadline: Duration, live: &Live) -> Infallible {
    let mut told = None;
    loop {
        let waits_for = shutdown.draining_for(deadline, live.calls_under_way());
        if told != waits_for
            && let Some(waits_for) = &waits_for
        {
            let line = format!("stopping: {}", waits_for.in_words());
            tell(&[NotifyState::Status(&line)]);
        }
        told = waits_for;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Pets the watchdog only after the supervisor has answered, so that a stuck agent is restarted.
/// Returns when the supervisor is gone.
async fn watchdog(pause: Option<Duration>, commands: &Commands) {
    let Some(pause) = pause else {
        return std::future::pending().await;
    };
    loop {
        let asked = commands.ask(|reply| Command::Connections { reply }).await;
        if asked.is_err() {
            return;
        }
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(pause).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
