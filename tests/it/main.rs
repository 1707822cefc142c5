//! All integration tests, in one binary: one link step, and one place for what they share.
//!
//! `sources`, `layers` and `tidy` hold the repository's own rules, `vectors` the formats; the others start the programs' parts.
#![cfg(test)]

mod accept;
mod attacks;
mod audit;
mod calls;
mod credentials;
mod directories;
mod drain;
mod errors;
mod harness;
mod keys;
mod layers;
mod link;
mod location;
mod logs;
mod moves;
mod policy;
mod refusals;
mod reload;
mod secrets;
mod sources;
#[cfg(feature = "otel")]
mod spans;
mod state;
mod status;
mod streams;
mod succession;
mod survival;
mod tidy;
mod transfer;
mod vectors;
