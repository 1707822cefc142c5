//! The new process of a hand-over: what it is left, and what it does before it is on its own.

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{dup2_stdin, dup2_stdout};
use tokio::sync::watch;

use super::{Channel, VARIABLE, VERSION, Will, Word};
use crate::agent::command::{Command, Commands};
use crate::agent::live::Live;
use crate::agent::state::StateDirectory;
use crate::agent::supervisor::Summary;
use crate::error_chain::chain;
use crate::protocol::handshake::Ticket;

/// How long the former process may take for what it leaves: it sends that at once.
const READING: Duration = Duration::from_secs(10);
/// How often the state directory's lock is tried once the former process is gone: the kernel lets go of it then.
const TRIES: u32 = 100;
/// The pause between two tries.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// What a former process leaves to this one.
pub struct Heritage {
    listener: UnixListener,
    channel: Channel,
    will: Will,
}

impl Heritage {
    /// What was left to this process, if another started it to take over. To be called once, within a runtime.
    ///
    /// # Errors
    /// When it cannot be read, or is of another version.
    pub async fn from_environment() -> io::Result<Option<Self>> {
        let Some(version) = env::var_os(VARIABLE) else {
            return Ok(None);
        };
        let of_another = || {
            let text = "the process that started this one hands over in another way; restart the agent instead";
            io::Error::new(io::ErrorKind::Unsupported, text)
        };
        if version != VERSION.to_string().as_str() {
            return Err(of_another());
        }
        let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
        let channel = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
        // Nothing that this process starts is to have them.
        let nothing = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&nothing)?;
        dup2_stdout(&nothing)?;
        let mut channel = Channel::new(channel)?;
        let reading = tokio::time::timeout(READING, channel.hear::<Will>()).await;
        let will = reading
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if will.version != VERSION {
            return Err(of_another());
        }
        Ok(Some(Self {
            listener,
            channel,
            will,
        }))
    }

    /// What this process shows to relays.
    #[must_use]
    pub const fn ticket(&self) -> Ticket {
        self.will.ticket
    }

    /// The admin socket. Nobody is to be answered on it before [`Self::accepted`].
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Completes when the links are up that the former process had, and it has left the rest to this one, or is gone.
    ///
    /// # Errors
    /// When the former process says something else.
    pub async fn accepted(
        mut self,
        commands: &Commands,
        summaries: &watch::Receiver<Summary>,
    ) -> io::Result<Channel> {
        self.until_linked(commands, summaries.clone()).await;
        self.channel.say(&Word::Linked).await?;
        match self.channel.hear().await? {
            Some(Word::Begin) | None => Ok(self.channel),
            Some(Word::Linked) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    async fn until_linked(&self, commands: &Commands, mut summaries: watch::Receiver<Summary>) {
        loop {
            summaries.borrow_and_update();
            let asked = commands.ask(|reply| Command::Connections { reply });
            let Ok(connections) = asked.await else {
                return std::future::pending().await;
            };
            let is_up = |id: &str| {
                let mut known = connections.iter();
                known.any(|known| known.connection == id && known.link.is_online())
            };
            let mut left = self.will.connections.iter();
            if left.all(|id| is_up(&id.to_string())) {
                return;
            }
            if summaries.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Takes the lock of the state directory once the former process is gone, which has held it for both.
pub async fn succeed(mut former: Channel, state: Arc<StateDirectory>, live: Arc<Live>) {
    // It says nothing more: what ends the wait is its end.
    let _ = former.hear::<Word>().await;
    let mut tries = 1;
    let locked = loop {
        match state.lock_now() {
            Err(_) if tries < TRIES => tries += 1,
            result => break result,
        }
        tokio::time::sleep(TRY_AGAIN).await;
    };
    match locked {
        Ok(()) => tracing::info!("the former process has ended"),
        Err(error) => {
            tracing::error!(error = %chain(&error), "the state directory is not locked by this process");
        }
    }
    live.audit_is_free().await;
    live.set_former(false);
}
