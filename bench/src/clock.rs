//! The only place that reads clocks.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long this thread has run.
pub(crate) fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.try_into().expect("it does not run backwards")
}

pub(crate) fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

#[expect(clippy::disallowed_methods, reason = "all of the benchmarks read the clock here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
