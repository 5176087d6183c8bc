//! Which process has a lock: the kernel does not say so to those who are refused it, but to those who look into `/proc`.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The processes that hold the lock on this byte of the file, for people to read.
pub(super) fn holders(file: &File, at: usize) -> String {
    let Ok(metadata) = file.metadata() else { return unknown() };
    let mut found: Vec<_> = numbers(Path::new("/proc"))
        .filter(|pid| has_lock(*pid, metadata.ino(), at))
        .map(describe)
        .collect();
    found.sort();
    if found.is_empty() { unknown() } else { found.join(", ") }
}

fn unknown() -> String {
    "somebody that cannot be seen from here".to_owned()
}

fn numbers(folder: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn has_lock(pid: u32, inode: u64, at: usize) -> bool {
    let folder = format!("/proc/{pid}/fdinfo");
    numbers(Path::new(&folder)).any(|descriptor| {
        let text = fs::read_to_string(format!("{folder}/{descriptor}")).unwrap_or_default();
        text.lines().any(|line| is_lock(line, inode, at))
    })
}

/// As in `lock: 1: OFDLCK  ADVISORY  WRITE -1 fe:00:1234567 2 2`
fn is_lock(line: &str, inode: u64, at: usize) -> bool {
    let Some(lock) = line.strip_prefix("lock:") else { return false };
    let words: Vec<_> = lock.split_whitespace().collect();
    let [_, "OFDLCK", _, "WRITE", _, file, start, _] = words[..] else { return false };
    let file = file.rsplit(':').next().and_then(|file| file.parse().ok());
    file == Some(inode) && start.parse() == Ok(at)
}

fn describe(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Between the parentheses stands the program's name, which may contain some.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    let name = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    let name = name.map_or("unknown", |(name, _)| name);
    match state {
        Some('T' | 't') => format!("pid {pid} ({name}), which is stopped"),
        Some('D') => format!("pid {pid} ({name}), which waits for its disk"),
        _ => format!("pid {pid} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_understood() {
        let line = "lock:\t1: OFDLCK  ADVISORY  WRITE -1 fe:00:1234567 2 2";
        assert!(is_lock(line, 1234567, 2));
        assert!(!is_lock(line, 1234567, 3));
        assert!(!is_lock(line, 234567, 2));
        assert!(!is_lock("flags:\t02100002", 1, 2));
        assert!(!is_lock("lock:", 1, 2));
    }
}
