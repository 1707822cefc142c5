//! What a link task does to its connection's record: the administrator's orders, and the relay's last word.
//!
//! A change counts once it is on disk; what could not be written down was not done.

use std::time::SystemTime;

use tokio::sync::oneshot;

use super::{Activity, LinkTask, TaskEnd};
use crate::agent::command::{CommandError, Removal};
use crate::agent::lifecycle::{Happening, Phase};
use crate::agent::state::{self, ConnectionRecord, Standing, StateError};
use crate::agent::status::ConnectionStatus;
use crate::backoff::Redial;
use crate::error_chain::chain;

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
        self.write(changed).await.map_err(CommandError::State)?;
        tracing::info!(connection = %self.record.name, deactivated, "this side changed the connection's state");
        self.update_gate();
        Ok(self.status())
    }

    pub(super) async fn remove(
        &mut self,
        reply: oneshot::Sender<Result<Removal, CommandError>>,
    ) -> Option<TaskEnd> {
        if matches!(self.record.standing, Standing::Ended { .. }) {
            return self.forget(Some(reply), Removal::Done).await;
        }
        if self.is_copy {
            return self.forget(Some(reply), Removal::OnlyHere).await;
        }
        let changed = ConnectionRecord {
            standing: Standing::RemovedHere,
            ..self.record.clone()
        };
        if let Err(error) = self.write(changed).await {
            let _ = reply.send(Err(CommandError::State(error)));
            return None;
        }
        tracing::info!(connection = %self.record.name, "this side removed the connection");
        self.update_gate();
        if matches!(self.activity, Activity::Online(_)) {
            // The answer waits until the relay has confirmed, or the link is gone.
            self.removal = Some(reply);
        } else {
            let _ = reply.send(Ok(Removal::RelayNotToldYet));
        }
        None
    }

    pub(super) fn adopt(&mut self, record: ConnectionRecord) {
        self.record = record;
        if matches!(self.phase, Phase::Ended { .. }) {
            self.phase = Phase::begin();
            self.redial = Redial::new();
            self.begin_activity();
        }
        self.update_gate();
    }

    /// The relay will never accept this connection again: remembers it, and stays to tell people.
    pub(super) async fn refused(&mut self, why: String) -> Option<TaskEnd> {
        if self.record.standing == Standing::RemovedHere {
            // Both sides want it gone; nobody is left to be told.
            let reply = self.removal.take();
            return self.forget(reply, Removal::Done).await;
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
        None
    }

    /// Removes record and key, and ends the task.
    pub(super) async fn forget(
        &mut self,
        reply: Option<oneshot::Sender<Result<Removal, CommandError>>>,
        removal: Removal,
    ) -> Option<TaskEnd> {
        tracing::info!(connection = %self.record.name, ?removal, "the connection is forgotten");
        let connection = self.record.connection;
        let (end, answer) = match state::off_thread(&self.state, move |state| {
            state.forget(connection)
        })
        .await
        {
            Ok(()) => (Some(TaskEnd::Forgotten), Ok(removal)),
            Err(error) => {
                tracing::error!(connection = %self.record.name, error = %chain(&error), "the connection's files could not be removed");
                (None, Err(CommandError::State(error)))
            }
        };
        if let Some(reply) = reply {
            let _ = reply.send(answer);
        }
        end
    }

    pub(super) fn answer_removal(&mut self, answer: Result<Removal, CommandError>) {
        if let Some(reply) = self.removal.take() {
            let _ = reply.send(answer);
        }
    }

    pub(super) async fn write(&mut self, changed: ConnectionRecord) -> Result<(), StateError> {
        let written = changed.clone();
        state::off_thread(&self.state, move |state| state.save(&written)).await?;
        self.record = changed;
        Ok(())
    }
}
