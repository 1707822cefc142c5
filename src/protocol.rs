//! Placeholder.

pub mod redeem;
