//! Deadlines; the only place that reads the clock.

use std::time::{Duration, Instant};

/// A wait shorter than this is a try: queueing and waking cost more than it could gain. Ganeti's constant, too.
pub(crate) const WAIT_MIN: Duration = Duration::from_millis(1);

/// Monotonic time, now.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Seconds since 1970 by the clock on the wall, for people to read: it may stand wrong, and jump.
#[cfg(feature = "coordination")]
pub(crate) fn wall_s() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Until when a request may wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Limit {
    /// For as long as it takes.
    #[default]
    Never,
    /// For this long, counted from when waiting begins.
    Within(Duration),
    /// Until then.
    At(Instant),
}

impl Limit {
    /// The deadline of a wait that begins at `start`: `Err` if it is too near to queue for, `Ok(None)` if there is none.
    pub(crate) fn deadline(self, start: Instant) -> Result<Option<Instant>, TooNear> {
        let deadline = match self {
            Self::Never => None,
            // A duration beyond the clock's range is for ever.
            Self::Within(timeout) => start.checked_add(timeout),
            Self::At(deadline) => Some(deadline),
        };
        match deadline {
            Some(at) if at.saturating_duration_since(start) < WAIT_MIN => Err(TooNear),
            deadline => Ok(deadline),
        }
    }
}

/// Less than [`WAIT_MIN`] is left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooNear;
