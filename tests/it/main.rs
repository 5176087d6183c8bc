//! Tests of the library from outside, in one binary.

mod condition;
mod spans;
mod tidy;
