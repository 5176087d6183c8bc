//! Who asks, and what it holds.
//!
//! An owner is an object, not a thread. What it holds stands in slots of its own, written by whoever grants and cleared before
//! the lock is released: so asking twice is noticed, and whoever looks knows every holder, at the cost of one store.

use std::collections::BTreeMap;
use std::fmt;
// Not the facade's atomics: no grant depends on a slot, and models need not look into them.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::core::mode::Mode;

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
    slots: Slots,
}

/// Index of a slot.
pub(crate) type Slot = u32;

/// Tells locks apart while they are held: the address, whose low bits are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LockId(usize);

impl LockId {
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

const FREE: usize = 0;
const CODE_MASK: usize = 7;

fn encode(lock: LockId, record: Record) -> usize {
    lock.0
        | match record {
            Record::Asked => 6,
            Record::Held(mode) => mode as usize + 1,
        }
}

fn decode(bits: usize) -> Option<(LockId, Record)> {
    let record = match bits & CODE_MASK {
        0 => return None,
        code @ 1..=5 => Record::Held(Mode::ALL[code - 1]),
        _ => Record::Asked,
    };
    Some((LockId(bits & !CODE_MASK), record))
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
        registry::enter(|id| Inner { id, name: name.into(), slots: Slots::new() })
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

    pub(crate) fn name_arc(&self) -> &Arc<str> {
        &self.0.name
    }

    pub(crate) fn record(&self, lock: LockId) -> Option<Record> {
        self.0.slots.records().find(|(id, _)| *id == lock).map(|(_, record)| record)
    }

    /// Claims a slot for a lock that is about to be asked for.
    ///
    /// # Errors
    /// What a slot says of the lock already. Two threads that ask for one lock as one owner at one instant may both be refused.
    pub(crate) fn claim(&self, lock: LockId) -> Result<Slot, Record> {
        let slot = self.reserve(lock);
        let other = self.0.slots.numbered().find(|(at, (id, _))| *id == lock && *at != slot);
        match other {
            None => Ok(slot),
            Some((_, (_, record))) => {
                self.clear(slot);
                Err(record)
            }
        }
    }

    /// Claims a slot for a lock that cannot be held already, since the owner held nothing of its set.
    pub(crate) fn reserve(&self, lock: LockId) -> Slot {
        self.0.slots.reserve(encode(lock, Record::Asked))
    }

    /// Says that the lock is held now, or in another mode than before.
    pub(crate) fn record_hold(&self, slot: Slot, lock: LockId, mode: Mode) {
        self.0.slots.at(slot).store(encode(lock, Record::Held(mode)), Ordering::Release);
    }

    /// Frees a slot; to be called before the lock itself is released.
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

/// A list of words that grows and never moves: chunk `k` has `8 << k` of them.
struct Slots {
    chunks: [OnceLock<Box<[AtomicUsize]>>; CHUNKS],
    /// Below this slots have been used; what scans have to look at.
    used: AtomicUsize,
    /// Where a free slot is likely.
    hint: AtomicUsize,
}

const FIRST: usize = 8;
/// Enough for as many locks as a slot index can tell apart.
const CHUNKS: usize = 28;

/// Chunk and place in it of slot `at`.
const fn locate(at: usize) -> (usize, usize) {
    let shifted = at + FIRST;
    let chunk = shifted.ilog2() - FIRST.ilog2();
    (chunk as usize, shifted - (FIRST << chunk))
}

impl Slots {
    fn new() -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
            used: AtomicUsize::new(0),
            hint: AtomicUsize::new(0),
        }
    }

    fn at(&self, slot: Slot) -> &AtomicUsize {
        let (chunk, place) = locate(slot as usize);
        &self.chunk(chunk)[place]
    }

    fn chunk(&self, chunk: usize) -> &[AtomicUsize] {
        self.chunks[chunk]
            .get_or_init(|| (0..FIRST << chunk).map(|_| AtomicUsize::new(FREE)).collect())
    }

    /// Writes `bits` into a free slot: where the hint points, else wherever there is one, else into a new one.
    fn reserve(&self, bits: usize) -> Slot {
        let hint = self.hint.load(Ordering::Relaxed);
        let at = if self.try_take(hint, bits) { hint } else { self.search(hint, bits) };
        if at >= self.used.load(Ordering::Relaxed) {
            self.used.fetch_max(at + 1, Ordering::SeqCst);
        }
        self.hint.store(at + 1, Ordering::Relaxed);
        Slot::try_from(at).expect("fewer locks than slot numbers")
    }

    #[cold]
    fn search(&self, hint: usize, bits: usize) -> usize {
        let used = self.used.load(Ordering::Acquire).max(hint);
        let mut places = (hint..used).chain(0..hint).chain(used..);
        places.find(|&at| self.try_take(at, bits)).expect("the last range is endless")
    }

    fn try_take(&self, at: usize, bits: usize) -> bool {
        let slot = self.at(at as Slot);
        slot.load(Ordering::Relaxed) == FREE
            && slot.compare_exchange(FREE, bits, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    fn clear(&self, slot: Slot) {
        self.at(slot).store(FREE, Ordering::Release);
        if (slot as usize) < self.hint.load(Ordering::Relaxed) {
            self.hint.store(slot as usize, Ordering::Relaxed);
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (Slot, (LockId, Record))> {
        let used = self.used.load(Ordering::SeqCst);
        (0..used as Slot).filter_map(|at| Some((at, decode(self.at(at).load(Ordering::SeqCst))?)))
    }

    fn records(&self) -> impl Iterator<Item = (LockId, Record)> {
        self.numbered().map(|(_, record)| record)
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
    fn slots_are_found_again_wherever_they_lie() {
        let mut expected = Vec::new();
        for chunk in 0..6 {
            expected.extend((0..FIRST << chunk).map(|place| (chunk, place)));
        }
        assert_eq!((0..expected.len()).map(locate).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_freed_slot_is_used_again() {
        let owner = Owner::new("job");
        let locks: Vec<_> = (0..100).map(|_| Arc::new(0_u64)).collect();
        let slots: Vec<_> = locks.iter().map(|l| owner.claim(LockId::of(l)).unwrap()).collect();
        slots.iter().for_each(|&slot| owner.clear(slot));
        for lock in &locks {
            assert!((owner.claim(LockId::of(lock)).unwrap() as usize) < slots.len());
        }
    }

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
