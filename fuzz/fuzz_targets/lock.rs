//! Twelve owners do anything to one lock in any order, as the naive model of it says.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tierlock::replay_lock(bytes));
