//! How an invitation code gets in, and what is shown of it: everything but the secret.

use std::io::{self, IsTerminal as _, Read as _};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;

use crate::agent::accept::AcceptError;
use crate::cli::agent::exit_code_of;
use crate::cli::exit_code::{ExitCode, Failure};
use crate::cli::output::{note, print, print_json};
use crate::invitation::Invitation;
use crate::secret::Secret;

/// The longest text that is read as a code: ten times what the longest names make.
const MAX_CODE_LENGTH: u64 = 16 * 1024;

/// `agent inspect`.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The invitation code; absent or "-": asked for without showing it, or read from standard input
    code: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What may be shown of an invitation.
#[derive(Debug, Serialize)]
struct Shown {
    connection_name: String,
    public_side: String,
    private_side: String,
    mode: String,
    relay_url: String,
    relay_identity: String,
    tls: &'static str,
    expires: String,
    connection: String,
}

impl Inspect {
    pub(super) fn carry_out(self) -> Result<(), Failure> {
        let code = read_code(self.code)?;
        let invitation = decode(&code)?;
        if self.json {
            return print_json(&Shown::of(&invitation));
        }
        print(&describe(&invitation));
        Ok(())
    }
}

/// The code from the command line, a hidden prompt or standard input.
pub(super) fn read_code(argument: Option<String>) -> Result<Secret<String>, Failure> {
    if let Some(code) = argument.filter(|code| code != "-") {
        return Ok(Secret::new(code));
    }
    let unreadable = |error: io::Error| {
        Failure::new(
            ExitCode::Usage,
            format!("the invitation code could not be read: {error}"),
            "",
        )
    };
    if io::stdin().is_terminal() {
        note("Invitation code (not shown): ");
        return rpassword::read_password()
            .map(Secret::new)
            .map_err(unreadable);
    }
    let mut code = String::new();
    io::stdin()
        .take(MAX_CODE_LENGTH)
        .read_to_string(&mut code)
        .map_err(unreadable)?;
    Ok(Secret::new(code))
}

pub(super) fn decode(code: &Secret<String>) -> Result<Invitation, Failure> {
    Invitation::decode(code.expose()).map_err(|error| failure_of(&AcceptError::Code(error)))
}

pub(super) fn failure_of(error: &AcceptError) -> Failure {
    Failure::new(
        exit_code_of(error.code()),
        crate::error_chain::chain(error).to_string(),
        error.remedy(),
    )
}

/// The invitation for people, a line for each thing it says.
pub(super) fn describe(invitation: &Invitation) -> String {
    let shown = Shown::of(invitation);
    let lines = [
        ("Connection", shown.connection_name),
        ("Public side", shown.public_side),
        ("Private side", format!("{} (this one)", shown.private_side)),
        ("Mode", shown.mode),
        ("Relay", format!("{} ({})", shown.relay_url, shown.tls)),
        ("Relay's key", shown.relay_identity),
        (
            "Expires",
            format!("{}, by the relay's clock", shown.expires),
        ),
    ];
    lines
        .iter()
        .map(|(label, value)| format!("{label:<13} {value}\n"))
        .collect()
}

impl Shown {
    fn of(invitation: &Invitation) -> Self {
        // Beyond the year 9999 the format has no words; no honest relay says so.
        let expires = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(invitation.expires.min(253_402_300_799)))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        Self {
            connection_name: invitation.name.to_string(),
            public_side: invitation.local.to_string(),
            private_side: invitation.remote.to_string(),
            mode: invitation.mode.to_string(),
            relay_url: invitation.relay_url.to_string(),
            relay_identity: invitation.relay_identity.fingerprint(),
            tls: match (invitation.relay_url.is_tls(), invitation.tls_pin.is_some()) {
                (true, false) => "TLS, certificate by a trusted authority",
                (true, true) => "TLS, certificate pinned by this code",
                (false, _) => "without TLS",
            },
            expires: humantime::format_rfc3339_seconds(expires).to_string(),
            connection: invitation.connection.to_string(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::identity::{ConnectionId, SigningKey};
    use crate::invitation::Mode;

    pub(in crate::cli::agent) fn example() -> Invitation {
        Invitation {
            relay_url: "https://relay.example.com:8443".parse().unwrap(),
            connection: ConnectionId::generate().unwrap(),
            one_time_key: SigningKey::generate().unwrap(),
            relay_identity: SigningKey::generate().unwrap().public_key(),
            tls_pin: None,
            name: "acme_to_widgets".parse().unwrap(),
            local: "acme".parse().unwrap(),
            remote: "widgets".parse().unwrap(),
            mode: Mode::Script,
            expires: 1_790_000_000,
        }
    }

    #[test]
    fn everything_is_shown_but_the_secret() {
        let invitation = example();
        let text = describe(&invitation);
        for part in [
            "acme_to_widgets",
            "widgets (this one)",
            "https://relay.example.com:8443",
            "2026-09-21T14:13:20Z",
        ] {
            assert!(text.contains(part), "{part} not in\n{text}");
        }
        let code = invitation.encode();
        assert!(!text.contains(code.expose().as_str()));
        let json = serde_json::to_string(&Shown::of(&invitation)).unwrap();
        assert!(!json.contains(&code.expose()[5..]));
    }

    #[test]
    fn a_damaged_code_has_its_own_exit_code_and_text() {
        let failure = decode(&Secret::new("inv1_abc".to_owned())).unwrap_err();
        assert_eq!(failure.code, ExitCode::BadData);
    }
}
