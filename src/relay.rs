//! The public side: connections, invitations and tokens, the agents' links, and callers' calls.

pub mod api;
pub mod clock;
pub mod config;
pub mod connections;
pub mod link_endpoint;
pub mod record;
pub mod registry;
pub mod shared;
pub mod store;
pub mod tokens;
