//! Any text as a template, with any values: what is read is shown as it was, and a name is blank for nobody.
#![no_main]

#[path = "../../tests/it/properties/names.rs"]
mod names;

libfuzzer_sys::fuzz_target!(|text: &str| names::replay(text));
