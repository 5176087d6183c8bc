//! The only place that reads the clock.

use std::time::{Duration, Instant};

/// Time since the run began, and how much of it a microsecond of the files takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
    scale: f64,
}

impl Clock {
    pub(crate) fn start(scale: f64) -> Self {
        Self { start: now(), scale }
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

#[expect(clippy::disallowed_methods, reason = "all of the example reads the clock here")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
