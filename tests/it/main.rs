//! Tests of the library from outside, in one binary.

mod annotations;
mod condition;
#[cfg(feature = "conformance")]
mod conformance;
#[cfg(feature = "coordination")]
mod coordination;
mod lock_set;
mod misuse;
mod monitor;
mod pending;
mod properties;
mod session;
mod shared_lock;
mod spans;
mod support;
mod template;
mod tidy;
mod traps;
mod types;
