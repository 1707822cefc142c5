//! The private side's program.
fn main() {}
