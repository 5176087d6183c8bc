//! Who takes part in a coordination, as it is written into records.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::print::Printable;

/// A process that takes part, in one of its lives: who joins again under the same name is somebody else.
///
/// # Examples
/// ```
/// use tierlock::coordination::MemberId;
///
/// let member = MemberId::new("worker-1", "host-a", 4711, 0xfeed);
/// assert_eq!(member.to_string(), "worker-1 (host-a, pid 4711)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberId {
    name: Arc<str>,
    host: Arc<str>,
    pid: u32,
    life: u64,
}

impl MemberId {
    /// Names a member. `life` tells apart those who had the name one after the other: a driver gives each its own.
    ///
    /// # Examples
    /// ```
    /// # use tierlock::coordination::MemberId;
    /// let (first, again) = (MemberId::new("a", "h", 1, 1), MemberId::new("a", "h", 1, 2));
    /// assert_ne!(first, again);
    /// ```
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, host: impl Into<Arc<str>>, pid: u32, life: u64) -> Self {
        Self { name: name.into(), host: host.into(), pid, life }
    }

    /// The name it joined with.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The host it runs on.
    #[must_use]
    pub fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// Its process there.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Which of the lives of its name.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.life
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, host) = (Printable(&self.name), Printable(&self.host));
        write!(f, "{name} ({host}, pid {})", self.pid)
    }
}
