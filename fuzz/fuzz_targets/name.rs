//! Any text as a template, with any values: what is read is shown as it was, and a name is blank for nobody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tierlock::template::{Data, Template, Value};

fuzz_target!(|input: (&str, &str, &str)| {
    let (text, key, value) = input;
    let Ok(template) = Template::parse(text) else { return };
    assert_eq!(template.to_string(), text);
    let parts = Data::new().with(key, value).with("none", None::<u8>);
    let list = vec![Value::from(value), Value::from(parts.clone())];
    let data = Data::new().with(key, value).with("a", parts).with("b", list).with("c", value);
    match template.format(&data) {
        Ok(name) => assert!(!name.trim().is_empty()),
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
});
