//! Figures for monitoring: counters that cost a few nanoseconds, and the text that a Prometheus reads.
//!
//! Recording takes no lock and allocates nothing. Labels are names of the configuration and words of tables
//! here, never anything a caller chooses; what is in no table counts as `other`. So nobody can make the figures grow.

pub mod calls;
pub mod histogram;
pub mod listener;
pub mod process;
pub mod text;
pub mod words;
