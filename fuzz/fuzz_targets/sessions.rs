//! Three sessions of a manager do anything, without waiting, as the naive model of it says.
#![no_main]
#![allow(dead_code, reason = "the rest is for other targets")]

#[path = "../../tests/it/properties/bytes.rs"]
mod bytes;
#[path = "../../tests/it/properties/model.rs"]
mod model;
#[path = "../../tests/it/properties/steps.rs"]
mod steps;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bytes::sessions(bytes));
