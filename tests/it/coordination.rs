//! Locks across processes.

mod counting;
#[cfg(unix)]
mod file;
mod global;
mod lease;
mod ledger;
mod levels;
mod lock;
#[cfg(unix)]
mod processes;
mod synchronized;

/// A generator of numbers that look random: each thread has its own, and a run can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}
