//! `agent export`, `agent import`, `agent adopt`: connections and keys from one machine to another, on purpose.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;

use super::Place;
use crate::agent::config::AgentConfig;
use crate::agent::state::{Machine, StateDirectory, StateError, unix_seconds};
use crate::agent::transfer::envelope::{EnvelopeError, MAX_LENGTH};
use crate::agent::transfer::{self, TransferError};
use crate::atomic_file::{self, AtomicFileError};
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::{confirm, note, print, printable};
use crate::error_chain::chain;
use crate::name::Name;
use crate::secret::Secret;

/// No passphrase has more; what is longer is the wrong file.
const MAX_PASSPHRASE: u64 = 4 * 1024;

/// `agent export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file to write; it must not exist yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Go on using the connections here: the file is a backup, good until the keys are next replaced. Used elsewhere,
    /// it makes a second agent with one identity, which is refused
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// `agent import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file that `agent export` wrote
    file: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// `agent adopt`.
#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// Where the passphrase comes from: never from the command line, which everybody on the machine can see.
#[derive(Debug, Args)]
struct Passphrase {
    /// The file with the passphrase in its first line; without it, it is asked for, or read from standard input
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Export {
    pub(super) fn carry_out(self, place: &Place) -> Result<(), Failure> {
        let config = place.read_config()?;
        let state = open(&config)?;
        match state.check_place(machine(&config)) {
            // The file may have been lost: it can be written again.
            Ok(()) | Err(StateError::Exported { .. }) => {}
            Err(error) => return Err(failure_of_state(&error)),
        }
        let passphrase = self.passphrase.read(true)?;
        let (file, names) =
            transfer::export(&state, &passphrase).map_err(|error| failure_of(&error))?;
        atomic_file::create(&self.to, &file, 0o600).map_err(|error| not_written(&error))?;
        if !self.keep {
            let now = unix_seconds(SystemTime::now());
            let marked = state.mark_exported(now);
            marked.map_err(|error| failure_of_state(&error))?;
        }
        let (to, names) = (printable(&self.to.display().to_string()), list(&names));
        print(&if self.keep {
            format!(
                "Exported to {to}: {names}. They go on being used here; the file is worth nothing once the keys \
                 have been replaced.\n"
            )
        } else {
            format!(
                "Exported to {to}: {names}. No agent runs with them on this machine any more; on the new one: \
                 agent import FILE\n"
            )
        });
        Ok(())
    }
}

impl Import {
    pub(super) fn carry_out(self, place: &Place) -> Result<(), Failure> {
        let config = place.read_config()?;
        let file = atomic_file::read(&self.file, MAX_LENGTH)
            .map_err(|error| Failure::new(ExitCode::BadData, chain(&error).to_string(), ""))?
            .ok_or_else(|| {
                let file = printable(&self.file.display().to_string());
                Failure::new(ExitCode::Usage, format!("there is no file {file}"), "")
            })?;
        let state = open(&config)?;
        let passphrase = self.passphrase.read(false)?;
        let names = transfer::import(&state, &file, &passphrase, machine(&config))
            .map_err(|error| failure_of(&error))?;
        print(&format!(
            "Imported: {}. Start the daemon, and delete {}: whoever has it and the passphrase has the connections.\n",
            list(&names),
            printable(&self.file.display().to_string())
        ));
        Ok(())
    }
}

impl Adopt {
    pub(super) fn carry_out(self, place: &Place) -> Result<(), Failure> {
        let config = place.read_config()?;
        let state = open(&config)?;
        if !self.yes {
            confirm(
                "Does this machine take the place of the one that the state was used on?",
                "nothing was changed, because you did not say yes",
                "",
            )?;
        }
        let adopted = state.adopt(machine(&config));
        adopted.map_err(|error| failure_of_state(&error))?;
        print("The state belongs to this machine now. Start the daemon.\n");
        Ok(())
    }
}

impl Passphrase {
    /// From the file, the terminal or standard input. A new one is asked for twice.
    fn read(&self, is_new: bool) -> Result<Secret<String>, Failure> {
        let unreadable = |error: io::Error| {
            let problem = format!("the passphrase could not be read: {error}");
            Failure::new(ExitCode::Usage, problem, "")
        };
        if let Some(path) = &self.passphrase_file {
            return fs::File::open(path)
                .and_then(first_line)
                .map_err(unreadable);
        }
        if !io::stdin().is_terminal() {
            return first_line(io::stdin()).map_err(unreadable);
        }
        let ask = |words: &str| {
            note(words);
            rpassword::read_password()
                .map(Secret::new)
                .map_err(unreadable)
        };
        let passphrase = ask("Passphrase (not shown): ")?;
        if is_new && !ask("The same again: ")?.is_same(passphrase.expose().as_bytes()) {
            return Err(Failure::new(
                ExitCode::Usage,
                "the two passphrases differ",
                "Nothing was done.",
            ));
        }
        Ok(passphrase)
    }
}

/// Why the state cannot be used here, as the command's failure.
pub(super) fn failure_of_state(error: &StateError) -> Failure {
    let text = chain(error).to_string();
    match error {
        StateError::InUse { .. } => Failure::new(
            ExitCode::TryAgain,
            text,
            "Stop the daemon first: systemctl stop relay-agent",
        ),
        StateError::Exported { .. } => Failure::new(
            ExitCode::NotPermitted,
            text,
            "Use `agent import` on the new machine. If this one is to go on after all, and the other one never \
             started with it: agent adopt",
        ),
        StateError::OtherMachine => Failure::new(
            ExitCode::NotPermitted,
            text,
            "If this machine takes the other one's place (a restored backup, a new installation): agent adopt. If the \
             other one goes on, this is a copy: delete it, and accept an invitation of its own, or move the \
             connections with `agent export` and `agent import`.",
        ),
        StateError::Directory(_)
        | StateError::Open { .. }
        | StateError::File(_)
        | StateError::Record { .. }
        | StateError::Encode(_)
        | StateError::Key(_)
        | StateError::KeyMissing { .. }
        | StateError::Place { .. }
        | StateError::BrokenOff => Failure::new(ExitCode::CannotWrite, text, ""),
    }
}

/// The machine that the state is bound to, unless that is switched off.
fn machine(config: &AgentConfig) -> Option<Machine> {
    config.identity.machine()
}

fn open(config: &AgentConfig) -> Result<StateDirectory, Failure> {
    StateDirectory::open(&config.state_dir).map_err(|error| failure_of_state(&error))
}

fn failure_of(error: &TransferError) -> Failure {
    let text = chain(error).to_string();
    match error {
        TransferError::State(error) => failure_of_state(error),
        TransferError::Envelope(EnvelopeError::WrongPassphrase) => {
            Failure::new(ExitCode::NotPermitted, text, "Nothing was changed.")
        }
        TransferError::Envelope(EnvelopeError::ShortPassphrase) => Failure::new(
            ExitCode::Usage,
            text,
            "Whoever gets the file can try passphrases for as long as he likes; take a longer one.",
        ),
        TransferError::Envelope(EnvelopeError::Key(_) | EnvelopeError::Library) => {
            Failure::new(ExitCode::Internal, text, "")
        }
        TransferError::Envelope(_) | TransferError::Content(_) | TransferError::Nothing => {
            Failure::new(ExitCode::BadData, text, "")
        }
        TransferError::Damaged(_) => Failure::new(ExitCode::BadData, text, "Nothing was exported."),
        TransferError::Exists(_) => Failure::new(
            ExitCode::CannotWrite,
            text,
            "Nothing was imported. Remove it here first, if it is not the one that you want.",
        ),
    }
}

fn not_written(error: &AtomicFileError) -> Failure {
    let remedy = match error {
        AtomicFileError::Exists { .. } => "Choose another name, or delete that file first.",
        AtomicFileError::NotRegular { .. }
        | AtomicFileError::TooLong { .. }
        | AtomicFileError::Exposed { .. }
        | AtomicFileError::NotOurs { .. }
        | AtomicFileError::Io { .. } => "",
    };
    Failure::new(ExitCode::CannotWrite, chain(error).to_string(), remedy)
}

fn first_line(from: impl io::Read) -> io::Result<Secret<String>> {
    let mut text = String::new();
    from.take(MAX_PASSPHRASE).read_to_string(&mut text)?;
    let text = Secret::new(text);
    let line = text.expose().lines().next().unwrap_or_default();
    Ok(Secret::new(line.to_owned()))
}

fn list(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(", ")
}
