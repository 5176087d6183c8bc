//! Who asks, and what it holds.
//!
//! An owner is an object, not a thread. What it holds stands in slots of its own, written by whoever grants and cleared before
//! the lock is released: so asking twice is noticed, and whoever looks knows every holder, at the cost of one store.

mod slots;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use self::slots::Slots;
use crate::core::mode::Mode;
use crate::striped::Stripe;
use crate::sync::TIME_PASSES;

pub(crate) use self::slots::{Filler, Slot};

/// Somebody who takes locks: a job, a request, a migration; not a thread, between which it may move.
///
/// Cheap to clone: clones are the same owner. One owner may hold a lock once, and asking again is
/// [`AlreadyHeld`](crate::AcquireError::AlreadyHeld). Names need not be unique; they are for people.
///
/// # Examples
/// ```
/// use tierlock::{Mode, Owner, SharedLock};
///
/// # fn main() -> Result<(), tierlock::AcquireError> {
/// let lock = SharedLock::new("config");
/// let owner = Owner::new("job-19");
/// let guard = lock.acquire(&owner, Mode::Shared).wait()?;
/// assert_eq!(owner.holds(&lock), Some(Mode::Shared));
/// drop(guard);
/// assert_eq!(owner.holds(&lock), None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Owner(Arc<Inner>);

struct Inner {
    id: u64,
    name: Arc<str>,
    /// Where it is counted among those who share a lock.
    stripe: Stripe,
    slots: Slots,
}

/// Tells locks apart while they are held: the address, whose low bits are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LockId(usize);

impl LockId {
    #[inline]
    pub(crate) fn of<T>(lock: &Arc<T>) -> Self {
        const { assert!(align_of::<T>() >= 8, "three low bits for the mode") };
        Self(Arc::as_ptr(lock).addr())
    }
}

/// What a slot says of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Asked for, not had yet.
    Asked,
    Held(Mode),
}

impl Record {
    pub(crate) fn held(self) -> Option<Mode> {
        match self {
            Self::Held(mode) => Some(mode),
            Self::Asked => None,
        }
    }
}

impl Owner {
    /// Makes an owner called `name`, who holds nothing yet.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::Owner::new("job-19").name(), "job-19");
    /// ```
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name: Arc<str> = name.into();
        registry::enter(|id| {
            // A model has to be the same each time it is run, which numbers that only grow are not.
            let number = if TIME_PASSES { id } else { name.bytes().map(u64::from).sum() };
            Inner { id, name, stripe: Stripe::of(number), slots: Slots::new() }
        })
    }

    /// The name given, for people.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(tierlock::Owner::new("job-19").name(), "job-19");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Tells owners of one name apart.
    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    /// Where it is counted among those who share a lock.
    #[inline]
    pub(crate) fn stripe(&self) -> Stripe {
        self.0.stripe
    }

    pub(crate) fn name_arc(&self) -> &Arc<str> {
        &self.0.name
    }

    pub(crate) fn record(&self, lock: LockId) -> Option<Record> {
        self.0.slots.records().find(|(id, _)| *id == lock).map(|(_, record)| record)
    }

    /// Claims a slot for a lock that is about to be asked for.
    ///
    /// # Errors
    /// What a slot says of the lock already. Another thread that asks as this owner at the same time is noticed by
    /// [`twin`](Self::twin).
    #[inline]
    pub(crate) fn claim(&self, lock: LockId) -> Result<Slot, Record> {
        self.0.slots.claim(lock)
    }

    /// What another thread's slot says of a lock just taken, or about to be waited for after a fence. Two threads that ask for
    /// one lock as one owner at one instant may both be refused.
    #[inline]
    pub(crate) fn twin(&self, slot: Slot, lock: LockId) -> Option<Record> {
        self.0.slots.twin(slot, lock)
    }

    /// Claims a slot for a lock that cannot be held already, since the owner held nothing of its set.
    #[inline]
    pub(crate) fn reserve(&self, lock: LockId) -> Slot {
        self.0.slots.reserve(lock)
    }

    /// Takes a slot for a lock just taken, which cannot be held already.
    #[inline]
    pub(crate) fn hold(&self, lock: LockId, mode: Mode) -> Slot {
        self.0.slots.hold(lock, mode)
    }

    /// Fills slots with locks taken one after another.
    #[inline]
    pub(crate) fn filler(&self) -> Filler<'_> {
        self.0.slots.filler()
    }

    /// Says that the lock is held now, or in another mode than before.
    #[inline]
    pub(crate) fn record_hold(&self, slot: Slot, lock: LockId, mode: Mode) {
        self.0.slots.write(slot, lock, mode);
    }

    /// Frees the slots of locks taken one after another; to be called before the locks themselves are released.
    pub(crate) fn clear_all(&self, slots: &[Slot]) {
        self.0.slots.clear_all(slots);
    }

    /// Frees a slot; to be called before the lock itself is released.
    #[inline]
    pub(crate) fn clear(&self, slot: Slot) {
        self.0.slots.clear(slot);
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Owner {}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: Vec<_> = self.0.slots.records().map(|(_, record)| record).collect();
        f.debug_struct("Owner").field("name", &self.0.name).field("slots", &held).finish()
    }
}

/// Every owner alive, so that whoever looks at a lock finds its holders.
mod registry {
    use super::{Arc, BTreeMap, Inner, Owner, Weak};
    // Not the facade's: nobody waits in here, and models need not look into it.
    use parking_lot::Mutex;

    struct Registry {
        entered: u64,
        owners: BTreeMap<u64, Weak<Inner>>,
    }

    static REGISTRY: Mutex<Registry> = Mutex::new(Registry { entered: 0, owners: BTreeMap::new() });

    pub(super) fn enter(make: impl FnOnce(u64) -> Inner) -> Owner {
        let id = {
            let mut registry = REGISTRY.lock();
            registry.entered += 1;
            registry.entered
        };
        let owner = Owner(Arc::new(make(id)));
        REGISTRY.lock().owners.insert(id, Arc::downgrade(&owner.0));
        owner
    }

    pub(super) fn leave(id: u64) {
        REGISTRY.lock().owners.remove(&id);
    }

    /// Everybody alive now, the oldest first.
    pub(super) fn list() -> Vec<Owner> {
        REGISTRY.lock().owners.values().filter_map(Weak::upgrade).map(Owner).collect()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        registry::leave(self.id);
    }
}

/// Every hold seen while looking at each owner once: each was held at some instant of the scan.
pub(crate) fn scan(mut seen: impl FnMut(&Owner, LockId, Mode)) {
    for owner in registry::list() {
        for (lock, record) in owner.0.slots.records() {
            if let Record::Held(mode) = record {
                seen(&owner, lock, mode);
            }
        }
    }
}

/// Who holds `lock`, as a scan finds it.
pub(crate) fn holders(lock: LockId) -> Vec<(Owner, Mode)> {
    let mut holders = Vec::new();
    scan(|owner, id, mode| {
        if id == lock {
            holders.push((owner.clone(), mode));
        }
    });
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_for_a_lock_twice_is_noticed_while_it_is_asked_for_and_while_it_is_held() {
        let owner = Owner::new("job");
        let lock = LockId::of(&Arc::new(0_u64));
        let slot = owner.claim(lock).unwrap();
        assert_eq!(owner.claim(lock), Err(Record::Asked));
        owner.record_hold(slot, lock, Mode::Shared);
        assert_eq!(owner.claim(lock), Err(Record::Held(Mode::Shared)));
        owner.clear(slot);
        assert!(owner.claim(lock).is_ok());
    }
}
