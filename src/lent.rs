//! Levels that guards of their own hold for a session, so that it knows of them while others give them back.

use std::collections::{BTreeMap, HashMap};
use std::panic::RefUnwindSafe;
use std::sync::Arc;

// Not the facade's: nobody waits in here, and models need not look into it.
use parking_lot::Mutex;

use crate::core::mode::Mode;
use crate::name::LockName;
use crate::owner::Owner;
use crate::set::Set;
use crate::set_hold::SetHold;

/// What guards hold of one owner's, by rank.
#[derive(Debug, Default)]
pub(crate) struct Lent(Mutex<BTreeMap<usize, LentHold>>);

/// A hold and the set that it is of.
pub(crate) type LentHold = (Arc<Set>, SetHold);

/// No caller's code runs under the mutex, so no panic of theirs is seen half way.
impl RefUnwindSafe for Lent {}

impl Lent {
    /// A level is held once at a time, as its set-lock is.
    pub(crate) fn put(&self, rank: usize, set: &Arc<Set>, hold: SetHold) {
        let before = self.0.lock().insert(rank, (Arc::clone(set), hold));
        debug_assert!(before.is_none(), "one owner holds a set-lock once");
    }

    pub(crate) fn take(&self, rank: usize) -> Option<LentHold> {
        self.0.lock().remove(&rank)
    }

    /// What `look` sees in the hold at this level, if there is one.
    pub(crate) fn at<T>(&self, rank: usize, look: impl FnOnce(&SetHold, &Set) -> T) -> Option<T> {
        self.0.lock().get(&rank).map(|(set, hold)| look(hold, set))
    }

    /// A lock held at a deeper level than this.
    pub(crate) fn deepest_below(&self, rank: usize) -> Option<(LockName, Mode)> {
        self.0.lock().range(rank + 1..).next_back().map(|(_, (set, hold))| hold.witness(set))
    }
}

/// Owners that come to a manager without a session of theirs, while they are there.
#[derive(Debug, Default)]
pub(crate) struct Visitors(Mutex<HashMap<u64, Arc<Lent>>>);

/// As for what each of them holds.
impl RefUnwindSafe for Visitors {}

impl Visitors {
    /// What guards hold for this owner already.
    pub(crate) fn enter(&self, owner: &Owner) -> Arc<Lent> {
        Arc::clone(self.0.lock().entry(owner.id()).or_default())
    }

    /// Forgets an owner who is gone: of whom nobody but the caller and the table knows.
    pub(crate) fn leave(&self, owner: &Owner, lent: Arc<Lent>) {
        let mut visitors = self.0.lock();
        drop(lent);
        if visitors.get(&owner.id()).is_some_and(|lent| Arc::strong_count(lent) == 1) {
            visitors.remove(&owner.id());
        }
    }
}
