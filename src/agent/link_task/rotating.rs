//! How a link task gives its connection a new identity key: when it is due or asked for, over the live link.
//!
//! The work on the disk and on the lane is one future, which may be dropped at any point: what is on the
//! disk by then is gone on with on the next link (`protocol::rotation`). A rotation that fails is
//! tried again later, and never touches the link: no key is too old to be used.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::Sleep;

use super::activity::Activity;
use super::{Event, LinkTask};
use crate::agent::command::{CommandError, Rotation};
use crate::agent::control::{self, TellError};
use crate::agent::lifecycle::Phase;
use crate::agent::state::{self, HeldKey, RotationStep, Standing, StateDirectory, StateError};
use crate::agent::status::KeyFacts;
use crate::error_chain::chain;
use crate::identity::{ConnectionId, PublicKey};
use crate::link::http2::LaneClient;
use crate::protocol::handshake::Transcript;

/// The first wait after a rotation failed; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(60);
/// The longest wait: a disk that was full for days is noticed within a morning.
const LONGEST_RETRY: Duration = Duration::from_secs(6 * 60 * 60);
/// How often it is looked whether a key is due: clocks are set, and configurations change.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);
/// Steps of one rotation: the disk asks for one announcement, and after it for nothing or one more.
const MOST_STEPS: usize = 3;

/// Where the answer to an order to rotate goes.
type Reply = oneshot::Sender<Result<Rotation, CommandError>>;
type Work = Pin<Box<dyn Future<Output = Result<Outcome, RotateFailure>> + Send>>;

/// What a live link offers to a rotation, when its relay knows how.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) outward: LaneClient,
    pub(super) transcript: Transcript,
}

/// The rotation of one connection's key.
pub(super) struct Rotating {
    /// The key with which the link was last made or resumed.
    proven: Option<PublicKey>,
    work: Option<Work>,
    /// Whether the work under way was begun for a new key, and not only to see what is left to do.
    works_for_new_key: bool,
    /// Until it is looked again.
    wait: Pin<Box<Sleep>>,
    is_wanted: bool,
    failures: u32,
    /// Who waits for the outcome. No longer than the admin socket has connections.
    replies: Vec<Reply>,
}

/// How a rotation went.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The key that is current now.
    current: HeldKey,
    has_changed: bool,
}

/// Why a rotation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum RotateFailure {
    /// The disk.
    #[error("the keys on the disk could not be changed")]
    State(#[source] StateError),
    /// The relay, or the way to it.
    #[error("the public side has not taken the new key")]
    Tell(#[source] TellError),
}

impl Rotating {
    pub(super) fn new() -> Self {
        Self {
            proven: None,
            work: None,
            works_for_new_key: false,
            wait: Box::pin(tokio::time::sleep(LOOK_EVERY)),
            is_wanted: false,
            failures: 0,
            replies: Vec::new(),
        }
    }

    /// Cancel-safe: the futures are kept, not moved into this one.
    pub(super) async fn next_event(&mut self) -> Event {
        tokio::select! {
            outcome = optional(&mut self.work) => {
                self.work = None;
                Event::Rotated(outcome)
            }
            () = &mut self.wait => {
                self.look_again_in(LOOK_EVERY);
                Event::RotationDue
            }
        }
    }

    fn look_again_in(&mut self, delay: Duration) {
        let at = tokio::time::Instant::now() + delay.min(LOOK_EVERY.max(LONGEST_RETRY));
        self.wait.as_mut().reset(at);
    }

    fn answer(&mut self, answer: &Result<Rotation, CommandError>) {
        for reply in self.replies.drain(..) {
            let _ = reply.send(answer.clone());
        }
    }
}

impl LinkTask {
    /// The link was made, or goes on, with this key.
    pub(super) fn key_proven(&mut self, held: &HeldKey) {
        self.note_key(held);
        self.rotating.proven = Some(held.key.public_key());
        // What was under way was for another link, or has to look at the disk again.
        self.rotating.work = None;
        self.refused_keys.clear();
        self.begin_rotation();
    }

    /// The link is gone; what was under way goes on with the next one.
    pub(super) fn rotation_interrupted(&mut self) {
        self.rotating.work = None;
        self.rotating.proven = None;
        self.rotating.answer(&Ok(Rotation::WhenLinked));
    }

    pub(super) fn rotate(&mut self, reply: Reply) {
        if let Standing::Ended { why, .. } = &self.record.standing {
            let (name, why) = (self.record.name.to_string(), why.clone());
            let _ = reply.send(Err(CommandError::Ended { name, why }));
            return;
        }
        let Some(online) = self.online.as_ref().filter(|online| !online.is_away()) else {
            self.rotating.is_wanted = true;
            let _ = reply.send(Ok(Rotation::WhenLinked));
            return;
        };
        if online.means.is_none() {
            let name = self.record.name.to_string();
            let _ = reply.send(Err(CommandError::NoRotation(name)));
            return;
        }
        self.rotating.is_wanted = true;
        self.rotating.replies.retain(|waiting| !waiting.is_closed());
        self.rotating.replies.push(reply);
        self.begin_rotation();
    }

    /// A key may be due, or a failed rotation to be tried again.
    pub(super) fn rotation_due(&mut self) {
        self.schedule_rotation();
        self.begin_rotation();
    }

    pub(super) fn rotated(&mut self, outcome: Result<Outcome, RotateFailure>) {
        match outcome {
            Ok(Outcome {
                current,
                has_changed,
            }) => {
                self.rotating.failures = 0;
                self.note_key(&current);
                if !has_changed {
                    self.nothing_rotated();
                    return;
                }
                self.rotating.is_wanted = false;
                let fingerprint = current.key.public_key().fingerprint();
                tracing::info!(connection = %self.record.name, key = fingerprint, "the connection has a new identity key");
                self.rotating.answer(&Ok(Rotation::Done { fingerprint }));
                self.prove_the_new_key(current.key.public_key());
            }
            Err(error) => self.rotation_failed(&error),
        }
    }

    /// Nothing was left to do. A new key may have been asked for meanwhile.
    fn nothing_rotated(&mut self) {
        if !self.rotating.is_wanted {
            return;
        }
        if self.rotating.works_for_new_key {
            // The key of the link is gone from the disk: the next link is made with one that is there.
            self.rotating.answer(&Ok(Rotation::WhenLinked));
        } else {
            self.begin_rotation();
        }
    }

    fn rotation_failed(&mut self, error: &RotateFailure) {
        let why = chain(error).to_string();
        let retry_in = FIRST_RETRY
            .saturating_mul(1 << self.rotating.failures.min(16))
            .min(LONGEST_RETRY);
        self.rotating.failures = self.rotating.failures.saturating_add(1);
        tracing::warn!(connection = %self.record.name, %why, retry_in = ?retry_in, "the connection keeps its identity key for now; it stays good");
        self.rotating.look_again_in(retry_in);
        let name = self.record.name.to_string();
        self.rotating.answer(&Err(CommandError::NotRotated {
            name,
            why: why.clone(),
        }));
        if let Some(key) = &mut self.facts.key {
            key.trouble = Some(why);
            key.failures = self.rotating.failures;
        }
    }

    /// A WebSocket beside the one in use proves the new key, which ends the old one on the relay. Where the
    /// link cannot go on over another, the next link does that.
    fn prove_the_new_key(&mut self, current: PublicKey) {
        let can_move = self
            .online
            .as_ref()
            .is_some_and(|online| online.is_resumable());
        let is_proven = self.rotating.proven == Some(current);
        let is_idle = matches!(self.activity, Activity::Idle);
        if matches!(self.phase, Phase::Online { .. })
            && can_move
            && is_idle
            && !is_proven
            && !self.draining
        {
            self.is_moving = true;
            self.activity = Activity::wait(Duration::ZERO);
        }
    }

    fn begin_rotation(&mut self) {
        let (Some(online), Some(proven)) = (&self.online, self.rotating.proven) else {
            return;
        };
        if let Some(key) = &mut self.facts.key {
            key.is_supported = Some(online.means.is_some());
        }
        let is_free = self.rotating.work.is_none() && !online.is_away();
        if !is_free || self.draining || self.record.standing != Standing::Kept {
            return;
        }
        let Some(means) = online.means.clone() else {
            return;
        };
        let (state, connection) = (Arc::clone(&self.state), self.record.connection);
        let is_wanted = self.rotating.is_wanted;
        self.rotating.works_for_new_key = is_wanted;
        self.rotating.work = Some(Box::pin(work(state, connection, means, proven, is_wanted)));
    }

    fn note_key(&mut self, held: &HeldKey) {
        let former = self.facts.key.take();
        let is_supported = former.as_ref().and_then(|key| key.is_supported);
        // What failed over the last link is no better for a new one.
        let failures = self.rotating.failures;
        let trouble = former.and_then(|key| key.trouble);
        self.facts.key = Some(KeyFacts {
            fingerprint: held.key.public_key().fingerprint(),
            since: held.made_at,
            due_at: None,
            is_supported,
            trouble: trouble.filter(|_| failures > 0),
            failures,
        });
        self.schedule_rotation();
    }

    /// Says when the key is due, and looks again then.
    fn schedule_rotation(&mut self) {
        let rotate_after = self.live.parts().rotate_after;
        let Some(key) = &mut self.facts.key else {
            return;
        };
        key.due_at = rotate_after.map(|after| due_at(key.since, after, &key.fingerprint));
        let Some(due_at) = key.due_at else {
            return;
        };
        match due_at.duration_since(SystemTime::now()) {
            Ok(left) => self
                .rotating
                .look_again_in(left.clamp(Duration::from_secs(1), LOOK_EVERY)),
            Err(_) => {
                self.rotating.is_wanted = true;
                self.rotating.look_again_in(LOOK_EVERY);
            }
        }
    }
}

/// When a key is due: a tenth more or less than configured, by the key itself, so that agents that were set up
/// together do not rotate together, and a restart changes nothing.
fn due_at(since: SystemTime, after: Duration, fingerprint: &str) -> SystemTime {
    let lot = fingerprint
        .get(..2)
        .and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let spread = after / 5 * u32::from(lot.unwrap_or(128)) / 255;
    let due = since.checked_add(after - after / 10 + spread);
    // A key from the future was made under a wrong clock: as if it were made now.
    due.unwrap_or(since)
}

/// The whole of one rotation, on one link. Each step is safe to repeat; see the module.
async fn work(
    state: Arc<StateDirectory>,
    connection: ConnectionId,
    means: Means,
    proven: PublicKey,
    is_wanted: bool,
) -> Result<Outcome, RotateFailure> {
    let mut has_changed = false;
    for _ in 0..MOST_STEPS {
        let transcript = means.transcript;
        let is_wanted = is_wanted && !has_changed;
        let step = state::off_thread(&state, move |state| {
            state.rotation_step(connection, &transcript, proven, is_wanted)
        });
        match step.await.map_err(RotateFailure::State)? {
            RotationStep::Nothing => break,
            RotationStep::Promoted => has_changed = true,
            RotationStep::Announce(message) => {
                control::announce(&means.outward, &message)
                    .await
                    .map_err(RotateFailure::Tell)?;
                let next = message.next;
                state::off_thread(&state, move |state| state.key_confirmed(connection, next))
                    .await
                    .map_err(RotateFailure::State)?;
                // With the link of a former key there is nothing more to be done.
                has_changed = true;
                break;
            }
        }
    }
    let current = state::off_thread(&state, move |state| state.current_key(connection));
    Ok(Outcome {
        current: current.await.map_err(RotateFailure::State)?,
        has_changed,
    })
}

/// Waits for a future that may not be there.
async fn optional<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_that_were_set_up_together_rotate_at_different_times_and_within_a_tenth() {
        let month = Duration::from_secs(30 * 24 * 3600);
        let now = SystemTime::now();
        let dues: std::collections::BTreeSet<_> = (0..=255)
            .map(|lot| due_at(now, month, &format!("{lot:02x}00-0000-0000-0000")))
            .collect();
        assert_eq!(dues.len(), 256);
        for due in dues {
            let age = due.duration_since(now).unwrap();
            assert!(
                age >= month - month / 10 && age <= month + month / 10,
                "{age:?}"
            );
        }
    }
}
