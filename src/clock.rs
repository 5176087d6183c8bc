//! Deadlines; the only place that reads a clock.

use std::time::{Duration, Instant};

/// A wait shorter than this is a try: queueing and waking cost more than it could gain. Ganeti's constant, too.
pub(crate) const WAIT_MIN: Duration = Duration::from_millis(1);

/// Monotonic time, now.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since some moment: those in suspend too, and on Unix the same in every process of the host.
#[cfg(feature = "coordination")]
pub(crate) fn common_ms() -> u64 {
    imp::common().as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(all(feature = "coordination", unix))]
mod imp {
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};

    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
    /// Elsewhere it does not stop in suspend, or there is no other.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;

    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(super) fn common() -> Duration {
        clock_gettime(CLOCK).expect("every kernel we run on has this clock").into()
    }
}

#[cfg(all(feature = "coordination", not(unix)))]
mod imp {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    /// Counts from its first call in this process: no other can read it.
    pub(super) fn common() -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        super::now().saturating_duration_since(*START.get_or_init(super::now))
    }
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
