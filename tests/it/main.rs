//! All integration tests, in one binary: one link step, and one place for what they share.
//!
//! `sources`, `layers` and `tidy` hold the repository's own rules, `vectors` the formats; the others start the programs' parts.
#![cfg(test)]

mod accept;
mod calls;
mod harness;
mod layers;
mod link;
mod refusals;
mod sources;
mod state;
mod tidy;
mod vectors;
