//! The programs beside this one, built into the same folder.

use std::path::PathBuf;
use std::process::Command;

/// Runs a program to its end and returns what it printed.
///
/// # Panics
/// If it is not there or fails, with what is to be done about it.
pub(crate) fn run(name: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> String {
    let path = folder().join(name);
    let output = Command::new(&path).args(arguments).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{}: {error}; `cargo xtask bench` builds it", path.display())
    });
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} failed: {}\n{told}", path.display(), output.status);
    String::from_utf8(output.stdout).expect("programs of ours print UTF-8")
}

fn folder() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows where it is");
    own.parent().expect("a program lies in a folder").to_owned()
}
