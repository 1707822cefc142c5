//! All integration tests, in one binary: one link step, and one place for what they share.
//!
//! `sources`, `layers` and `tidy` hold the repository's own rules, `vectors` the formats; the others start the programs' parts.
#![cfg(test)]

mod calls;
mod layers;
mod sources;
mod tidy;
mod vectors;
