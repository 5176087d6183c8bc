//! Steps as bytes, which a fuzzer writes: two for each. Whatever the bytes are, they are steps.

use super::{Mode, Step, Trial};

/// Takes the steps that make sense, with a lock and its model.
///
/// # Panics
/// If they come to disagree.
#[cfg_attr(not(fuzzing), expect(unreachable_pub, reason = "it is exported for fuzzers"))]
pub fn replay(bytes: &[u8]) {
    let mut trial = Trial::new();
    for step in bytes.chunks_exact(2).map(|step| decode(step[0], step[1])) {
        if trial.model.permits(step) {
            trial.take(step);
        }
    }
    trial.model.assert_nobody_waits_in_a_circle();
}

/// | byte | says |
/// |---|---|
/// | 0 | what is done, and by which of twelve owners |
/// | 1 | in which mode, and at which of five priorities |
fn decode(what: u8, how: u8) -> Step {
    let who = char::from(b'a' + what % 12);
    let mode = Mode::ALL[usize::from(how) % 5];
    let priority = i32::from(how / 5 % 5) - 2;
    match what / 12 {
        0..6 => Step::Request { who, mode, priority },
        6 | 7 => Step::Try { who, mode, priority },
        8..13 => Step::Release { who },
        13 => Step::Cancel { who },
        14 | 15 => Step::Downgrade { who, to: mode },
        16 | 17 => Step::Upgrade { who, to: mode, priority },
        18 => Step::TryUpgrade { who, to: mode },
        // Nothing comes after it.
        19 if how == u8::MAX => Step::Delete { who },
        _ => Step::SetPriority { who, priority },
    }
}

#[cfg(test)]
#[test]
fn a_lock_does_with_each_entry_as_the_model_does() {
    use std::fs;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora/lock");
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for entry in entries {
        let path = entry.expect("a folder that can be read").path();
        println!("{}", path.display());
        replay(&fs::read(path).expect("a file that can be read"));
        count += 1;
    }
    assert!(count > 0, "nothing in {}", folder.display());
}
