//! What a link task does when another process of this agent takes over, and when its own takes over from another.

use tokio::sync::oneshot;

use super::{Activity, LinkTask};
use crate::agent::command::AnnounceError;
use crate::agent::lifecycle::Phase;
use crate::identity::ConnectionId;
use crate::protocol::handshake::Ticket;

/// Where the answer goes: the connection, if its link is up.
type Reply = oneshot::Sender<Result<Option<ConnectionId>, AnnounceError>>;

impl LinkTask {
    /// A task that shows this ticket until its first link is up.
    pub(in crate::agent) fn succeeding(mut self, ticket: Option<Ticket>) -> Self {
        self.succeeds = ticket;
        self
    }

    /// Tells the relay that another process comes. Without a link it is left to that one to dial.
    pub(super) fn announce(&mut self, ticket: Ticket, reply: Reply) {
        let (name, connection) = (self.record.name.clone(), self.record.connection);
        let cut = || Err(AnnounceError::Cut(self.record.name.clone()));
        let answer = match (&self.phase, &self.online) {
            (Phase::Online { .. }, Some(online)) if !online.is_away() => {
                match online.announcing(ticket) {
                    Some(telling) => {
                        // Ends within its own deadline.
                        tokio::spawn(async move {
                            let told = telling.await;
                            let told =
                                told.map_err(|source| AnnounceError::NotTold { name, source });
                            let _ = reply.send(told.map(|()| Some(connection)));
                        });
                        return;
                    }
                    None => Err(AnnounceError::Unable(name)),
                }
            }
            (Phase::Online { .. } | Phase::Resuming { .. }, _) => cut(),
            (Phase::Dialling { .. } | Phase::Waiting { .. }, _) => {
                self.activity = Activity::Idle;
                self.gives_way = true;
                Ok(None)
            }
            (Phase::Ended { .. } | Phase::Stopped, _) => Ok(None),
        };
        let _ = reply.send(answer);
    }

    /// Dials again, where that was left to another process.
    pub(super) fn call_off(&mut self) {
        if std::mem::take(&mut self.gives_way) {
            self.begin_activity();
        }
    }
}
