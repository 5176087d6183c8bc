//! The counts of a lock that everybody shares, apart from its word: so those who come and go do not pass one cache line to and fro.
//!
//! While the gate in the lock's word is open for a mode, newcomers in it are counted in the stripe of their owner, and leave
//! there. Whoever needs to know how many there are closes the gate and adds up; what it sees then never grows. Either it sees a
//! newcomer, or the newcomer sees the gate closed, takes its count back and goes through the queue's mutex, for each makes its
//! mark before it looks at the other's, with a fence between.

use std::sync::atomic::AtomicBool;

use crate::core::held::Held;
use crate::core::mode::Mode;
use crate::sync::TIME_PASSES;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Few enough to be added up in some nanoseconds. Models have as many as show what there is to show.
const STRIPES: usize = if TIME_PASSES { 16 } else { 2 };

/// Where an owner is counted: the same place from when it comes until it goes, whichever thread it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stripe(usize);

impl Stripe {
    /// Owners made one after another are counted apart.
    #[inline]
    pub(crate) const fn of(owner: u64) -> Self {
        Self(owner as usize % STRIPES)
    }
}

/// On a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Line(AtomicU64);

/// Owners in modes that can be shared, in whatever mode the lock is not held by one alone.
#[derive(Debug)]
pub(crate) struct Stripes {
    lines: [Line; STRIPES],
    /// Which gate was opened last, and so is likely to be wanted next: a hint, which models need not look into.
    usual_is_shared: AtomicBool,
}

impl Stripes {
    /// `Shared` will be wanted of it rather than intentions, or the other way round.
    pub(crate) fn new(usual: Mode) -> Box<Self> {
        let lines = std::array::from_fn(|_| Line(AtomicU64::new(0)));
        Box::new(Self { lines, usual_is_shared: AtomicBool::new(usual == Mode::Shared) })
    }

    /// Tells whether owners in this mode are counted here.
    #[inline]
    pub(crate) const fn count(mode: Mode) -> bool {
        matches!(mode, Mode::IntentShared | Mode::IntentExclusive | Mode::Shared)
    }

    /// Counts one more owner; returns who was counted in its stripe before.
    #[inline]
    pub(crate) fn add(&self, at: Stripe, mode: Mode) -> Held {
        Held::from_bits(self.line(at).fetch_add(Held::unit(mode), Ordering::AcqRel))
    }

    #[inline]
    pub(crate) fn subtract(&self, at: Stripe, mode: Mode) {
        let before = Held::from_bits(self.line(at).fetch_sub(Held::unit(mode), Ordering::AcqRel));
        debug_assert!(before.count(mode) > 0, "nobody was counted as {mode}");
    }

    /// Counts an owner in another mode, at no moment in none or both.
    pub(crate) fn change(&self, at: Stripe, from: Mode, to: Mode) {
        let change = Held::unit(to).wrapping_sub(Held::unit(from));
        self.line(at).fetch_add(change, Ordering::AcqRel);
    }

    /// Everybody that is counted here.
    pub(crate) fn sum(&self) -> Held {
        let lines = self.lines.iter().map(|Line(line)| line.load(Ordering::Acquire));
        Held::from_bits(lines.sum())
    }

    /// The gate to be opened while nobody holds the lock.
    pub(crate) fn usual(&self) -> Held {
        let shared = self.usual_is_shared.load(Ordering::Relaxed);
        if shared { Held::OPEN_SHARED } else { Held::OPEN_INTENT }
    }

    pub(crate) fn set_usual(&self, mode: Mode) {
        // Intent-shared goes through either.
        if mode != Mode::IntentShared && Self::count(mode) {
            self.usual_is_shared.store(mode == Mode::Shared, Ordering::Relaxed);
        }
    }

    #[inline]
    fn line(&self, at: Stripe) -> &AtomicU64 {
        &self.lines[at.0].0
    }
}

#[cfg(any(test, fuzzing))]
impl Clone for Stripes {
    fn clone(&self) -> Self {
        let copy = |Line(line): &Line| Line(AtomicU64::new(line.load(Ordering::Relaxed)));
        let usual_is_shared = AtomicBool::new(self.usual_is_shared.load(Ordering::Relaxed));
        Self { lines: std::array::from_fn(|at| copy(&self.lines[at])), usual_is_shared }
    }
}

/// Somebody who waits and will be counted.
pub(crate) trait Counted: Clone {
    fn stripe(&self) -> Stripe;
}
