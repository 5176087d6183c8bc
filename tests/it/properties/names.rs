//! Templates and values of strangers: key and value a line each, and the template after them.

use tierlock::template::{Data, Template, Value};

/// What is read is shown as it was, and a name is blank for nobody.
pub(crate) fn replay(text: &str) {
    let mut lines = text.splitn(3, '\n');
    let [key, value, template] =
        [lines.next(), lines.next(), lines.next()].map(Option::unwrap_or_default);
    let Ok(read) = Template::parse(template) else { return };
    assert_eq!(read.to_string(), template);
    match read.format(&data(key, value)) {
        Ok(name) => assert!(!name.trim().is_empty()),
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
}

fn data(key: &str, value: &str) -> Data {
    let parts = Data::new().with(key, value).with("none", None::<u8>);
    let list = vec![Value::from(value), Value::from(parts.clone())];
    Data::new().with(key, value).with("a", parts).with("b", list).with("c", value)
}
