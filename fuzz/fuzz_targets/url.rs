//! Any text as a URL: it means what it is written as, or is refused by an error that names it.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tierlock::fuzzed::url(text));
