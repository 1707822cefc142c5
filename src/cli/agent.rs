//! The command line of the private side's program.

mod accept;
mod audit;
mod check;
mod connections;
mod doctor;
mod invitation;
mod operation;
mod policy;
mod rotate;
mod run;
mod status;
mod transfer;

use std::path::PathBuf;
use std::process;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use super::daemon::Daemon;
use super::documentation;
use super::exit_code::{ExitCode, Failure};
use super::log_level;
use super::process::run as run_program;
use crate::agent::accept::AcceptCode;
use crate::agent::config::AgentConfig;

/// Keeps the private side of private connections: outbound links to relays, and calls that come down them.
#[derive(Debug, Parser)]
#[command(name = "agent", version, after_help = ExitCode::table())]
struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where configuration and daemon are.
#[derive(Debug, Args)]
struct Place {
    /// The configuration file [default: /etc/relay-agent/agent.toml, which may be missing]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The daemon's admin socket [default: the configuration's]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run,
    /// Accept an invitation: complete a connection with the public side that issued the code
    Accept(accept::Accept),
    /// Show what an invitation says; redeems nothing and needs no network
    Inspect(invitation::Inspect),
    /// Show whether all is well and what to do otherwise, the connections, links and upstreams
    Status(status::Show),
    /// List the connections
    Connections(connections::List),
    /// Let calls of a connection pass again, as far as this side is concerned
    Activate(connections::Named),
    /// Let no calls of a connection pass; the public side is told
    Deactivate(connections::Named),
    /// Give a connection, or all, a new identity key; calls under way go on
    Rotate(rotate::Rotate),
    /// Remove a connection; the public side is told
    Remove(connections::Remove),
    /// Write all connections with their keys to an encrypted file, to use them on another machine
    Export(transfer::Export),
    /// Take connections in that `agent export` wrote on another machine
    Import(transfer::Import),
    /// Say that this machine takes the place of the one that the state directory was used on
    Adopt(transfer::Adopt),
    /// Walk the way to each relay and upstream; say which hop fails and what to do
    Doctor(doctor::Doctor),
    /// Questions about what callers may reach
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Questions about the audit log
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Change the log level of the running daemon
    LogLevel(log_level::Change),
    /// Let the daemon read its configuration again; with a mistake in it, nothing changes
    Reload,
    /// Questions about the configuration
    #[command(subcommand)]
    Config(check::Config),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> process::ExitCode {
    run_program("agent", carry_out)
}

async fn carry_out(Arguments { place, command }: Arguments) -> Result<(), Failure> {
    match command {
        Command::Run => run::run(place).await,
        Command::Accept(accept) => accept.carry_out(&place).await,
        Command::Inspect(inspect) => inspect.carry_out(),
        Command::Status(show) => show.carry_out(&place.daemon()).await,
        Command::Connections(list) => list.carry_out(&place.daemon()).await,
        Command::Activate(named) => named.activate(&place.daemon()).await,
        Command::Deactivate(named) => named.deactivate(&place.daemon()).await,
        Command::Rotate(rotate) => rotate.carry_out(&place.daemon()).await,
        Command::Remove(remove) => remove.carry_out(&place.daemon()).await,
        Command::Export(export) => export.carry_out(&place),
        Command::Import(import) => import.carry_out(&place),
        Command::Adopt(adopt) => adopt.carry_out(&place),
        Command::Doctor(doctor) => doctor.carry_out(&place.daemon()).await,
        Command::Policy(policy) => policy.carry_out(&place).await,
        Command::Audit(audit) => audit.carry_out(&place).await,
        Command::LogLevel(change) => change.carry_out(&place.daemon()).await,
        Command::Reload => operation::reload(&place.daemon()).await,
        Command::Config(config) => config.carry_out(&place),
        Command::Completions { shell } => {
            documentation::print_completions(Arguments::command(), shell);
            Ok(())
        }
        Command::Man => documentation::print_manual(Arguments::command()),
    }
}

impl Place {
    /// The daemon: by `--socket`, else by the configuration, else at the default path.
    fn daemon(&self) -> Daemon {
        Daemon {
            socket: self
                .socket
                .clone()
                .unwrap_or_else(|| AgentConfig::socket_path(self.config.as_deref())),
            when_not_running: "Start it (systemctl start relay-agent, or: agent run), or name its socket with --socket.",
            exit_code_of: |code| match code {
                // What was named on the command line and is not there is a mistake of usage.
                "no-such-connection" => Some(ExitCode::Usage),
                _ => AcceptCode::parse(code).map(exit_code_of),
            },
        }
    }

    /// The configuration.
    ///
    /// # Errors
    /// All its mistakes, one a line.
    fn read_config(&self) -> Result<AgentConfig, Failure> {
        AgentConfig::read(self.config.as_deref()).map_err(|mistakes| {
            Failure::new(
                ExitCode::Configuration,
                format!("the configuration has mistakes:\n{mistakes}"),
                "",
            )
        })
    }
}

/// The one map from failures of accepting to exit codes.
const fn exit_code_of(code: AcceptCode) -> ExitCode {
    match code {
        AcceptCode::Malformed | AcceptCode::UnsupportedVersion => ExitCode::BadData,
        AcceptCode::Expired
        | AcceptCode::Used
        | AcceptCode::Revoked
        | AcceptCode::Removed
        | AcceptCode::Unknown
        | AcceptCode::BadProof
        | AcceptCode::WrongRelay
        | AcceptCode::RemovedHere => ExitCode::NotPermitted,
        AcceptCode::NotARelay | AcceptCode::Unreachable => ExitCode::Unavailable,
        AcceptCode::TooMany | AcceptCode::UnderWay | AcceptCode::Stopping => ExitCode::TryAgain,
        AcceptCode::NameTaken | AcceptCode::State => ExitCode::CannotWrite,
        AcceptCode::Internal => ExitCode::Internal,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_whole() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_screen_of_help_is_the_one_that_was_looked_at() {
        let help = crate::cli::golden::help(Arguments::command());
        crate::cli::golden::check("agent-help", &help);
    }

    #[test]
    fn every_command_of_the_design_is_understood() {
        for line in [
            "run --config /a",
            "accept",
            "accept -",
            "accept CODE --yes --project SYNC",
            "inspect CODE",
            "inspect --json",
            "status --json",
            "status --watch --interval 5s",
            "status --check",
            "connections --json",
            "activate NAME",
            "deactivate NAME",
            "rotate",
            "rotate NAME --json",
            "remove NAME --yes",
            "export --to /f --keep --passphrase-file /p",
            "import /f",
            "adopt --yes",
            "doctor --json",
            "policy explain GET /x --upstream jira",
            "policy explain POST /x --upstream jira --body - -H A:b",
            "policy test",
            "policy test /table.toml --config /a",
            "audit verify",
            "audit verify --json /a /b",
            "log-level debug",
            "log-level debug --for 10m",
            "reload --socket /s",
            "config check --config /a",
            "completions bash",
            "man",
        ] {
            let words = std::iter::once("agent").chain(line.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok(), "{line}");
        }
    }
}
