//! `docs/performance.md`: the table, what it was measured on, and a part kept by hand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io, thread};

/// What stands between these in the file stays as it is.
const BEGIN: &str = "<!-- kept by hand: begin -->";
const END: &str = "<!-- kept by hand: end -->";

/// Writes the table to the file and returns its path.
pub(crate) fn write(table: &str) -> io::Result<PathBuf> {
    let path = path();
    let before = fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, text(table, kept(&before)))?;
    Ok(path)
}

pub(crate) fn path() -> PathBuf {
    root().join("docs/performance.md")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate stands below the root")
}

/// The part kept by hand.
fn kept(text: &str) -> &str {
    let inside = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    inside.map_or("\n", |(inside, _)| inside)
}

fn text(table: &str, kept: &str) -> String {
    format!(
        "# Performance\n\n\
         Written by `cargo xtask bench`, but for the part kept by hand below the table.\n\n\
         {}\n\
         Contenders run in turn, a batch each, round after round. *Median* is of the time of one operation, which takes and gives\n\
         back, over the rounds. *tierlock takes* so many times what the contender takes: the median of the ratios within each round,\n\
         and in brackets its quartiles. Believe the ratio: times depend on what else the machine does. Each contender asserts that\n\
         it held what it says.\n\n\
         {table}\n\
         {BEGIN}{kept}{END}\n",
        machine()
    )
}

/// What it was measured on, as a list.
fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal").replace(" kB", "").parse().unwrap_or(0) >> 20;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "- Machine: {}, {cores} cores, {memory} GB of memory, Linux {}\n\
         - Built by {} with the release profile\n\
         - Against {}\n\
         - Measured on {} at commit {}\n",
        field("/proc/cpuinfo", "model name"),
        kernel.trim(),
        said("rustc", &["--version"]),
        crates(),
        said("date", &["-u", "+%Y-%m-%d"]),
        commit(),
    )
}

/// The value of a line `name: value` of a file of the kernel's.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let found = fields.find(|(key, _)| key.trim() == name);
    found.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

/// The contenders and their versions.
fn crates() -> String {
    const TOOLS: [&str; 2] = ["rustix", "stats_alloc"];
    let arguments = ["tree", "--package", "tierlock-bench", "--depth", "1", "--prefix", "none"];
    let tree = said("cargo", &arguments);
    let line = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let version = rest.split_whitespace().next()?.trim_start_matches('v');
        (!name.starts_with("tierlock") && !TOOLS.contains(&name))
            .then(|| format!("{name} {version}"))
    };
    tree.lines().filter_map(line).collect::<Vec<_>>().join(", ")
}

fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let changes = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    if changes.is_empty() { commit } else { commit + ", with changes" }
}

/// What a program prints, or that it is unknown.
fn said(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).current_dir(root()).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_by_hand_survives() {
        let first = text("| a |\n", "\nSlower, since it is fair.\n");
        let second = text("| b |\n", kept(&first));
        assert!(second.contains("| b |") && !second.contains("| a |"), "{second}");
        assert_eq!(kept(&second), "\nSlower, since it is fair.\n");
        assert_eq!(kept("no marks"), "\n");
    }
}
