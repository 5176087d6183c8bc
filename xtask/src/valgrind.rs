//! Valgrind, where it is; where it is not, and we may, it is installed.

use std::process::{Command, Stdio};

const REMEDY: &str = "valgrind is missing: install the package of that name, or run this as root on Debian or Ubuntu";

/// Sees to it that `valgrind` can be called.
///
/// # Errors
/// What to do about it.
pub(crate) fn find_or_install() -> Result<(), String> {
    if succeeds("valgrind", &["--version"]) {
        return Ok(());
    }
    if !is_root() || !succeeds("apt-get", &["--version"]) {
        return Err(REMEDY.to_owned());
    }
    println!("valgrind is missing and is being installed by apt-get");
    // A fresh machine knows of no package yet.
    let installed =
        apt(&["update"]) && apt(&["install", "--yes", "--no-install-recommends", "valgrind"]);
    if installed && succeeds("valgrind", &["--version"]) {
        Ok(())
    } else {
        Err(format!("{REMEDY}; apt-get was tried"))
    }
}

fn apt(arguments: &[&str]) -> bool {
    let mut apt = Command::new("apt-get");
    apt.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    apt.stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
