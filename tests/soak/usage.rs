//! How much the process uses, whenever everybody is at rest.

use std::fmt;

/// Megabytes resident and open descriptors, by time; nothing where the system does not tell.
#[derive(Default)]
pub(crate) struct Usage(Vec<(u64, usize)>);

/// While caches and pools fill.
const WARM_UP: usize = 20;

impl Usage {
    pub(crate) fn measure(&mut self) {
        self.0.extend(resident_mb().zip(descriptors()));
    }

    /// The last quarter uses no more than the first did, but for what an allocator keeps.
    pub(crate) fn assert_flat(&self) {
        let Some(warm) = self.0.get(WARM_UP..).filter(|warm| warm.len() >= 8) else { return };
        let quarter = warm.len() / 4;
        let (first, last) = (&warm[..quarter], &warm[warm.len() - quarter..]);
        let megabytes = |part: &[(u64, usize)]| part.iter().map(|at| at.0).max().unwrap_or(0);
        let descriptors = |part: &[(u64, usize)]| part.iter().map(|at| at.1).max().unwrap_or(0);
        assert!(megabytes(last) <= megabytes(first) * 5 / 4 + 8, "memory grows: {self}");
        assert!(descriptors(last) <= descriptors(first), "descriptors grow: {self}");
    }
}

/// At the beginning, and now.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((mb, open)) = self.0.get(WARM_UP).or(self.0.first()) else {
            return f.write_str("usage unknown");
        };
        let (mb_now, open_now) = self.0.last().expect("there is a first");
        write!(f, "{mb} to {mb_now} MB, {open} to {open_now} descriptors")
    }
}

fn resident_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

fn descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}
