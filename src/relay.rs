//! The public side: connections, invitations and tokens, the agents' links, and callers' calls.

pub mod clock;
pub mod record;
pub mod registry;
pub mod store;
pub mod tokens;
