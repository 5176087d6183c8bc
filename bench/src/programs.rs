//! The programs beside this one, built into the same folder.

use std::path::PathBuf;
use std::process::Command;

/// Runs a program to its end and returns what it printed.
///
/// # Panics
/// If it is not there or fails, with what is to be done about it.
pub(crate) fn run(name: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> String {
    let output = command(name).args(arguments).output();
    let output =
        output.unwrap_or_else(|error| panic!("{name}: {error}; `cargo xtask bench` builds it"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} failed: {}\n{told}", output.status);
    String::from_utf8(output.stdout).expect("programs of ours print UTF-8")
}

/// A program that is yet to be started.
pub(crate) fn command(name: &str) -> Command {
    Command::new(folder().join(name))
}

/// Where they lie.
pub(crate) fn folder() -> PathBuf {
    let own = std::env::current_exe().expect("a program knows where it is");
    own.parent().expect("a program lies in a folder").to_owned()
}
