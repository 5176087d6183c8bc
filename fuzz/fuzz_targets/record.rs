//! Anything may lie in a store where a record should be. It is refused, or it is a record that keeps its rules whatever happens
//! to it afterwards. `src/core/record/tests/records` is what to begin with.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| tierlock::fuzzed::record(input));
