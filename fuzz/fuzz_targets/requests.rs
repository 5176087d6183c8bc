//! Four owners ask, wait, change their minds and give back, as chance has it.
#![no_main]

#[path = "../../tests/it/properties/requests.rs"]
mod requests;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| requests::replay(bytes));
