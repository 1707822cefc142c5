//! The whole product, and the rules of the code, in one test binary.

mod vectors;
