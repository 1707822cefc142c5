//! What a link task does to its connection's record: the administrator's orders, and the relay's last word.
//!
//! A change counts once it is on disk; what could not be written down was not done.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;

use super::{Activity, LinkTask, TaskEnd};
use crate::agent::command::{CommandError, Removal};
use crate::agent::lifecycle::{Happening, Phase};
use crate::agent::state::{self, ConnectionRecord, Standing, StateError};
use crate::agent::status::ConnectionStatus;
use crate::backoff::Redial;
use crate::error_chain::chain;

/// Where the answer to an order to remove the connection goes.
type RemovalReply = oneshot::Sender<Result<Removal, CommandError>>;

/// Who waits for the relay to be told of the removal. No longer than the admin socket has connections:
/// those who have gone are let go of.
#[derive(Debug, Default)]
pub(super) struct Removals(Vec<RemovalReply>);

impl Removals {
    fn push(&mut self, reply: RemovalReply) {
        self.0.retain(|waiting| !waiting.is_closed());
        self.0.push(reply);
    }

    fn answer(&mut self, answer: &Result<Removal, CommandError>) {
        for reply in self.0.drain(..) {
            let _ = reply.send(answer.clone());
        }
    }
}

impl LinkTask {
    pub(super) async fn set_deactivated(
        &mut self,
        deactivated: bool,
    ) -> Result<ConnectionStatus, CommandError> {
        match &self.record.standing {
            Standing::Kept => {}
            Standing::RemovedHere => {
                return Err(CommandError::NoSuchConnection(self.record.name.to_string()));
            }
            Standing::Ended { why, .. } => {
                return Err(CommandError::Ended {
                    name: self.record.name.to_string(),
                    why: why.clone(),
                });
            }
        }
        let changed = ConnectionRecord {
            deactivated,
            ..self.record.clone()
        };
        let written = self.write(changed).await;
        written.map_err(|error| CommandError::State(Arc::new(error)))?;
        tracing::info!(connection = %self.record.name, deactivated, "this side changed the connection's state");
        self.update_gate();
        Ok(self.status())
    }

    pub(super) async fn remove(&mut self, reply: RemovalReply) -> Option<TaskEnd> {
        self.removals.push(reply);
        if matches!(self.record.standing, Standing::Ended { .. }) {
            return self.forget(Removal::Done).await;
        }
        if self.is_copy {
            return self.forget(Removal::OnlyHere).await;
        }
        if self.record.standing != Standing::RemovedHere {
            let changed = ConnectionRecord {
                standing: Standing::RemovedHere,
                ..self.record.clone()
            };
            if let Err(error) = self.write(changed).await {
                self.answer_removal(Err(CommandError::State(Arc::new(error))));
                return None;
            }
            tracing::info!(connection = %self.record.name, "this side removed the connection");
            self.update_gate();
        }
        // On a live link the answer waits until the relay has confirmed, or the link is gone.
        if self.online.as_ref().is_none_or(|online| online.is_away()) {
            self.answer_removal(Ok(Removal::RelayNotToldYet));
        }
        None
    }

    /// Whoever accepts again has mended something: nothing is waited for.
    pub(super) fn adopt(&mut self, record: ConnectionRecord) {
        self.record = record;
        if matches!(self.phase, Phase::Ended { .. } | Phase::Waiting { .. }) {
            self.phase = Phase::begin();
            self.redial = Redial::new();
            self.begin_activity();
        } else if matches!(self.phase, Phase::Resuming { until: Some(_), .. }) {
            self.wait_over();
        }
        self.update_gate();
    }

    /// The relay will never accept this connection again: remembers it, and stays to tell people.
    pub(super) async fn refused(&mut self, why: String) -> Option<TaskEnd> {
        if self.record.standing == Standing::RemovedHere {
            // Both sides want it gone; nobody is left to be told.
            let end = self.forget(Removal::Done).await;
            if end.is_some() {
                return end;
            }
            // Its files are still there: shown as ended, it can be removed once more.
        }
        tracing::error!(connection = %self.record.name, %why, "the connection has ended");
        let now = SystemTime::now();
        let changed = ConnectionRecord {
            standing: Standing::Ended {
                why: why.clone(),
                at: state::unix_seconds(now),
            },
            ..self.record.clone()
        };
        self.record = changed.clone();
        if let Err(error) = self.write(changed).await {
            tracing::error!(connection = %self.record.name, error = %chain(&error), "the end could not be written down");
        }
        self.step(Happening::Refused { why });
        self.activity = Activity::Idle;
        self.online = None;
        self.rotation_interrupted();
        self.retirement.end();
        None
    }

    /// Removes record and key, answers those who wait for it, and ends the task.
    pub(super) async fn forget(&mut self, removal: Removal) -> Option<TaskEnd> {
        tracing::info!(connection = %self.record.name, ?removal, "the connection is forgotten");
        let connection = self.record.connection;
        let (end, answer) = match state::off_thread(&self.state, move |state| {
            state.forget(connection)
        })
        .await
        {
            Ok(()) => {
                self.retirement.end();
                (Some(TaskEnd::Forgotten), Ok(removal))
            }
            Err(error) => {
                tracing::error!(connection = %self.record.name, error = %chain(&error), "the connection's files could not be removed");
                (None, Err(CommandError::State(Arc::new(error))))
            }
        };
        self.answer_removal(answer);
        end
    }

    pub(super) fn answer_removal(&mut self, answer: Result<Removal, CommandError>) {
        self.removals.answer(&answer);
    }

    pub(super) async fn write(&mut self, changed: ConnectionRecord) -> Result<(), StateError> {
        let written = changed.clone();
        state::off_thread(&self.state, move |state| state.save(&written)).await?;
        self.record = changed;
        Ok(())
    }
}
