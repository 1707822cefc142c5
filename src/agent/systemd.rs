//! What systemd is told: ready, one line of status, stopping, and that the agent still answers.
//!
//! Outside of systemd every function here does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::agent::command::{Command, Commands};
use crate::agent::supervisor::Summary;

/// Says that the agent is up; then keeps the status line true and the watchdog quiet, for as long as
/// the supervisor runs and answers.
pub async fn report(mut summaries: watch::Receiver<Summary>, commands: Commands) {
    tell(&[NotifyState::Ready]);
    // Half of what systemd allows, as sd_watchdog_enabled(3) advises.
    let pause = sd_notify::watchdog_enabled().map(|allowed| allowed / 2);
    loop {
        let line = summaries.borrow_and_update().to_string();
        tell(&[NotifyState::Status(&line)]);
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

/// Says that the agent is about to stop.
pub fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("letting calls in flight finish"),
    ]);
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
