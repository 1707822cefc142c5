//! How a link task gets its link, and another WebSocket for it: dials, their results, cuts, doubts and moves.
//!
//! The link is made once and resumed as often as needed. Where it cannot be resumed a new one takes its
//! place; the old one then ends, at once when its WebSocket is gone, else when its last call has ended.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::activity::{Activity, DialFailure};
use super::online::Online;
use super::{LinkTask, TaskEnd};
use crate::agent::command::Removal;
use crate::agent::lifecycle::{Happening, Phase};
use crate::agent::state::{self, Standing};
use crate::agent::status::{self, Cut, Duplicate};
use crate::backoff::{STEADY, at_random_within};
use crate::link::client::Connected;
use crate::link::path::Path;
use crate::link::{Link, LinkEnd};
use crate::protocol::CloseCode;

/// Why calls end when the relay does not go on with the session that was offered.
const NOT_KEPT: &str =
    "the relay no longer has the session: it was restarted, or the link was away for too long";
/// The longest time within which a move may be asked for. Longer ones are mistakes.
const LONGEST_MOVE: Duration = Duration::from_secs(3600);

/// As what the loss of a WebSocket counts, where the link is kept.
const WEBSOCKET_LOST: &str = "websocket-lost";

/// How long a WebSocket is used at the least before the link moves again, however often it is asked to.
const SHORTEST_STAY: Duration = Duration::from_secs(1);

impl LinkTask {
    /// Starts what the phase is about, in place of what was under way.
    pub(super) fn begin_activity(&mut self) {
        self.activity = match &self.phase {
            Phase::Dialling { .. } | Phase::Resuming { until: None, .. } => self.dial(),
            Phase::Waiting { until, .. }
            | Phase::Resuming {
                until: Some(until), ..
            } => Activity::wait(until.duration_since(SystemTime::now()).unwrap_or_default()),
            Phase::Online { .. } | Phase::Ended { .. } | Phase::Stopped => Activity::Idle,
        };
    }

    pub(super) fn wait_over(&mut self) {
        match self.phase {
            // The wait before a dial beside the WebSocket in use.
            Phase::Online { .. } => self.activity = self.dial(),
            Phase::Dialling { .. }
            | Phase::Resuming { .. }
            | Phase::Waiting { .. }
            | Phase::Ended { .. }
            | Phase::Stopped => {
                self.step(Happening::WaitOver);
                self.begin_activity();
            }
        }
    }

    pub(super) fn dialled(&mut self, connected: Connected) {
        self.activity = Activity::Idle;
        self.path_since = Instant::now();
        self.is_copy = false;
        self.is_moving = false;
        match connected {
            Connected::Resumed => self.resumed(),
            Connected::New(link) => {
                if let Some(old) = self.online.take() {
                    self.facts.keep_traffic(&old.handle);
                    match self.retirement.place() {
                        // Another process has answered, and the old one still serves what it has.
                        Some(place) if !old.is_away() => {
                            old.retire(place, &self.shutdown);
                        }
                        Some(_) | None => {
                            tracing::warn!(connection = %self.record.name, why = NOT_KEPT, "the link is made anew, and the calls on the old one end");
                            old.handle.abandon(NOT_KEPT);
                        }
                    }
                }
                self.go_online(*link);
            }
        }
    }

    /// What each side knows of the other's state goes on with the session: what the handshake said of it is
    /// older than what the lanes have carried meanwhile.
    fn resumed(&mut self) {
        if self.online.is_none() {
            // The link ended while the relay agreed to go on with it.
            self.step(Happening::DialFailed {
                why: "the link ended while it was being resumed".to_owned(),
                retry_in: Duration::ZERO,
            });
            self.begin_activity();
            return;
        }
        self.facts.resumed += 1;
        self.facts.trouble = None;
        self.step(Happening::Resumed);
        tracing::info!(connection = %self.record.name, "the link goes on over a new WebSocket");
        let path = self.online.as_ref().map(|online| online.path());
        if let Some(Path::Away { why }) = path {
            // Lost again already, which was said while the link still counted as away.
            self.path_lost(why);
        }
    }

    fn go_online(&mut self, link: Link) {
        self.facts.links_made += 1;
        self.succeeds = None;
        self.facts.trouble = None;
        self.facts.relay_software = Some(link.peer.software.clone());
        self.facts.clock_ahead = link.clock_ahead;
        self.facts.deactivated_there = link.peer.deactivated;
        self.facts.last_seen = Some(SystemTime::now());
        self.step(Happening::LinkMade);
        tracing::info!(connection = %self.record.name, relay = %self.record.relay_url, "the link is up");
        let online = Online::begin(
            link,
            &self.record.name,
            self.dialled_deactivated,
            &self.live,
            &self.shutdown,
        );
        self.online = Some(Box::new(online));
        self.update_gate();
    }

    pub(super) async fn dial_failed(&mut self, error: &DialFailure) -> Option<TaskEnd> {
        self.activity = Activity::Idle;
        if let Some(key) = error.refused_key() {
            self.refused_keys.push(key);
            if self.has_another_key().await {
                tracing::warn!(connection = %self.record.name, key = key.fingerprint(), why = %error.why(), "the relay refused this key; another one is tried");
                self.activity = self.dial();
                return None;
            }
        }
        self.refused_keys.clear();
        // Whoever is refused beside its own link is no copy: the relay cannot tell the two apart then.
        self.is_copy = error.is_copy() && !matches!(self.phase, Phase::Online { .. });
        if error.is_final() {
            self.close_link(CloseCode::Internal, "the relay refused to go on");
            return self.refused(error.why()).await;
        }
        if self.is_copy && self.record.standing == Standing::RemovedHere {
            let end = self.forget(Removal::OnlyHere).await;
            if end.is_some() {
                return end;
            }
        }
        let trouble = error.trouble();
        self.facts.count(trouble.code.kind().code);
        let why = error.why();
        let retry_after = error.retry_after();
        let retry_in = match self.phase {
            Phase::Resuming { .. } => self.redial.next_delay_while_kept(retry_after),
            Phase::Dialling { .. }
            | Phase::Online { .. }
            | Phase::Waiting { .. }
            | Phase::Ended { .. }
            | Phase::Stopped => self.redial.next_delay(retry_after),
        };
        if let Phase::Online { .. } = self.phase {
            return self.beside_failed(&why, retry_in);
        }
        self.facts.trouble = Some(trouble);
        tracing::warn!(connection = %self.record.name, %why, retry_in = ?retry_in, "no link");
        self.step(Happening::DialFailed { why, retry_in });
        self.begin_activity();
        None
    }

    /// A dial beside the WebSocket in use failed; it is tried again while there is a reason for it.
    fn beside_failed(&mut self, why: &str, retry_in: Duration) -> Option<TaskEnd> {
        let in_doubt = self
            .online
            .as_ref()
            .is_some_and(|online| online.is_doubtful());
        tracing::debug!(connection = %self.record.name, %why, "no second WebSocket beside the first");
        self.activity = if self.is_moving || in_doubt {
            Activity::wait(retry_in)
        } else {
            Activity::Idle
        };
        None
    }

    pub(super) fn path_changed(&mut self, path: Path) -> Option<TaskEnd> {
        match path {
            Path::Up => {
                // Whoever was doubted has answered; a dial that is under way goes on, a wait for one does not.
                if !self.is_moving
                    && matches!(
                        (&self.phase, &self.activity),
                        (Phase::Online { .. }, Activity::Waiting(_))
                    )
                {
                    self.activity = Activity::Idle;
                }
                None
            }
            Path::Doubtful => {
                tracing::info!(connection = %self.record.name, "an answer of the relay is overdue");
                // A second WebSocket is tried beside the first, where the session can go on over it.
                let can_move = self
                    .online
                    .as_ref()
                    .is_some_and(|online| online.is_resumable());
                if can_move && !self.draining && !matches!(self.activity, Activity::Dialling(_)) {
                    self.activity = self.dial();
                }
                None
            }
            Path::Away { why } => self.path_lost(why),
            // Only the relay leaves a WebSocket before it has the next.
            Path::Moving => None,
        }
    }

    fn path_lost(&mut self, why: String) -> Option<TaskEnd> {
        self.note_last_seen();
        if self.draining && !self.has_calls() {
            // Nothing is left to be told, and nobody would wait for a resumption.
            self.step(Happening::Stopping);
            return Some(TaskEnd::Stopped);
        }
        if let Phase::Resuming { .. } = self.phase {
            // Lost again before anybody saw it come back.
            return None;
        }
        self.answer_removal(Ok(Removal::RelayNotToldYet));
        self.redial.was_cut_after(self.path_since.elapsed());
        let retry_in = self.redial.next_delay(None);
        tracing::warn!(connection = %self.record.name, %why, retry_in = ?retry_in, "the WebSocket is lost; the link is kept and goes on over another");
        self.facts.trouble = None;
        self.facts.count(WEBSOCKET_LOST);
        self.facts.last_cut = Some(Cut {
            at: status::text_of(SystemTime::now()),
            why: why.clone(),
        });
        self.step(Happening::PathLost { why, retry_in });
        if matches!(self.activity, Activity::Dialling(_)) {
            self.step(Happening::WaitOver);
        } else {
            self.begin_activity();
        }
        None
    }

    pub(super) async fn link_ended(&mut self, end: LinkEnd) -> Option<TaskEnd> {
        let why = end.to_string();
        if let Phase::Online { since } = self.phase
            && since.elapsed().is_ok_and(|held| held >= STEADY)
        {
            self.redial.succeeded();
        }
        self.note_last_seen();
        self.facts.trouble = None;
        self.facts.count(end.word());
        if let Some(online) = &self.online {
            self.facts.keep_traffic(&online.handle);
        }
        self.online = None;
        self.rotation_interrupted();
        self.is_moving = false;
        if self.draining {
            self.step(Happening::Stopping);
            return Some(TaskEnd::Stopped);
        }
        if let LinkEnd::ClosedByPeer {
            code: CloseCode::Removed | CloseCode::Revoked,
            ..
        } = end
        {
            return self.refused(why).await;
        }
        self.answer_removal(Ok(Removal::RelayNotToldYet));
        let retry_in = self.redial.next_delay(None);
        tracing::warn!(connection = %self.record.name, %why, retry_in = ?retry_in, "the link is gone");
        self.step(Happening::LinkEnded { why, retry_in });
        if matches!(self.activity, Activity::Dialling(_)) {
            // What is being dialled becomes a new link.
            self.step(Happening::WaitOver);
        } else {
            self.begin_activity();
        }
        None
    }

    /// The relay asks the link to move: after a restart, or for another reason of its own.
    pub(super) fn move_within(&mut self, within: Duration) {
        if self.draining || !matches!(self.activity, Activity::Idle) {
            return;
        }
        let settled = SHORTEST_STAY.saturating_sub(self.path_since.elapsed());
        let delay = at_random_within(within.min(LONGEST_MOVE)).max(settled);
        tracing::info!(connection = %self.record.name, moves_in = ?delay, "the relay asks the link to move to a new WebSocket");
        self.is_moving = true;
        self.activity = Activity::wait(delay);
    }

    pub(super) fn note_duplicate(&mut self, from: String) {
        tracing::error!(
            connection = %self.record.name, %from,
            "another machine has this agent's identity and was refused; remove the copy of the state directory there, or remove the connection and accept a new invitation"
        );
        let at = status::text_of(SystemTime::now());
        self.facts.duplicate = Some(Duplicate { at, from });
    }

    /// Whether any call is under way, of this connection or of another: few enough to look at no closer.
    pub(super) fn has_calls(&self) -> bool {
        self.live
            .calls
            .gateway()
            .upstreams()
            .in_flight()
            .any(|(_, calls, _)| calls > 0)
    }

    /// Whether there is a key of the connection that the relay has not refused yet. Borrows nothing while it waits.
    fn has_another_key(&self) -> impl Future<Output = bool> + Send + use<> {
        let (connection, refused) = (self.record.connection, self.refused_keys.clone());
        let state = Arc::clone(&self.state);
        async move {
            let found = state::off_thread(&state, move |state| {
                state.key_to_prove(connection, &refused)
            });
            matches!(found.await, Ok(Some(_)))
        }
    }

    fn dial(&mut self) -> Activity {
        self.dialled_deactivated = self.record.deactivated;
        let resume = self.online.as_ref().map(|online| online.handle.clone());
        Activity::dial(
            &self.record,
            &self.state,
            &self.live,
            &self.refused_keys,
            resume,
            self.succeeds,
        )
    }
}
