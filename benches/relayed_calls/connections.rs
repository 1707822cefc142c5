//! Connections made as an administrator makes them: with the two command lines.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::relayed::{agent_binary, relay_binary};

/// A token that may call every connection.
pub(crate) fn token(relay_config: &Path) -> Result<String, Failure> {
    run(
        Command::new(relay_binary())
            .args(["token", "create", "--name", "bench", "--config"])
            .arg(relay_config),
        "",
    )
}

/// Makes a connection and returns its invitation code.
pub(crate) fn initiate(relay_config: &Path, name: &str) -> Result<String, Failure> {
    let arguments = [
        "initiate", "--local", "public", "--remote", "private", "--name", name, "--config",
    ];
    run(
        Command::new(relay_binary())
            .args(arguments)
            .arg(relay_config),
        "",
    )
}

/// Redeems the code, by the daemon if it runs. The code goes by standard input, as it should.
pub(crate) fn accept(agent_config: &Path, code: &str) -> Result<(), Failure> {
    run(
        Command::new(agent_binary())
            .args(["accept", "--yes", "--config"])
            .arg(agent_config)
            .arg("-"),
        code,
    )
    .map(drop)
}

/// How many links the relay says are up.
pub(crate) fn online(relay_config: &Path) -> Result<usize, Failure> {
    let listing = run(
        Command::new(relay_binary())
            .args(["connections", "--json", "--config"])
            .arg(relay_config),
        "",
    )?;
    let listing: serde_json::Value =
        serde_json::from_str(&listing).map_err(Failure::because("read the relay's listing"))?;
    let connections = listing["connections"].as_array();
    let is_online = |connection: &&serde_json::Value| connection["link"]["status"] == "online";
    Ok(connections.map_or(0, |connections| {
        connections.iter().filter(is_online).count()
    }))
}

/// Runs a command with this standard input, and returns what it printed, trimmed.
fn run(command: &mut Command, input: &str) -> Result<String, Failure> {
    let words = format!("run {command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::because(words.clone()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read its input may close it first; its exit status tells.
        let _unread = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(Failure::because(words.clone()))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::because(words)(format!(
            "{}: {errors}",
            output.status
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
