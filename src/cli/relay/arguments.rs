//! The arguments of `relay`, as clap reads them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::status::Show;
use crate::cli::exit_code::ExitCode;
use crate::cli::log_level;
use crate::name::Name;
use crate::relay::config::{DEFAULT_ADMIN_SOCKET, DEFAULT_PATH};

/// The public side of private connections: invites agents behind firewalls, and relays calls to them.
#[derive(Debug, Parser)]
#[command(name = "relay", version, after_help = ExitCode::table(), arg_required_else_help = true)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, value_name = "FILE", help = format!("The configuration file [default: {DEFAULT_PATH}]"))]
    pub(super) config: Option<PathBuf>,
    /// The running relay's admin socket.
    #[arg(long, global = true, value_name = "PATH", help = format!("The running relay's admin socket [default: the configuration's, else {DEFAULT_ADMIN_SOCKET}]"))]
    pub(super) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the relay, in the foreground.
    Serve,
    /// Create a connection and print its invitation code, alone on standard output.
    Initiate(Initiate),
    /// List the connections: state, link, far side, when last seen.
    Connections {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let calls through again, as far as this side is concerned.
    Activate {
        /// The connection.
        name: String,
    },
    /// Refuse calls until it is activated again; the link stays up.
    Deactivate {
        /// The connection.
        name: String,
    },
    /// Cut an agent off at once and accept its key no more; the connection then waits for a new invitation
    Revoke {
        /// The connection.
        name: String,
    },
    /// Remove a connection and its tokens for good, and tell the far side.
    Remove {
        /// The connection.
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Show how the relay is: whether all is well, and what to do otherwise.
    Status(Show),
    /// Reissue or revoke a connection's invitation.
    #[command(subcommand)]
    Invitation(InvitationCommand),
    /// Create, list and revoke the tokens that callers and admins present.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Change how much the running relay logs.
    LogLevel(log_level::Change),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

#[derive(Debug, Args)]
pub(super) struct Initiate {
    /// This side's short name.
    #[arg(long, value_name = "NAME")]
    pub(super) local: Name,
    /// The private side's short name.
    #[arg(long, value_name = "NAME")]
    pub(super) remote: Name,
    /// The connection's name; without it `<local>_to_<remote>`.
    #[arg(long)]
    pub(super) name: Option<Name>,
    /// A sentence about it.
    #[arg(long, value_name = "TEXT")]
    pub(super) description: Option<String>,
    /// This side's project for incoming synchronisation.
    #[arg(long, value_name = "KEY")]
    pub(super) project: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum InvitationCommand {
    /// Print a new code for a pending connection; the former one is revoked.
    Reissue {
        /// The connection.
        name: String,
    },
    /// Revoke a pending connection's code.
    Revoke {
        /// The connection.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token and print it, alone on standard output. It is shown this once.
    Create(CreateToken),
    /// List the tokens, without their texts.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token.
    Revoke {
        /// Its id, as listed.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateToken {
    /// For calls to this connection only [default: to every connection].
    #[arg(long, value_name = "NAME", conflicts_with = "admin")]
    pub(super) connection: Option<String>,
    /// For management, and for calls to every connection.
    #[arg(long)]
    pub(super) admin: bool,
    /// What to call it; the far side sees it as the caller's name.
    #[arg(long, value_name = "LABEL")]
    pub(super) name: Option<Name>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Report every mistake at once, each with file, key and remedy.
    Check,
}
