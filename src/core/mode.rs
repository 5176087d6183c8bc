//! The five modes in which a lock can be held: which admits which, and which covers both.

use std::fmt;

/// How a lock is held, or asked for.
///
/// The three strong modes say something about the lock itself, the two intentions about what lies below it: a set-lock is
/// held in an intention while some of its names are held. From Gray, Lorie, Putzolu and Traiger, *Granularity of Locks and
/// Degrees of Consistency in a Shared Data Base* (1976). What admits what:
///
/// | | `IntentShared` | `IntentExclusive` | `Shared` | `SharedIntentExclusive` | `Exclusive` |
/// |---|---|---|---|---|---|
/// | `IntentShared` | yes | yes | yes | yes | |
/// | `IntentExclusive` | yes | yes | | | |
/// | `Shared` | yes | | yes | | |
/// | `SharedIntentExclusive` | yes | | | | |
/// | `Exclusive` | | | | | |
///
/// # Examples
/// ```
/// use tierlock::Mode;
///
/// assert!(Mode::Shared.admits(Mode::Shared));
/// assert!(!Mode::Shared.admits(Mode::Exclusive));
/// assert_eq!(Mode::Shared.join(Mode::IntentExclusive), Mode::SharedIntentExclusive);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Mode {
    /// Something below is held shared.
    IntentShared,
    /// Something below is held exclusively.
    IntentExclusive,
    /// Held together with others who only look.
    Shared,
    /// Shared, and something below is held exclusively.
    SharedIntentExclusive,
    /// Held alone.
    Exclusive,
}

use Mode::{Exclusive, IntentExclusive, IntentShared, Shared, SharedIntentExclusive};

impl Mode {
    /// Every mode, weakest first.
    ///
    /// # Examples
    /// ```
    /// use tierlock::Mode;
    /// assert_eq!(Mode::ALL.last(), Some(&Mode::Exclusive));
    /// ```
    pub const ALL: [Self; 5] =
        [IntentShared, IntentExclusive, Shared, SharedIntentExclusive, Exclusive];

    /// Tells whether two owners can hold one lock at a time in these two modes; symmetric.
    ///
    /// # Examples
    /// ```
    /// use tierlock::Mode;
    /// assert!(Mode::IntentShared.admits(Mode::IntentExclusive));
    /// ```
    #[must_use]
    pub const fn admits(self, other: Self) -> bool {
        match (self, other) {
            (Exclusive, _) | (_, Exclusive) => false,
            (IntentShared, _) | (_, IntentShared) => true,
            (IntentExclusive, IntentExclusive) | (Shared, Shared) => true,
            _ => false,
        }
    }

    /// Tells whether holding `self` permits all that holding `other` does.
    ///
    /// # Examples
    /// ```
    /// use tierlock::Mode;
    /// assert!(Mode::Exclusive.covers(Mode::Shared));
    /// assert!(!Mode::Shared.covers(Mode::IntentExclusive));
    /// ```
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Exclusive, _) | (_, IntentShared) => true,
            (SharedIntentExclusive, other) => !matches!(other, Exclusive),
            (Shared, Shared) | (IntentExclusive, IntentExclusive) => true,
            _ => false,
        }
    }

    /// Returns the least mode that covers both: what an owner holds after asking for `other` on top of `self`.
    ///
    /// # Examples
    /// ```
    /// use tierlock::Mode;
    /// assert_eq!(Mode::IntentShared.join(Mode::Shared), Mode::Shared);
    /// ```
    #[must_use]
    pub const fn join(self, other: Self) -> Self {
        if self.covers(other) {
            self
        } else if other.covers(self) {
            other
        } else {
            // Only `Shared` and `IntentExclusive` do not cover one another.
            SharedIntentExclusive
        }
    }

    /// The strongest mode in which others can hold a lock beside whoever holds it in `mode`; of what others hold, the
    /// strongest that is left. Its own inverse.
    #[cfg(feature = "coordination")]
    pub(crate) const fn beside(mode: Option<Self>) -> Option<Self> {
        match mode {
            None => Some(Exclusive),
            Some(IntentShared) => Some(SharedIntentExclusive),
            Some(IntentExclusive) => Some(IntentExclusive),
            Some(Shared) => Some(Shared),
            Some(SharedIntentExclusive) => Some(IntentShared),
            Some(Exclusive) => None,
        }
    }

    /// The intention to be held on the set above a name that is held in this mode.
    pub(crate) const fn intention(self) -> Self {
        match self {
            IntentShared | Shared => IntentShared,
            IntentExclusive | SharedIntentExclusive | Exclusive => IntentExclusive,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            IntentShared => "intent-shared",
            IntentExclusive => "intent-exclusive",
            Shared => "shared",
            SharedIntentExclusive => "shared-intent-exclusive",
            Exclusive => "exclusive",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gray's table, written out once more as the paper prints it.
    const TABLE: [[bool; 5]; 5] = [
        [true, true, true, true, false],
        [true, true, false, false, false],
        [true, false, true, false, false],
        [true, false, false, false, false],
        [false, false, false, false, false],
    ];

    fn pairs() -> impl Iterator<Item = (Mode, Mode)> {
        Mode::ALL.into_iter().flat_map(|a| Mode::ALL.into_iter().map(move |b| (a, b)))
    }

    #[test]
    fn compatibility_is_grays_table() {
        for (a, b) in pairs() {
            assert_eq!(a.admits(b), TABLE[a as usize][b as usize], "{a} beside {b}");
        }
    }

    #[test]
    fn a_mode_that_covers_another_admits_nothing_the_other_does_not() {
        for (a, b) in pairs() {
            let narrower = Mode::ALL.into_iter().all(|c| !a.admits(c) || b.admits(c));
            assert_eq!(a.covers(b), narrower, "{a} over {b}");
        }
    }

    #[cfg(feature = "coordination")]
    #[test]
    fn what_is_left_beside_a_mode_covers_exactly_what_it_admits() {
        for mode in Mode::ALL {
            let left = Mode::beside(Some(mode));
            assert_eq!(Mode::beside(left), Some(mode));
            for other in Mode::ALL {
                let covered = left.is_some_and(|left| left.covers(other));
                assert_eq!(covered, mode.admits(other), "{other} beside {mode}");
            }
        }
        assert_eq!(Mode::beside(None), Some(Exclusive));
    }

    #[test]
    fn join_is_the_least_mode_that_covers_both() {
        for (a, b) in pairs() {
            let join = a.join(b);
            assert!(join.covers(a) && join.covers(b));
            for upper in Mode::ALL.into_iter().filter(|m| m.covers(a) && m.covers(b)) {
                assert!(upper.covers(join), "{upper} covers {a} and {b}, {join} is greater");
            }
        }
    }
}
