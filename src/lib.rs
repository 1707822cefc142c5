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
//!  1  admin_socket  backoff  body  atomic_file  config_file  daemon_config  error_chain  forwarding
//!     logging  name  problem  secret  shutdown  tunnel
//! ```
//!
//! # Reading order
//!
//! A call, from the caller to the private service and back: [`relay::listener`] takes the socket,
//! [`relay::forward`] decides whether it may pass and sends it down the lane ([`link::http2`]); the
//! lane's bytes become frames in [`session`] and leave by the link's driver ([`link`]); on the other
//! side [`agent::serve`] asks [`agent::policy`] and hands what is permitted to [`agent::upstream`].
//!
//! How a connection comes about: [`invitation`], [`protocol::redeem`], [`agent::accept`], then
//! [`protocol::handshake`] by [`agent::link_task`] and [`relay::link_endpoint`].
//!
//! # Invariants
//!
//! 1. [`agent`] and [`relay`] never import each other; they meet in [`protocol`] and [`link`].
//! 2. `session`, `protocol`, `invitation`, `identity` and `agent::policy` take time and bytes as values: no
//!    tokio, no files (but for `identity::key_file`), no clock.
//! 3. Only `agent::policy` makes a `Permitted`; credentials and upstreams take nothing else. A secret
//!    so cannot reach a target that no rule names: it does not compile.
//! 4. Only `link::tls` knows rustls, only `backoff` its crate, only `relay::store` writes SQL.
//! 5. The agent opens no listening network socket.
//! 6. Whatever is sent or kept carries a version, and has golden vectors or tests of its bytes.
//! 7. A call that may have been processed is never reported as not sent, and never sent twice.
//!
//! # Where the inside differs from what one would expect
//!
//! - HTTP/2 on a lane begins with the lane's first request: an idle link holds none of its buffers.
//! - A data frame carries no number: WebSocket messages arrive whole and in order, so a frame begins
//!   where the one before it ended; acknowledgements carry totals.
//! - Upstream connections are kept in a small pool of our own (`agent::upstream`), because telling *not sent* from
//!   *outcome unknown* exactly is what callers rely on, and a general client's retries blur it.
//! - The agent's admin socket is served by hyper alone, so that the agent builds without a web framework.

// Layer 1: small tools.
pub mod admin_socket;
pub mod atomic_file;
#[cfg(feature = "agent")]
pub mod backoff;
pub mod body;
pub mod config_file;
pub mod daemon_config;
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
