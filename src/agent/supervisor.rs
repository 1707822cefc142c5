//! Keeps one link task per connection, and carries out what the administrator asks.
//!
//! Knows which connections there are; each [`LinkTask`] knows its own record and link. A task that
//! fails is started anew, and no other one notices.

mod succession;
mod summary;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};

pub use summary::Summary;

use crate::agent::accept::{self, AcceptError, Acceptance};
use crate::agent::command::{Command, CommandError};
use crate::agent::doctor::Destination;
use crate::agent::link_task::{LinkTask, LinkTaskEnds, Order, TaskEnd, last_seen};
use crate::agent::live::Live;
use crate::agent::state::{self, ConnectionRecord, Damaged, StateDirectory, StateError};
use crate::agent::status::{self, ConnectionStatus};
use crate::backoff::Redial;
use crate::error_chain::chain;
use crate::identity::ConnectionId;
use crate::invitation::Invitation;
use crate::name::Name;
use crate::protocol::handshake::Ticket;
use crate::shutdown::Shutdown;

/// Acceptances under way at once: an administrator gives one at a time.
const MAX_ACCEPTANCES: usize = 8;

/// The supervisor, before it runs.
pub struct Supervisor {
    state: Arc<StateDirectory>,
    live: Arc<Live>,
    shutdown: Shutdown,
    commands: mpsc::Receiver<Command>,
    connections: BTreeMap<ConnectionId, Supervised>,
    damaged: Vec<Damaged>,
    tasks: JoinSet<TaskEnd>,
    acceptances: JoinSet<Result<Acceptance, AcceptError>>,
    accepting: BTreeMap<Id, Accepting>,
    /// Poked by the tasks whenever what they show has changed.
    changed: Arc<Notify>,
    summary: watch::Sender<Summary>,
    /// What the tasks show to their relays, when this process takes over from another.
    ticket: Option<Ticket>,
    /// Whether another process is about to take over: nothing is changed any more.
    is_handing_over: bool,
}

/// A connection and the task that keeps its link.
struct Supervised {
    name: Name,
    ends: LinkTaskEnds,
    task: Id,
    /// Spaces out new starts of a task that fails again and again.
    restarts: Redial,
}

/// An acceptance under way, and who waits for it.
struct Accepting {
    connection: ConnectionId,
    name: Name,
    reply: oneshot::Sender<Result<Acceptance, AcceptError>>,
}

/// All that can happen to the supervisor.
enum Event {
    Command(Command),
    AcceptanceEnded(Id, Box<Result<Acceptance, AcceptError>>),
    TaskEnded(Id, Result<TaskEnd, JoinError>),
    LookAgain,
    Stopping,
}

impl Supervisor {
    /// Reads the state directory, and begins with what it holds; with a ticket, in the place of another process.
    ///
    /// # Errors
    /// When the state directory cannot be listed.
    pub fn new(
        state: Arc<StateDirectory>,
        live: Arc<Live>,
        shutdown: Shutdown,
        commands: mpsc::Receiver<Command>,
        ticket: Option<Ticket>,
    ) -> Result<(Self, watch::Receiver<Summary>), StateError> {
        let loaded = state.load()?;
        for damaged in &loaded.damaged {
            tracing::error!(connection = %damaged.connection, error = %chain(&damaged.error), "a connection stands still, because its record cannot be used");
        }
        let (summary, summaries) = watch::channel(Summary::default());
        let mut supervisor = Self {
            state,
            live,
            shutdown,
            commands,
            connections: BTreeMap::new(),
            damaged: loaded.damaged,
            tasks: JoinSet::new(),
            acceptances: JoinSet::new(),
            accepting: BTreeMap::new(),
            changed: Arc::new(Notify::new()),
            summary,
            ticket,
            is_handing_over: false,
        };
        for record in loaded.records {
            supervisor.start(record, Duration::ZERO, Redial::new());
        }
        Ok((supervisor, summaries))
    }

    /// Runs until the shutdown has ended every link task.
    pub async fn run(mut self) {
        loop {
            self.summarise();
            match self.next_event().await {
                Event::Command(command) => self.carry_out(command),
                Event::AcceptanceEnded(id, result) => self.acceptance_ended(id, *result),
                Event::TaskEnded(id, result) => self.task_ended(id, result).await,
                Event::LookAgain => {}
                Event::Stopping => return,
            }
        }
    }

    /// Every branch is cancel-safe, as the documentation of tokio says.
    async fn next_event(&mut self) -> Event {
        if self.shutdown.is_draining() && self.tasks.is_empty() {
            return Event::Stopping;
        }
        tokio::select! {
            Some(joined) = self.tasks.join_next_with_id() => match joined {
                Ok((id, end)) => Event::TaskEnded(id, Ok(end)),
                Err(error) => Event::TaskEnded(error.id(), Err(error)),
            },
            Some(joined) = self.acceptances.join_next_with_id() => match joined {
                Ok((id, result)) => Event::AcceptanceEnded(id, Box::new(result)),
                Err(error) => {
                    Event::AcceptanceEnded(error.id(), Box::new(Err(AcceptError::Stopping)))
                }
            },
            Some(command) = self.commands.recv() => Event::Command(command),
            () = self.changed.notified() => Event::LookAgain,
            () = self.shutdown.draining(), if !self.shutdown.is_draining() => Event::LookAgain,
        }
    }

    fn carry_out(&mut self, command: Command) {
        if self.is_handing_over && succession::changes_something(&command) {
            // Without its reply, who asked is told that the agent is stopping. The next process can be asked.
            return;
        }
        match command {
            Command::Announce { ticket, reply } => self.announce(ticket, reply),
            Command::CallOff => self.call_off(),
            Command::Connections { reply } => {
                let _ = reply.send(self.statuses());
            }
            Command::Destinations { reply } => {
                let _ = reply.send(self.destinations());
            }
            Command::Accept {
                invitation,
                project,
                reply,
            } => self.begin_acceptance(*invitation, project, reply),
            Command::SetDeactivated {
                name,
                deactivated,
                reply,
            } => match self.find(&name) {
                // A full or closed queue drops the order and with it the reply, which tells the asker.
                Ok(connection) => {
                    let _ = connection
                        .ends
                        .orders
                        .try_send(Order::SetDeactivated { deactivated, reply });
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
            Command::Rotate { name, reply } => match self.find(&name) {
                Ok(connection) => {
                    let _ = connection.ends.orders.try_send(Order::Rotate { reply });
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
            #[cfg(test)]
            Command::Fail { name, reply } => {
                if let Ok(connection) = self.find(&name) {
                    let _ = connection.ends.orders.try_send(Order::Fail { reply });
                }
            }
            Command::Remove { name, reply } => match self.find(&name) {
                Ok(connection) => {
                    let _ = connection.ends.orders.try_send(Order::Remove { reply });
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
        }
    }

    /// The connection of a name or an id; of two with one name, the one that is not being removed.
    fn find(&self, name: &str) -> Result<&Supervised, CommandError> {
        let by_name = || {
            let mut called_so: Vec<&Supervised> = self
                .connections
                .values()
                .filter(|connection| connection.name.as_str() == name)
                .collect();
            called_so.sort_by_key(|connection| {
                connection.ends.snapshot.borrow().status.state == status::ConnectionState::Removing
            });
            called_so.first().copied()
        };
        let by_id = |id: &ConnectionId| self.connections.get(id);
        if let Some(found) = name.parse().ok().as_ref().and_then(by_id).or_else(by_name) {
            return Ok(found);
        }
        if self
            .damaged
            .iter()
            .any(|damaged| damaged.connection.to_string() == name)
        {
            return Err(CommandError::Damaged(name.to_owned()));
        }
        Err(CommandError::NoSuchConnection(name.to_owned()))
    }

    /// Redeems beside everything else, so that a slow relay holds nobody up.
    fn begin_acceptance(
        &mut self,
        invitation: Invitation,
        project: Option<String>,
        reply: oneshot::Sender<Result<Acceptance, AcceptError>>,
    ) {
        let (connection, name) = (invitation.connection, invitation.name.clone());
        let mut under_way = self.accepting.values();
        let obstacle = if self.shutdown.is_draining() {
            Some(AcceptError::Stopping)
        } else if self.accepting.len() >= MAX_ACCEPTANCES
            || under_way.any(|other| other.connection == connection || other.name == name)
        {
            Some(AcceptError::UnderWay)
        } else {
            None
        };
        if let Some(error) = obstacle {
            let _ = reply.send(Err(error));
            return;
        }
        let (state, parts) = (Arc::clone(&self.state), self.live.parts());
        let task = self.acceptances.spawn(async move {
            accept::accept(&state, &parts.dialer, &invitation, project).await
        });
        let accepting = Accepting {
            connection,
            name,
            reply,
        };
        self.accepting.insert(task.id(), accepting);
    }

    fn acceptance_ended(&mut self, id: Id, result: Result<Acceptance, AcceptError>) {
        let Some(accepting) = self.accepting.remove(&id) else {
            return;
        };
        match &result {
            Ok(acceptance) => {
                let record = &acceptance.record;
                tracing::info!(connection = %record.name, relay = %record.relay_url, again = acceptance.again, "accepted an invitation");
                self.take_on(acceptance);
            }
            Err(error) => {
                tracing::warn!(connection = %accepting.name, error = %chain(error), "an invitation was not accepted");
            }
        }
        let _ = accepting.reply.send(result);
    }

    /// Starts the link of a connection just accepted, or tells its task, and lets go of those replaced.
    fn take_on(&mut self, acceptance: &Acceptance) {
        for replaced in &acceptance.replaced {
            // Its task ends, because nobody can order it any more.
            self.connections.remove(replaced);
        }
        let record = acceptance.record.clone();
        match self.connections.get(&record.connection) {
            Some(connection) => {
                let order = Order::Adopt {
                    record: Box::new(record),
                };
                let _ = connection.ends.orders.try_send(order);
            }
            None => self.start(record, Duration::ZERO, Redial::new()),
        }
    }

    fn start(&mut self, record: ConnectionRecord, delay: Duration, restarts: Redial) {
        let (connection, name) = (record.connection, record.name.clone());
        let (task, ends) = LinkTask::new(
            record,
            delay,
            Arc::clone(&self.state),
            Arc::clone(&self.live),
            self.shutdown.clone(),
            Arc::clone(&self.changed),
        );
        let task = task.succeeding(self.ticket);
        let task = self.tasks.spawn(task.run()).id();
        let supervised = Supervised {
            name,
            ends,
            task,
            restarts,
        };
        self.connections.insert(connection, supervised);
    }

    async fn task_ended(&mut self, id: Id, result: Result<TaskEnd, JoinError>) {
        let Some(connection) = self
            .connections
            .iter()
            .find_map(|(connection, supervised)| (supervised.task == id).then_some(*connection))
        else {
            return;
        };
        let Some(mut ended) = self.connections.remove(&connection) else {
            return;
        };
        let defect = match result {
            Ok(TaskEnd::Stopped | TaskEnd::Forgotten) => return,
            Err(defect) => defect,
        };
        let delay = ended.restarts.next_delay(None);
        tracing::error!(connection = %ended.name, error = %defect, restart_in = ?delay, "a defect ended the task of a connection; the others go on");
        match state::off_thread(&self.state, move |state| state.read(connection)).await {
            Ok(Some(record)) => self.start(record, delay, ended.restarts),
            Ok(None) => {}
            Err(error) => self.damaged.push(Damaged { connection, error }),
        }
    }

    fn destinations(&self) -> Vec<Destination> {
        self.connections
            .values()
            .map(|connection| {
                let snapshot = connection.ends.snapshot.borrow();
                Destination {
                    status: snapshot.status.clone(),
                    relay_url: snapshot.relay_url.clone(),
                    tls_pin: snapshot.tls_pin,
                }
            })
            .collect()
    }

    fn statuses(&self) -> Vec<ConnectionStatus> {
        let mut statuses: Vec<ConnectionStatus> = self
            .connections
            .values()
            .map(|connection| {
                let snapshot = connection.ends.snapshot.borrow();
                let mut status = snapshot.status.clone();
                if let Some(handle) = &snapshot.handle {
                    status.link.observe(handle, last_seen(handle));
                }
                status
            })
            .chain(self.damaged.iter().map(ConnectionStatus::of_damaged))
            .collect();
        statuses.sort_by(|one, other| one.name.cmp(&other.name));
        statuses
    }

    fn summarise(&self) {
        let summary = Summary::of(&self.statuses());
        self.summary.send_if_modified(|current| {
            let changed = *current != summary;
            *current = summary;
            changed
        });
    }
}

#[cfg(test)]
#[cfg(feature = "relay")]
mod tests;
