//! A private connection between two companies' issue trackers, one of them behind a firewall.
//!
//! `agent` runs inside the private network and keeps one outbound WebSocket, the *link*, to `relay`
//! on the public side. Calls travel down the link to upstreams that the private side allows. The link
//! outlives its WebSocket: cut, it goes on over the next one, and the calls on it do not notice.
//!
//! # Layers
//!
//! Imports go down only; `tests/it/layers.rs` enforces it.
//!
//! ```text
//!  6  bin                    agent.rs, relay.rs: parse, run, exit code
//!  5  cli                    commands, human output, exit codes
//!  4  agent  |  relay        the two products; never import each other
//!  3  link  spans            dialling, TLS, WebSocket, handshake; lanes as byte streams; HTTP/2 on them
//!  2  session → protocol → invitation → identity      pure: no tokio, no clock, no files
//!  1  admin_socket  backoff  body  atomic_file  condition  config_file  daemon_config  disk  error_chain  forwarding
//!     logging  metric  name  passed_sockets  problem  secret  seldom  shutdown  tunnel
//! ```
//!
//! # Reading order
//!
//! A call, from the caller to the private service and back: [`relay::listener`] takes the socket,
//! [`relay::forward`] decides whether it may pass and sends it down the lane ([`link::http2`]); the
//! lane's bytes become frames in [`session`] and leave by the link's driver ([`link`]); on the other
//! side [`agent::serve`] asks [`agent::policy`] and hands what is permitted to [`agent::upstream`]; the end
//! of the answer waits until [`agent::audit`] has written the call down.
//!
//! How a connection comes about: [`invitation`], [`protocol::redeem`], [`agent::accept`], then
//! [`protocol::handshake`] by [`agent::link_task`] and [`relay::link_endpoint`].
//!
//! How a link outlives its WebSocket: the rules are in [`session`] (`resume`) and `docs/protocol.md`,
//! section 3.3; what both sides say of it in [`protocol::handshake`] (`resume`); [`link::path`] shows how
//! the WebSocket is and changes it, beneath the driver. Who dials again, when, and what becomes of the old
//! link is decided in `agent::link_task::linking` and `retirement` by the states of [`agent::lifecycle`]; who may go on, and
//! who is a double, in `relay::link_endpoint::admission`; when agents are asked to move, in
//! `relay::link_endpoint::moving`. Calls that wait meanwhile: [`relay::forward`].
//!
//! How one agent process takes the place of another: [`agent::succession`] shows the two processes, `relay::registry`
//! (`succession`) the two links.
//!
//! # Invariants
//!
//! 1. [`agent`] and [`relay`] never import each other; they meet in [`protocol`] and [`link`].
//! 2. `session`, `protocol`, `invitation`, `identity` and `agent::policy` take time and bytes as values: no
//!    tokio, no files (but for `identity::key_file`), no clock.
//! 3. Only `agent::policy` makes a `Permitted`; credentials and upstreams take nothing else. A secret
//!    so cannot reach a target that no rule names: it does not compile. One secret has a target of its own: a client's
//!    secret goes to the `token_url` that stands beside it in the configuration, and nowhere else.
//! 4. Only `link::tls` knows rustls, only `backoff` its crate, only `relay::store` writes SQL.
//! 5. The agent opens no listening network socket, but for the metrics on a loopback address where `metrics.listen` asks for it.
//! 6. Whatever is sent or kept carries a version, and has golden vectors or tests of its bytes.
//! 7. A call that may have been processed is never reported as not sent, and never sent twice.
//! 8. What is read from a lane is a prefix of what was written to it, each byte once, over any number of
//!    WebSockets. Neither side holds more than its window and what the other has not acknowledged.
//! 9. A session goes on only for an agent that proves the connection's identity anew; a connection has one.
//!    The relay leaves the old WebSocket before it says yes, so that its counts are exact.
//!
//! # Where the inside differs from what one would expect
//!
//! - HTTP/2 on a lane begins with the lane's first request: an idle link holds none of its buffers.
//! - A data frame carries no number: WebSocket messages arrive whole and in order, so a frame begins
//!   where the one before it ended; acknowledgements carry totals.
//! - A link is not its WebSocket: lanes, HTTP/2 and calls hang on the session, and the driver is given another
//!   socket under them (`link::path`). Two sockets stand side by side while a link moves, and only then.
//! - A move to another relay *process* is no resumption: sessions are in one process's memory. The agent makes
//!   a second link, and the first ends with its last call.
//! - Upstream connections are kept in a small pool of our own (`agent::upstream`), because telling *not sent* from
//!   *outcome unknown* exactly is what callers rely on, and a general client's retries blur it.
//! - The agent's admin socket is served by hyper alone, so that the agent builds without a web framework.

// Layer 1: small tools.
pub mod admin_socket;
pub mod atomic_file;
#[cfg(feature = "agent")]
pub mod backoff;
pub mod body;
pub mod condition;
pub mod config_file;
pub mod daemon_config;
pub mod disk;
pub mod error_chain;
pub mod forwarding;
pub mod logging;
pub mod metric;
pub mod name;
pub mod passed_sockets;
pub mod problem;
pub mod secret;
pub mod seldom;
pub mod shutdown;
pub mod tunnel;

// Layer 2: pure.
pub mod identity;
pub mod invitation;
pub mod protocol;
pub mod session;

// Layer 3: machinery.
pub mod link;
pub mod spans;

// Layer 4: the two products.
#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "relay")]
pub mod relay;

// Layer 5.
pub mod cli;
