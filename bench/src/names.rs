//! Names to lock, and a sequence of numbers that looks like chance and is the same in each run.

use std::sync::Arc;

/// `count` names of one length, in byte order.
pub(crate) fn names(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|i| format!("node{i:07}.example").into()).collect()
}

/// Numbers by Marsaglia's xorshift.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new() -> Self {
        Self::seeded(0)
    }

    pub(crate) fn seeded(seed: usize) -> Self {
        // Never zero, from which nothing else would come.
        Self(0x9e37_79b9_7f4a_7c15 ^ ((seed as u64) << 1))
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    /// Some of `all`, each at most once, in no order.
    pub(crate) fn some<T: Clone>(&mut self, all: &[T], count: usize) -> Vec<T> {
        let mut all = all.to_vec();
        for at in 0..count {
            let other = at + self.below(all.len() - at);
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }
}

/// Something else each time, over and over.
pub(crate) struct Ring<T>(Vec<T>, usize);

impl<T> Ring<T> {
    pub(crate) fn new(items: Vec<T>) -> Self {
        Self(items, 0)
    }

    pub(crate) fn next(&mut self) -> &T {
        self.1 = if self.1 + 1 == self.0.len() { 0 } else { self.1 + 1 };
        &self.0[self.1]
    }
}
