//! The only place that reads the clock.

use std::time::{Duration, Instant};

/// Time since the run began, and how much of it a microsecond of the files takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    scale: f64,
    /// What a clock common to the host showed at the start, in microseconds; 0 if nobody else reads it.
    common_us: u128,
}

impl Clock {
    pub(crate) fn start(scale: f64) -> Self {
        Self { start: now(), scale, common_us: 0 }
    }

    /// The same, with stamps that all processes of the host take from one clock.
    pub(crate) fn common(self) -> Self {
        Self { common_us: common_us().saturating_sub(self.elapsed().as_micros()), ..self }
    }

    /// The time as it is recorded, in microseconds.
    pub(crate) fn stamp_us(&self) -> u128 {
        self.common_us + self.elapsed().as_micros()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        now().duration_since(self.start)
    }

    /// A span of time of the files, as it is here.
    pub(crate) fn scaled(&self, span: Duration) -> Duration {
        span.mul_f64(self.scale)
    }

    /// A span that somebody waits for others. Even where the files' times count for nothing it takes time, or there would be
    /// no end to trying.
    pub(crate) fn scaled_wait(&self, span: Duration) -> Duration {
        span.mul_f64(self.wait_scale())
    }

    pub(crate) fn wait_scale(&self) -> f64 {
        if self.scale > 0.0 { self.scale } else { 1.0 }
    }

    /// When `offset`, a time of the files, comes here.
    pub(crate) fn at(&self, offset: Duration) -> Instant {
        self.start + self.scaled(offset)
    }
}

#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "all of the example reads the clock here")]
fn common_us() -> u128 {
    use nix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    now.map_or(0, |now| now.as_micros())
}

#[cfg(not(unix))]
fn common_us() -> u128 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
    now.map_or(0, |now| now.as_micros())
}

#[expect(clippy::disallowed_methods, reason = "all of the example reads the clock here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
