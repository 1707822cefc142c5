//! The private side: a daemon that keeps outbound links and serves the calls that come down them.
//!
//! It opens no listening network socket. What it may reach is in its configuration and nowhere else;
//! what it remembers is in its state directory.

pub mod config;
pub mod credentials;
pub mod lifecycle;
pub mod metrics;
pub mod policy;
pub mod serve;
pub mod state;
pub mod status;
pub mod upstream;
