//! Another process of this agent is about to take over: every connection's relay is told, and nothing is changed here.

use tokio::sync::oneshot;

use super::Supervisor;
use crate::agent::command::{AnnounceError, Command};
use crate::agent::link_task::Order;
use crate::identity::ConnectionId;
use crate::protocol::handshake::Ticket;

/// Where the answer to an announcement goes: the connections whose links are up.
type Reply = oneshot::Sender<Result<Vec<ConnectionId>, AnnounceError>>;

/// Whether a command changes what the next process has read already.
pub(super) const fn changes_something(command: &Command) -> bool {
    match command {
        Command::Accept { .. }
        | Command::SetDeactivated { .. }
        | Command::Rotate { .. }
        | Command::Remove { .. } => true,
        Command::Connections { .. }
        | Command::Destinations { .. }
        | Command::Announce { .. }
        | Command::CallOff => false,
        #[cfg(test)]
        Command::Fail { .. } => false,
    }
}

impl Supervisor {
    pub(super) fn announce(&mut self, ticket: Ticket, reply: Reply) {
        if !self.accepting.is_empty() {
            let _ = reply.send(Err(AnnounceError::Accepting));
            return;
        }
        self.is_handing_over = true;
        let ask = |connection: &super::Supervised| {
            let (reply, answer) = oneshot::channel();
            // A full or closed queue drops the reply, which is seen below.
            let order = Order::Announce { ticket, reply };
            let _ = connection.ends.orders.try_send(order);
            answer
        };
        let answers: Vec<_> = self.connections.values().map(ask).collect();
        // Ends within the time that each task gives its relay.
        tokio::spawn(async move {
            let mut linked = Vec::new();
            for answer in answers {
                match answer.await.unwrap_or(Err(AnnounceError::Restarting)) {
                    Ok(connection) => linked.extend(connection),
                    Err(error) => {
                        let _ = reply.send(Err(error));
                        return;
                    }
                }
            }
            let _ = reply.send(Ok(linked));
        });
    }

    pub(super) fn call_off(&mut self) {
        self.is_handing_over = false;
        for connection in self.connections.values() {
            // One whose queue is full or closed goes on by what is in it, or was started anew.
            let _ = connection.ends.orders.try_send(Order::CallOff);
        }
    }
}
