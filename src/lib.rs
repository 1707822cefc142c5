//! A private connection between two companies' issue trackers, one of them behind a firewall.
//!
//! `agent` runs inside the private network and keeps one outbound WebSocket, the *link*, to `relay`
//! on the public side. Calls travel down the link to upstreams that the private side allows.
//!
//! # Layers
//!
//! Imports go down only; `tests/it/layers.rs` enforces it.
//!
//! ```text
//!  6  bin                    agent.rs, relay.rs: parse, run, exit code
//!  5  cli                    commands, human output, exit codes
//!  4  agent  |  relay        the two products; never import each other
//!  3  link                   dialling, TLS, WebSocket, handshake; lanes as byte streams; HTTP/2 on them
//!  2  session → protocol → invitation → identity      pure: no tokio, no clock, no files
//!  1  admin_socket  backoff  body  atomic_file  config_file  error_chain  forwarding  logging  name
//!     problem  secret  shutdown  tunnel
//! ```

// Layer 1: small tools.
pub mod admin_socket;
pub mod atomic_file;
#[cfg(feature = "agent")]
pub mod backoff;
pub mod body;
pub mod config_file;
pub mod error_chain;
pub mod forwarding;
pub mod logging;
pub mod name;
pub mod problem;
pub mod secret;
pub mod shutdown;
pub mod tunnel;

// Layer 2: pure.
pub mod identity;
pub mod invitation;
pub mod protocol;
pub mod session;

// Layer 3: machinery.
pub mod link;

// Layer 4: the two products.
#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "relay")]
pub mod relay;

// Layer 5.
pub mod cli;
