//! The members of a set that are held together.

use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::core::mode::Mode;
use crate::hold::{Decisions, Hold, Lock};
use crate::owner::{Owner, Slot};

pub(crate) type SlotList = SmallVec<[Slot; 4]>;

/// Locks in the order in which they are taken, which is that of their names.
#[derive(Clone, Debug)]
pub(crate) enum Locks {
    /// Most requests: needs no memory of its own.
    One(Arc<Lock>),
    Many(Arc<[Arc<Lock>]>),
}

impl Deref for Locks {
    type Target = [Arc<Lock>];

    #[inline]
    fn deref(&self) -> &[Arc<Lock>] {
        match self {
            Self::One(lock) => std::slice::from_ref(lock),
            Self::Many(locks) => locks,
        }
    }
}

impl From<Vec<Arc<Lock>>> for Locks {
    fn from(locks: Vec<Arc<Lock>>) -> Self {
        Self::Many(locks.into())
    }
}

impl Locks {
    /// To be changed for one request alone.
    pub(crate) fn make_mut(&mut self) -> &mut [Arc<Lock>] {
        match self {
            Self::One(lock) => std::slice::from_mut(lock),
            Self::Many(locks) => Arc::make_mut(locks),
        }
    }
}

/// An empty list with room for a slot of each of these.
#[inline]
pub(crate) fn slots_for(locks: &[Arc<Lock>]) -> SlotList {
    let slots = SlotList::new();
    if locks.len() > slots.inline_size() { SlotList::with_capacity(locks.len()) } else { slots }
}

/// What a request got of one set.
#[derive(Debug, Default)]
pub(crate) struct Had {
    /// The slot of the set-lock.
    pub(crate) top: Option<Slot>,
    pub(crate) members: Bundle,
}

impl Had {
    /// Gives everything back, the set-lock last: whoever is let in there finds everything below free.
    pub(crate) fn release(self, top: &Lock, mode: Mode, owner: &Owner, decisions: &mut Decisions) {
        self.members.release(owner, decisions);
        if let Some(slot) = self.top {
            owner.clear(slot);
            top.release(mode, owner.stripe(), decisions);
        }
    }
}

/// Members held, in the order in which they are taken.
#[derive(Debug)]
pub(crate) enum Bundle {
    /// The first of these locks, one for each slot, all in one mode: so they were taken, and nothing had to be written down about
    /// each.
    Alike { locks: Locks, mode: Mode, slots: SlotList },
    /// Whatever has become of them since.
    Each(Vec<Hold>),
}

impl Default for Bundle {
    fn default() -> Self {
        Self::Each(Vec::new())
    }
}

impl Bundle {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Alike { slots, .. } => slots.len(),
            Self::Each(holds) => holds.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them, and how it is held.
    pub(crate) fn get(&self, at: usize) -> (&Arc<Lock>, Mode, Slot) {
        match self {
            Self::Alike { locks, mode, slots } => (&locks[at], *mode, slots[at]),
            Self::Each(holds) => (&holds[at].lock, holds[at].mode, holds[at].slot),
        }
    }

    /// One of them by itself.
    pub(crate) fn hold(&self, at: usize) -> Hold {
        let (lock, mode, slot) = self.get(at);
        Hold { lock: Arc::clone(lock), mode, slot }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<Lock>, Mode, Slot)> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// Those held exclusively.
    pub(crate) fn exclusive(&self) -> impl Iterator<Item = &Arc<Lock>> {
        self.iter().filter(|(_, mode, _)| *mode == Mode::Exclusive).map(|(lock, ..)| lock)
    }

    /// Where a name is, or would be.
    pub(crate) fn position(&self, name: &str) -> Result<usize, usize> {
        let by_name = |lock: &Arc<Lock>| lock.name().name().cmp(name);
        match self {
            Self::Alike { locks, slots, .. } => locks[..slots.len()].binary_search_by(by_name),
            Self::Each(holds) => holds.binary_search_by(|hold| by_name(&hold.lock)),
        }
    }

    /// The holds one by one, to be changed.
    pub(crate) fn each(&mut self) -> &mut Vec<Hold> {
        if let Self::Alike { .. } = self {
            *self = Self::Each((0..self.len()).map(|at| self.hold(at)).collect());
        }
        match self {
            Self::Each(holds) => holds,
            Self::Alike { .. } => unreachable!("spread just now"),
        }
    }

    /// The slots of as many of `locks`, all in one mode, as are held; to be added to.
    pub(crate) fn alike(&mut self, locks: &Locks, mode: Mode) -> &mut SlotList {
        if self.is_empty() {
            *self = Self::Alike { locks: locks.clone(), mode, slots: slots_for(locks) };
        }
        match self {
            Self::Alike { slots, .. } => slots,
            Self::Each(_) => unreachable!("nothing was changed yet"),
        }
    }

    /// Goes on with another list of locks, the same as far as they are held.
    pub(crate) fn moved_to(&mut self, other: &Locks) {
        if let Self::Alike { locks, .. } = self {
            *locks = other.clone();
        }
    }

    /// Gives all of them back, the last first.
    #[inline]
    pub(crate) fn release(self, owner: &Owner, decisions: &mut Decisions) {
        match self {
            Self::Alike { locks, mode, slots } => {
                owner.clear_all(&slots);
                for lock in locks[..slots.len()].iter().rev() {
                    lock.release(mode, owner.stripe(), decisions);
                }
            }
            Self::Each(holds) => {
                holds.into_iter().rev().for_each(|hold| hold.release(owner, decisions));
            }
        }
    }
}
