//! Who holds a lock, packed into one word.

use std::fmt;

use super::mode::Mode;

/// The state of a lock as a value; the atomic of a lock holds one of these.
///
/// | bits | what |
/// |---|---|
/// | 0..19 | owners in `IntentShared` |
/// | 19..38 | owners in `IntentExclusive` |
/// | 38..57 | owners in `Shared` |
/// | 57 | held in `SharedIntentExclusive` |
/// | 58 | held in `Exclusive` |
/// | 59 | `OPEN_INTENT`: newcomers in an intention are counted in stripes |
/// | 60 | `OPEN_SHARED`: newcomers in `Shared` and `IntentShared` are |
/// | 61 | `ABANDONED`: the last exclusive owner ended without releasing it, and no later one was told |
/// | 62 | `DELETED` |
/// | 63 | `QUEUED`: somebody waits; every transition goes through the queue |
///
/// Invariant: the modes counted admit one another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Held(u64);

const COUNT_BITS: u32 = 19;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// A quarter of what a count can hold: three counts below it, and as many again, fit into one.
const FEW: u64 = 1 << (COUNT_BITS - 2);
/// Set if some count has reached `FEW`.
const CROWDED: u64 = (COUNT_MASK ^ (FEW - 1)) * (1 | 1 << COUNT_BITS | 1 << (2 * COUNT_BITS));
/// Set if some count of a stripe has reached so many that the gate must not be open: all stripes together leave room then.
const STRIPE_CROWDED: u64 =
    (COUNT_MASK ^ ((1 << 10) - 1)) * (1 | 1 << COUNT_BITS | 1 << (2 * COUNT_BITS));
const OPEN_INTENT: u64 = 1 << 59;
const OPEN_SHARED: u64 = 1 << 60;
const ABANDONED: u64 = 1 << 61;
const DELETED: u64 = 1 << 62;
const QUEUED: u64 = 1 << 63;
/// What keeps a newcomer from the fast path.
const CLOSED: u64 = QUEUED | DELETED;

/// One owner in `mode`.
const fn one(mode: Mode) -> u64 {
    match mode {
        Mode::IntentShared => 1,
        Mode::IntentExclusive => 1 << COUNT_BITS,
        Mode::Shared => 1 << (2 * COUNT_BITS),
        Mode::SharedIntentExclusive => 1 << 57,
        Mode::Exclusive => 1 << 58,
    }
}

/// All owners in `mode`.
const fn all(mode: Mode) -> u64 {
    match mode {
        Mode::IntentShared | Mode::IntentExclusive | Mode::Shared => COUNT_MASK * one(mode),
        Mode::SharedIntentExclusive | Mode::Exclusive => one(mode),
    }
}

/// The bits of every mode that a mode does not admit, by mode.
const CONFLICTS: [u64; Mode::ALL.len()] = {
    let mut conflicts = [0; Mode::ALL.len()];
    let mut i = 0;
    while i < Mode::ALL.len() {
        let mut j = 0;
        while j < Mode::ALL.len() {
            if !Mode::ALL[i].admits(Mode::ALL[j]) {
                conflicts[i] |= all(Mode::ALL[j]);
            }
            j += 1;
        }
        i += 1;
    }
    conflicts
};

/// One owner in a mode, by mode.
const ONE: [u64; Mode::ALL.len()] = {
    let mut ones = [0; Mode::ALL.len()];
    let mut i = 0;
    while i < Mode::ALL.len() {
        ones[i] = one(Mode::ALL[i]);
        i += 1;
    }
    ones
};

/// The gates through which a newcomer can come, by mode.
const GATES: [u64; Mode::ALL.len()] = [OPEN_INTENT | OPEN_SHARED, OPEN_INTENT, OPEN_SHARED, 0, 0];

impl Held {
    /// Nobody holds it, nobody waits.
    pub(crate) const FREE: Self = Self(0);
    pub(crate) const QUEUED: Self = Self(QUEUED);
    pub(crate) const DELETED: Self = Self(DELETED);
    pub(crate) const ABANDONED: Self = Self(ABANDONED);
    pub(crate) const OPEN_INTENT: Self = Self(OPEN_INTENT);
    pub(crate) const OPEN_SHARED: Self = Self(OPEN_SHARED);
    /// Either gate.
    pub(crate) const OPEN: Self = Self(OPEN_INTENT | OPEN_SHARED);
    /// As many owners as can share a lock, in whatever modes; the next one waits. So each count has room for whoever goes over to
    /// its mode, and nobody gets a place by that.
    pub(crate) const SHARERS_MAX: u64 = COUNT_MASK;

    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// What to add to the word for one more owner in `mode`, and to subtract when it leaves.
    #[inline]
    pub(crate) const fn unit(mode: Mode) -> u64 {
        ONE[mode as usize]
    }

    /// Tells whether `count` more owners can hold the lock in `mode`, whoever waits.
    #[inline]
    pub(crate) const fn admits(self, mode: Mode, count: u64) -> bool {
        self.0 & CONFLICTS[mode as usize] == 0 && self.has_room(count)
    }

    /// Tells whether `count` more owners can be counted, in whatever mode.
    #[inline]
    const fn has_room(self, count: u64) -> bool {
        // Nearly always so, and then nothing has to be added up.
        let few = self.0 & CROWDED == 0 && count <= FEW;
        few || self.holders() + count <= Self::SHARERS_MAX
    }

    /// Tells whether a newcomer can hold the lock in `mode` at once: it is admitted and nobody waits.
    #[inline]
    pub(crate) const fn admits_newcomer(self, mode: Mode) -> bool {
        self.0 & CLOSED == 0 && self.admits(mode, 1)
    }

    /// Tells whether a newcomer in `mode` is counted in a stripe, without further questions.
    #[inline]
    pub(crate) const fn is_open_for(self, mode: Mode) -> bool {
        self.0 & CLOSED == 0 && self.0 & GATES[mode as usize] != 0
    }

    /// Tells whether a stripe of which this was the count has room for one who came by the open gate.
    #[inline]
    pub(crate) const fn stripe_has_room(self) -> bool {
        self.0 & STRIPE_CROWDED == 0
    }

    /// The gate that can be open beside those who hold the lock, `usual` if it is either; whoever comes by it is compatible with
    /// them, and so with each other.
    pub(crate) const fn gate(self, usual: Self) -> Option<Self> {
        let alone = all(Mode::SharedIntentExclusive) | all(Mode::Exclusive);
        if self.0 & (CLOSED | CROWDED | alone) != 0 {
            return None;
        }
        match (self.count(Mode::IntentExclusive), self.count(Mode::Shared)) {
            (0, 0) => Some(usual),
            (_, 0) => Some(Self::OPEN_INTENT),
            (0, _) => Some(Self::OPEN_SHARED),
            // One of them is about to take its count back.
            _ => None,
        }
    }

    /// These and those.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Without what is said of gates.
    pub(crate) const fn closed(self) -> Self {
        Self(self.0 & !Self::OPEN.0)
    }

    #[inline]
    pub(crate) const fn with(self, mode: Mode, count: u64) -> Self {
        Self(self.0 + count * Self::unit(mode))
    }

    #[inline]
    pub(crate) const fn without(self, mode: Mode) -> Self {
        Self(self.0 - Self::unit(mode))
    }

    #[inline]
    pub(crate) const fn is(self, flag: Self) -> bool {
        self.0 & flag.0 == flag.0
    }

    /// Owners in `mode`.
    pub(crate) const fn count(self, mode: Mode) -> u64 {
        (self.0 & all(mode)) / one(mode)
    }

    /// Owners in any mode.
    pub(crate) const fn holders(self) -> u64 {
        let mut sum = 0;
        let mut i = 0;
        while i < Mode::ALL.len() {
            sum += self.count(Mode::ALL[i]);
            i += 1;
        }
        sum
    }

    /// The strongest mode in which somebody holds the lock.
    pub(crate) fn mode(self) -> Option<Mode> {
        Mode::ALL.into_iter().rev().find(|&mode| self.count(mode) > 0)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = f.debug_set();
        for mode in Mode::ALL.into_iter().filter(|&mode| self.count(mode) > 0) {
            set.entry(&format_args!("{mode} x {}", self.count(mode)));
        }
        for (flag, name) in [(QUEUED, "queued"), (DELETED, "deleted"), (ABANDONED, "abandoned")] {
            if self.0 & flag != 0 {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_admits_a_mode_exactly_if_every_mode_in_it_does() {
        for mode in Mode::ALL {
            for other in Mode::ALL {
                let held = Held::FREE.with(other, 1);
                assert_eq!(held.admits(mode, 1), mode.admits(other), "{mode} beside {other}");
            }
        }
    }

    #[test]
    fn what_came_with_a_mode_goes_without_it() {
        for mode in Mode::ALL {
            let held = Held::FREE.with(mode, 1);
            assert_eq!((held.count(mode), held.holders(), held.mode()), (1, 1, Some(mode)));
            assert_eq!(held.without(mode), Held::FREE);
        }
    }

    #[test]
    fn a_full_count_keeps_the_next_sharer_waiting_and_never_spills() {
        for mode in Mode::ALL.into_iter().filter(|m| m.admits(*m)) {
            let full = Held::FREE.with(mode, Held::SHARERS_MAX);
            assert!(!full.admits(mode, 1));
            assert_eq!((full.holders(), full.mode()), (Held::SHARERS_MAX, Some(mode)));
            assert!(full.without(mode).admits(mode, 1));
        }
    }

    #[test]
    fn room_is_counted_over_all_modes() {
        let (few, max) = (FEW, Held::SHARERS_MAX);
        let (one, other) = (Mode::IntentShared, Mode::Shared);
        for a in [0, 1, few - 1, few, few + 1, 3 * few, max - few, max - 1] {
            for b in [0, 1, few - 1, few].into_iter().filter(|b| a + b <= max) {
                for (one, other) in [(one, other), (other, one)] {
                    let held = Held::FREE.with(one, a).with(other, b);
                    let room = max - a - b;
                    assert!(held.has_room(room) && !held.has_room(room + 1), "{held:?}");
                }
            }
        }
    }

    #[test]
    fn a_gate_is_open_only_for_modes_that_go_with_each_other_and_with_who_holds_the_lock() {
        for (gate, usual) in
            [(Held::OPEN_INTENT, Mode::IntentExclusive), (Held::OPEN_SHARED, Mode::Shared)]
        {
            assert!(gate.is_open_for(usual) && gate.is_open_for(Mode::IntentShared));
            for mode in Mode::ALL.into_iter().filter(|mode| gate.is_open_for(*mode)) {
                assert!(Mode::ALL.iter().all(|&m| !gate.is_open_for(m) || m.admits(mode)));
            }
            for holder in Mode::ALL {
                let held = Held::FREE.with(holder, 1);
                let open = held.gate(gate).unwrap_or(Held::FREE);
                assert!(
                    Mode::ALL.iter().all(|&m| !open.is_open_for(m) || m.admits(holder)),
                    "{holder}"
                );
                let shared = !matches!(holder, Mode::SharedIntentExclusive | Mode::Exclusive);
                assert_eq!(open != Held::FREE, shared, "{holder}");
            }
        }
        for flag in [Held::QUEUED, Held::DELETED] {
            let open = Held(flag.0 | Held::OPEN.0);
            assert!(Mode::ALL.iter().all(|&mode| !open.is_open_for(mode)));
            assert_eq!(flag.gate(Held::OPEN_SHARED), None);
        }
        let both = Held::FREE.with(Mode::Shared, 1).with(Mode::IntentExclusive, 1);
        assert_eq!(both.gate(Held::OPEN_SHARED), None);
    }

    #[test]
    fn stripes_that_fill_while_the_gate_is_open_leave_room_for_who_comes_by_the_queue() {
        let least_crowded =
            |bits: u64| (0..64).map(|bit| 1 << bit).find(|one| bits & one != 0).unwrap();
        let (stripe, all) = (least_crowded(STRIPE_CROWDED), least_crowded(CROWDED));
        // Three modes in sixteen stripes, each as full as it gets, beside what there was when the gate was opened.
        assert!(3 * 16 * stripe + 3 * all < Held::SHARERS_MAX);
    }

    #[test]
    fn a_quarter_in_each_of_three_modes_leaves_no_room_for_another() {
        let counted = [Mode::IntentShared, Mode::IntentExclusive, Mode::Shared];
        let held = counted.into_iter().fold(Held::FREE, |held, mode| held.with(mode, FEW));
        assert!(held.has_room(FEW - 1) && !held.has_room(FEW), "{held:?}");
    }

    #[test]
    fn a_word_is_told_by_its_modes_and_marks() {
        let held = Held::FREE.with(Mode::Shared, 2).with(Mode::IntentShared, 1);
        assert_eq!(format!("{held:?}"), "{intent-shared x 1, shared x 2}");
        let marks = [(Held::QUEUED, "queued"), (Held::DELETED, "deleted")];
        for (mark, name) in marks.into_iter().chain([(Held::ABANDONED, "abandoned")]) {
            assert_eq!(format!("{mark:?}"), format!("{{{name}}}"));
            assert!(mark.is(mark) && !Held::FREE.is(mark));
        }
    }

    #[test]
    fn nobody_enters_past_a_queue_or_a_deletion() {
        for flag in [Held::QUEUED, Held::DELETED] {
            assert!(Mode::ALL.iter().all(|&mode| !flag.admits_newcomer(mode)));
        }
        assert!(Held::ABANDONED.admits_newcomer(Mode::Exclusive));
    }
}
