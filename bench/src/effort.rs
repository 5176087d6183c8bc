//! How thoroughly to measure.

use std::time::Duration;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// How long one batch takes, about.
    pub(crate) batch: Duration,
    /// A smoke test: the large cases are small.
    pub(crate) quick: bool,
}

impl Effort {
    pub(crate) const FULL: Self =
        Self { rounds: 151, batch: Duration::from_millis(1), quick: false };
    pub(crate) const QUICK: Self =
        Self { rounds: 31, batch: Duration::from_micros(500), quick: true };

    /// Fewer batches, each longer: for threads, which take a while to start and to meet.
    pub(crate) fn longer(self, factor: u32) -> Self {
        let fewer = factor.min(10) as usize;
        Self { rounds: (self.rounds / fewer).max(5), batch: self.batch * factor, ..self }
    }

    pub(crate) fn pick<T>(self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}
