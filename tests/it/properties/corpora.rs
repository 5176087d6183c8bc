//! What fuzzers came upon, once more: `tests/corpora` has a folder for each target of `fuzz/`.

use std::fs;
use std::path::Path;

use super::{bytes, names, requests};

fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora").join(target);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for file in files {
        let path = file.expect("a folder that can be read").path();
        println!("{}", path.display());
        check(&fs::read(path).expect("a file that can be read"));
        count += 1;
    }
    assert!(count > 0, "nothing in {}", folder.display());
}

#[test]
fn sessions_do_with_each_entry_as_the_model_does() {
    replay("sessions", bytes::sessions);
}

#[test]
fn guards_do_with_each_entry_as_the_model_does() {
    replay("guards", bytes::guards);
}

#[test]
fn requests_of_each_entry_wait_for_somebody_and_leave_nothing() {
    replay("requests", requests::replay);
}

#[test]
fn names_of_each_entry_are_blank_for_nobody() {
    replay("name", |entry| names::replay(&String::from_utf8_lossy(entry)));
}
