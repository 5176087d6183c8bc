//! What anybody may write where a URL should be.

use super::Url;
use crate::coordination::connect::connect;
use crate::core::print::Printable;
use crate::error::CoordinationError;

/// Reads it as the URL of a directory, which is not touched, and whatever is none as the URL of any engine.
///
/// # Panics
/// If what is read is not written as what means the same, or what is refused not refused by an error that names it.
pub(crate) fn url(text: &str) {
    match Url::parse(text) {
        Ok(url) => {
            let written = Url::write(&url.path, url.durability);
            assert!(written.bytes().all(|byte| byte.is_ascii_graphic()), "{written:?}");
            assert_eq!(Url::parse(&written), Ok(url), "{text:?} is written {written:?}");
        }
        Err(reason) => no_directory(text, &reason),
    }
}

fn no_directory(text: &str, reason: &str) {
    match connect(text) {
        Ok(memory) if memory.name() == "memory:" => assert_eq!(text, "memory:"),
        Ok(memory) => {
            let same = connect(memory.name()).expect("that was its name");
            assert_eq!((memory.name(), same.name()), (text, text));
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
            assert!(
                shown.contains(&Printable(text).to_string()),
                "{shown:?} does not say {text:?}"
            );
            let CoordinationError::BadUrl { url, reason: said } = error else { panic!("{shown}") };
            assert_eq!(&*url, text);
            assert!(!reason.is_empty() && !said.is_empty(), "{shown}");
        }
    }
}

#[cfg(test)]
#[test]
fn each_entry_is_a_url_that_means_what_it_is_written_as_or_is_refused_by_name() {
    use std::{fs, path::Path};
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora/url");
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("a folder that can be read").path();
        println!("{}", path.display());
        url(&String::from_utf8_lossy(&fs::read(path).expect("a file that can be read")));
        count += 1;
    }
    assert!(count > 0, "nothing in {}", folder.display());
}
