//! A name with placeholders is an expression, or an error that says something.
#![no_main]

#[path = "../../macros/src/template.rs"]
mod template;

libfuzzer_sys::fuzz_target!(|text: &str| template::replay(text));
