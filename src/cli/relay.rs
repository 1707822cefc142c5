//! The `relay` command: which function each of its subcommands calls.
//!
//! All but `serve` ask the running relay over its admin socket. Answers go to standard output and
//! nothing else does, so that they can be piped; a code or a token stands there alone.

mod arguments;
mod connections;
mod serve;
mod status;
mod tokens;

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

pub use self::arguments::Arguments;

use self::arguments::{Command, ConfigCommand, InvitationCommand, TokenCommand};
use super::daemon::Daemon;
use super::documentation;
use super::exit_code::{ExitCode, Failure};
use super::output::note;
use crate::error_chain::chain;
use crate::link::tls::TlsError;
use crate::link::tls::server::ServerTls;
use crate::relay::config::{self, TlsMode};

/// Runs one command.
///
/// # Errors
/// What failed, why, and what to do.
pub async fn execute(arguments: Arguments) -> Result<(), Failure> {
    let config = arguments.config.as_deref();
    let relay = || daemon(config, arguments.socket.as_deref());
    match arguments.command {
        Command::Serve => serve::serve(config).await,
        Command::Initiate(initiate) => connections::initiate(&relay()?, initiate).await,
        Command::Connections { json } => connections::list(&relay()?, json).await,
        Command::Activate { name } => connections::activate(&relay()?, &name).await,
        Command::Deactivate { name } => connections::deactivate(&relay()?, &name).await,
        Command::Revoke { name } => connections::revoke(&relay()?, &name).await,
        Command::Remove { name, yes } => connections::remove(&relay()?, &name, yes).await,
        Command::Status(show) => show.carry_out(&relay()?).await,
        Command::Invitation(InvitationCommand::Reissue { name }) => {
            connections::reissue(&relay()?, &name).await
        }
        Command::Invitation(InvitationCommand::Revoke { name }) => {
            connections::revoke_invitation(&relay()?, &name).await
        }
        Command::Token(TokenCommand::Create(create)) => tokens::create(&relay()?, create).await,
        Command::Token(TokenCommand::List { json }) => tokens::list(&relay()?, json).await,
        Command::Token(TokenCommand::Revoke { id }) => tokens::revoke(&relay()?, &id).await,
        Command::LogLevel(change) => change.carry_out(&relay()?).await,
        Command::Config(ConfigCommand::Check) => {
            let config = serve::read(config)?;
            if let TlsMode::Files { certificate, key } = &config.tls {
                ServerTls::from_files(certificate, key).map_err(|error| unusable(&error))?;
            }
            note("The configuration has no mistakes.\n");
            Ok(())
        }
        Command::Completions { shell } => {
            documentation::print_completions(Arguments::command(), shell);
            Ok(())
        }
        Command::Man => documentation::print_manual(Arguments::command()),
    }
}

/// The running relay: by its socket, else by what the configuration says of it.
/// Files that the configuration names, and that are not what they should be.
fn unusable(error: &TlsError) -> Failure {
    Failure::new(
        ExitCode::Configuration,
        format!("[tls] certificate and key cannot be used: {}", chain(error)),
        "Name PEM files that the user relay can read, and look at the modes of their directories.",
    )
}

fn daemon(config: Option<&Path>, socket: Option<&Path>) -> Result<Daemon, Failure> {
    let socket = match socket {
        Some(socket) => socket.to_owned(),
        None => configured_socket(config)?,
    };
    Ok(Daemon {
        socket,
        when_not_running: "Start the relay (`systemctl start relay`, or `relay serve`), or name its \
                           socket with --socket.",
        exit_code_of,
    })
}

fn configured_socket(config: Option<&Path>) -> Result<PathBuf, Failure> {
    config::DAEMON
        .admin_socket(config, std::env::vars_os())
        .map_err(|mistakes| {
            Failure::new(
                ExitCode::Configuration,
                format!("could not find out where the relay's admin socket is:\n{mistakes}"),
                "",
            )
        })
}

/// What was named on the command line and is not there is a mistake of usage.
fn exit_code_of(code: &str) -> Option<ExitCode> {
    match code {
        "unknown-connection" | "unknown-token" | "bad-name" | "bad-request" => {
            Some(ExitCode::Usage)
        }
        "name-taken" => Some(ExitCode::CannotWrite),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed_and_those_of_the_design() {
        Arguments::command().debug_assert();
        for line in [
            "relay serve --config /f",
            "relay initiate --local a --remote b --name n --description d --project p",
            "relay connections --json",
            "relay activate n",
            "relay deactivate n",
            "relay remove n",
            "relay remove n --yes",
            "relay revoke n",
            "relay status --json",
            "relay status --watch --interval 5s",
            "relay status --check",
            "relay invitation reissue n",
            "relay invitation revoke n",
            "relay token create --connection n --name l",
            "relay token create --admin",
            "relay token list --json --socket /s",
            "relay token revoke tok_1",
            "relay completions bash",
            "relay man",
        ] {
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn every_screen_of_help_is_the_one_that_was_looked_at() {
        let help = crate::cli::golden::help(Arguments::command());
        crate::cli::golden::check("relay-help", &help);
    }

    #[test]
    fn a_bad_name_is_refused_before_anything_is_asked() {
        let line = ["relay", "initiate", "--local", "a b", "--remote", "c"];
        let error = Arguments::try_parse_from(line).unwrap_err();
        assert!(error.to_string().contains("is none of them"));
    }
}
