//! One nginx in the foreground with a configuration of ours.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::process::{self, Process};

/// Starts nginx in `scratch/name` with `servers` inside its `http` block, and waits until it accepts at `address`.
///
/// One worker: each end of the chain then has one thread of work, as relay and agent have.
pub(crate) fn start(
    scratch: &Path,
    name: &str,
    servers: &str,
    address: SocketAddr,
) -> Result<Process, Failure> {
    let directory = scratch.join(name);
    fs::create_dir(&directory)
        .map_err(Failure::because(format!("make {}", directory.display())))?;
    let here = directory.display();
    // Started by root it would drop to a user who may not enter our temporary directory.
    let user = if nix::unistd::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let configuration = format!(
        "daemon off; worker_processes 1; {user}
pid {here}/pid; error_log {here}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; server_tokens off;
  default_type application/octet-stream;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;
  uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
{servers}
}}
"
    );
    let file = directory.join("nginx.conf");
    process::write(&file, &configuration)?;
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(&directory)
        .arg("-c")
        .arg(&file)
        .arg("-e")
        .arg(directory.join("error.log"));
    let mut nginx = Process::start(
        &format!("nginx ({name})"),
        &mut command,
        directory.join("output.log"),
    )?;
    nginx.wait_for_listener(address)?;
    Ok(nginx)
}
