//! The only place that reads clocks.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long this thread has run.
pub(crate) fn own_time() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// How long all threads of this process have run.
pub(crate) fn process_time() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// Since some moment, the same in all processes.
pub(crate) fn common_time() -> Duration {
    read(ClockId::Monotonic)
}

fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().expect("it does not run backwards")
}

pub(crate) fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

#[expect(clippy::disallowed_methods, reason = "all of the benchmarks read the clock here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
