//! One process of the agent hands over to another: to a new program file, without losing a link or a call.
//!
//! ```text
//!  this process                               the new one ([`heir`])
//!  announces it on every link
//!  starts it: its admin socket as standard
//!  input, a socket pair as standard output
//!        ── will: ticket, connections ──►      links beside this process
//!        ◄── linked ──
//!  leaves admin socket and systemd to it
//!        ── begin ──►                          answers on the admin socket
//!  finishes its calls, and ends                takes the lock of the state directory
//! ```
//!
//! Whatever goes wrong before `begin` leaves all as it was: the new process is ended, and its links give way to
//! those of this one. What the two tell each other is JSON, one message a line.

pub mod heir;

use std::env;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{self, SignalKind};

use crate::admin_socket::AdminSocket;
use crate::agent::command::{self, Commands};
use crate::agent::systemd;
use crate::error_chain::chain;
use crate::identity::ConnectionId;
use crate::protocol::handshake::{HandshakeError, Ticket};

/// Tells a process that it was started by another to take over, and how the two speak.
const VARIABLE: &str = "RELAY_AGENT_SUCCEEDS";
/// The version of what the two tell each other. A process of another version ends, and all is as it was.
const VERSION: u32 = 1;
/// The longest message: the ids of twenty thousand connections.
const MAX_MESSAGE: u64 = 1024 * 1024;
/// How long the new process may take until its links are up: one that takes longer has met something that this
/// one does not suffer from. Well within the ticket's time.
const PATIENCE: Duration = Duration::from_secs(30);
/// For how long relays let the new process link beside this one.
pub const TICKET_HOLDS: Duration = Duration::from_secs(60);
/// How long a new process that is not wanted any more may take to end by itself.
const PARTING: Duration = Duration::from_secs(5);
/// The pause between two looks at whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What the new process is left.
#[derive(Debug, Serialize, Deserialize)]
struct Will {
    version: u32,
    ticket: Ticket,
    /// Those whose links are up.
    connections: Vec<ConnectionId>,
}

/// All else that one says to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "word")]
enum Word {
    /// The new process: every connection that was left to it has its link.
    Linked,
    /// The old process: all else is yours.
    Begin,
}

/// Why there was no hand-over.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The relays were not told.
    #[error("it could not be announced")]
    Announce(#[source] command::AnnounceError),
    /// No ticket.
    #[error("there is no ticket for it")]
    Ticket(#[source] HandshakeError),
    /// This process is stopping.
    #[error("this process is about to stop")]
    Stopping,
    /// The new process was not started.
    #[error("{program:?} could not be started")]
    Start {
        /// By what this one was started.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The new process is gone.
    #[error("the new process ended before it was linked ({0}); the log has its own words")]
    Ended(ExitStatus),
    /// The new process took too long.
    #[error("the new process was not linked within {} s", PATIENCE.as_secs())]
    TooSlow,
    /// The two did not understand each other.
    #[error("the new process said nothing of use")]
    Talk(#[source] io::Error),
}

/// A new process whose links are up.
pub struct Successor {
    process: NewProcess,
    channel: Channel,
}

/// Completes when a new process is ready to take over. Every `SIGUSR2` is one try. When it is dropped before,
/// a new process that was started is told to end.
pub async fn successor(
    signals: io::Result<unix::Signal>,
    commands: &Commands,
    socket: &AdminSocket,
) -> Successor {
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "SIGUSR2 cannot be watched: there is no hand-over");
            return std::future::pending().await;
        }
    };
    loop {
        if signals.recv().await.is_none() {
            return std::future::pending().await;
        }
        tracing::info!("SIGUSR2: starting another process to take over");
        match bring_up(commands, socket).await {
            Ok(successor) => return successor,
            Err(error) => {
                tracing::error!(error = %chain(&error), "there was no hand-over; this process goes on as before");
                systemd::not_handed_over(&chain(&error).to_string());
            }
        }
    }
}

/// The signal that asks for a hand-over. From now on it does not end this process.
///
/// # Errors
/// When the system refuses a signal handler.
pub fn signals() -> io::Result<unix::Signal> {
    unix::signal(SignalKind::user_defined2())
}

impl Successor {
    /// Its process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process.0.as_ref().map_or(0, Child::id)
    }

    /// Leaves everything to it. It learns of this process's end when the answer is dropped.
    pub async fn begin(mut self) -> Channel {
        if let Err(error) = self.channel.say(&Word::Begin).await {
            tracing::error!(%error, "the new process could not be told that it takes over");
        }
        // Its own from now on.
        self.process.0 = None;
        self.channel
    }
}

async fn bring_up(commands: &Commands, socket: &AdminSocket) -> Result<Successor, HandOverError> {
    let ticket = Ticket::generate().map_err(HandOverError::Ticket)?;
    let announced = commands.ask(|reply| command::Command::Announce { ticket, reply });
    let done = match announced.await {
        Ok(Ok(connections)) => {
            let version = VERSION;
            let will = Will {
                version,
                ticket,
                connections,
            };
            start(&will, socket).await
        }
        Ok(Err(error)) => Err(HandOverError::Announce(error)),
        Err(_) => Err(HandOverError::Stopping),
    };
    if done.is_err() {
        commands.call_off().await;
    }
    done
}

async fn start(will: &Will, socket: &AdminSocket) -> Result<Successor, HandOverError> {
    let (process, mut channel) = spawn(socket)?;
    let talk = async {
        channel.say(will).await?;
        channel.hear::<Word>().await
    };
    match tokio::time::timeout(PATIENCE, talk).await {
        Ok(Ok(Some(Word::Linked))) => Ok(Successor { process, channel }),
        Ok(Ok(None)) => Err(process
            .end()
            .await
            .map_or(HandOverError::TooSlow, HandOverError::Ended)),
        Ok(Ok(Some(Word::Begin))) => {
            process.end().await;
            let odd = io::Error::new(io::ErrorKind::InvalidData, "it said what it is to be told");
            Err(HandOverError::Talk(odd))
        }
        Ok(Err(error)) => {
            let ended = process.end().await;
            Err(ended.map_or(HandOverError::Talk(error), HandOverError::Ended))
        }
        Err(_) => {
            process.end().await;
            Err(HandOverError::TooSlow)
        }
    }
}

/// Starts the program by the path that this process was started by, which an upgrade leads to another file.
fn spawn(socket: &AdminSocket) -> Result<(NewProcess, Channel), HandOverError> {
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_default();
    let failed = |source| HandOverError::Start {
        program: program.display().to_string(),
        source,
    };
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    let listener = socket.as_fd().try_clone_to_owned().map_err(failed)?;
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env(VARIABLE, VERSION.to_string())
        // These name this process, by its id.
        .env_remove("WATCHDOG_PID")
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .stdin(Stdio::from(listener))
        .stdout(Stdio::from(OwnedFd::from(theirs)));
    let process = NewProcess(Some(command.spawn().map_err(failed)?));
    // It holds the other end of the pair, whose closing would not be seen.
    drop(command);
    let channel = Channel::new(ours).map_err(failed)?;
    Ok((process, channel))
}

/// A process that was started and is not on its own yet: told to end when dropped.
struct NewProcess(Option<Child>);

impl NewProcess {
    /// Ends it, and waits until it has; how it ended, if it did so by itself.
    async fn end(mut self) -> Option<ExitStatus> {
        self.terminate();
        let mut child = self.0.take()?;
        let ending = async {
            loop {
                match child.try_wait() {
                    Ok(Some(status)) => return Some(status),
                    Ok(None) => tokio::time::sleep(LOOK_AGAIN).await,
                    Err(_) => return None,
                }
            }
        };
        if let Ok(status) = tokio::time::timeout(PARTING, ending).await {
            return status;
        }
        // Neither can fail for a child that was not waited for.
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// In good order, so that its links give way at once to those of this process.
    fn terminate(&self) {
        let id = self.0.as_ref().map(Child::id);
        if let Some(id) = id.and_then(|id| i32::try_from(id).ok()) {
            // It may have ended already; its id is kept until it was waited for.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
    }
}

impl Drop for NewProcess {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// How the two processes speak.
pub struct Channel(BufReader<UnixStream>);

impl Channel {
    fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(BufReader::new(UnixStream::from_std(stream)?)))
    }

    async fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line).await
    }

    /// The next message; nothing when the other process is gone.
    async fn hear<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        let mut limited = (&mut self.0).take(MAX_MESSAGE);
        if limited.read_until(b'\n', &mut line).await? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        (Channel::new(one).unwrap(), Channel::new(other).unwrap())
    }

    #[tokio::test]
    async fn what_one_process_says_the_other_hears_until_it_is_gone() {
        let (mut old, mut new) = pair();
        let ticket = Ticket::generate().unwrap();
        let connections = vec![ConnectionId::from_bytes([7; 16])];
        let version = VERSION;
        let will = Will {
            version,
            ticket,
            connections,
        };
        old.say(&will).await.unwrap();
        old.say(&Word::Begin).await.unwrap();
        let heard: Will = new.hear().await.unwrap().unwrap();
        assert!(heard.ticket == ticket);
        assert_eq!(heard.connections, will.connections);
        assert_eq!(new.hear().await.unwrap(), Some(Word::Begin));
        drop(old);
        assert_eq!(new.hear::<Word>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_an_error_and_not_waited_for() {
        let (mut old, mut new) = pair();
        old.0.get_mut().write_all(b"{}\n").await.unwrap();
        assert!(new.hear::<Word>().await.is_err());
        let long = vec![b'x'; 2 * 1024 * 1024];
        let writing = tokio::spawn(async move { old.0.get_mut().write_all(&long).await });
        assert!(new.hear::<Word>().await.is_err());
        writing.abort();
    }
}
