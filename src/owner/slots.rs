//! What an owner holds and asks for: a word for each lock, in lists that grow and never move.
//!
//! The thread that comes first has a list to itself, where nobody else takes a place, so taking one is a plain store. Other
//! threads of the same owner are guests: they share a list in which places are taken by compare-exchange. Any thread may change
//! or free the word of a lock that it was handed.

use super::{LockId, Record};
use crate::core::mode::Mode;
use crate::sync::fence_after_exchange;
// No grant depends on a slot, so models of locks need not look into them; they have a model of their own.
use crate::sync::unwatched::{AtomicU64, AtomicUsize, OnceLock, Ordering, fence, this_thread};

/// Index of a slot; those of guests have the high bit.
pub(crate) type Slot = u32;

const GUEST: Slot = 1 << 31;

const FREE: usize = 0;
const CODE_MASK: usize = 7;

#[inline]
pub(super) fn encode(lock: LockId, record: Record) -> usize {
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

pub(super) struct Slots {
    /// The thread that came first; 0 while nobody has.
    host: AtomicU64,
    hosts: List,
    /// There from the moment in which a second thread came.
    guests: OnceLock<Box<List>>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { host: AtomicU64::new(0), hosts: List::new(), guests: OnceLock::new() }
    }

    #[inline]
    fn is_host(&self) -> bool {
        let this = this_thread();
        match self.host.load(Ordering::Relaxed) {
            0 => {
                let first =
                    self.host.compare_exchange(0, this, Ordering::AcqRel, Ordering::Relaxed);
                first.is_ok()
            }
            host => host == this,
        }
    }

    /// Takes a slot for a lock, and says in it that the lock is asked for.
    ///
    /// # Errors
    /// What another slot says of the lock. A second thread that asks at the same time is noticed by [`twin`](Self::twin).
    #[inline]
    pub(super) fn claim(&self, lock: LockId) -> Result<Slot, Record> {
        if self.is_host() {
            return self.hosts.claim_as_host(lock);
        }
        self.claim_as_guest(lock)
    }

    #[cold]
    fn claim_as_guest(&self, lock: LockId) -> Result<Slot, Record> {
        let slot = self.guests().take(encode(lock, Record::Asked)) | GUEST;
        // Whoever comes by the other list either sees this slot, or is seen.
        fence(Ordering::SeqCst);
        match self.other(slot, lock) {
            None => Ok(slot),
            Some(record) => {
                self.clear(slot);
                Err(record)
            }
        }
    }

    /// Takes a slot for a lock that cannot be in another, and says in it that the lock is asked for.
    #[inline]
    pub(super) fn reserve(&self, lock: LockId) -> Slot {
        self.put(encode(lock, Record::Asked))
    }

    #[inline]
    fn put(&self, bits: usize) -> Slot {
        if self.is_host() {
            return self.hosts.take_as_host(bits);
        }
        self.guests().take(bits) | GUEST
    }

    /// Takes a slot for a lock that is held already, and cannot be in another.
    #[inline]
    pub(super) fn hold(&self, lock: LockId, mode: Mode) -> Slot {
        self.put(encode(lock, Record::Held(mode)))
    }

    #[inline]
    pub(super) fn filler(&self) -> Filler<'_> {
        let (list, guest) = if self.is_host() { (&self.hosts, 0) } else { (self.guests(), GUEST) };
        // The hint may have been set by two threads at once. What was claimed last has found where everything is free.
        let at = list.hint.load(Ordering::Relaxed).min(list.used.load(Ordering::Relaxed));
        let used = list.used.load(Ordering::Relaxed);
        let mut filler = Filler { list, guest, used, at, segment: Segment { from: 0, slots: &[] } };
        filler.enter(at);
        filler
    }

    /// Frees several slots, most of which lie side by side. Some may be guests': whoever hands over a lock takes the next ones
    /// in its own thread.
    pub(super) fn clear_all(&self, slots: &[Slot]) {
        if let [slot] = slots {
            return self.clear(*slot);
        }
        for run in slots.chunk_by(|a, b| a & GUEST == b & GUEST) {
            let list = self.list(run[0]);
            let mut segment = list.segment((run[0] & !GUEST) as usize);
            let mut least = usize::MAX;
            for slot in run {
                let at = (slot & !GUEST) as usize;
                let slot = segment.get(at).unwrap_or_else(|| {
                    segment = list.segment(at);
                    list.at(at)
                });
                slot.store(FREE, Ordering::Release);
                least = least.min(at);
            }
            list.freed(least);
        }
    }

    /// What a slot of another thread says of a lock that was claimed in this one. To be asked after the lock was taken by an
    /// exchange, or with a fence before it is waited for.
    #[inline]
    pub(super) fn twin(&self, slot: Slot, lock: LockId) -> Option<Record> {
        fence_after_exchange();
        if self.guests.get().is_none() { None } else { self.other(slot, lock) }
    }

    #[cold]
    fn other(&self, slot: Slot, lock: LockId) -> Option<Record> {
        let mut others = self.numbered().filter(|(at, (id, _))| *id == lock && *at != slot);
        others.next().map(|(_, (_, record))| record)
    }

    #[inline]
    pub(super) fn write(&self, slot: Slot, lock: LockId, mode: Mode) {
        self.at(slot).store(encode(lock, Record::Held(mode)), Ordering::Release);
    }

    #[inline]
    pub(super) fn clear(&self, slot: Slot) {
        self.at(slot).store(FREE, Ordering::Release);
        self.list(slot).freed((slot & !GUEST) as usize);
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (LockId, Record)> {
        self.numbered().map(|(_, record)| record)
    }

    fn numbered(&self) -> impl Iterator<Item = (Slot, (LockId, Record))> {
        let guests = self.guests.get().into_iter();
        let guests =
            guests.flat_map(|list| list.numbered().map(|(at, record)| (at | GUEST, record)));
        self.hosts.numbered().chain(guests)
    }

    #[inline]
    fn at(&self, slot: Slot) -> &AtomicUsize {
        self.list(slot).at((slot & !GUEST) as usize)
    }

    #[inline]
    fn list(&self, slot: Slot) -> &List {
        if slot & GUEST == 0 { &self.hosts } else { self.guests() }
    }

    #[cold]
    fn guests(&self) -> &List {
        self.guests.get_or_init(|| Box::new(List::new()))
    }
}

/// Fills slots of one thread, looking up for all of them what is the same.
pub(crate) struct Filler<'s> {
    list: &'s List,
    /// The bit of a guest's slots, or 0.
    guest: Slot,
    /// How far scans looked before.
    used: usize,
    /// Where the next free slot is likely, and what lies around it.
    at: usize,
    segment: Segment<'s>,
}

impl Filler<'_> {
    /// Takes a slot for a lock that is held already, and cannot be in another. Always inlined, since it is most of a loop.
    #[inline(always)]
    pub(crate) fn hold(&mut self, lock: LockId, mode: Mode) -> Slot {
        let bits = encode(lock, Record::Held(mode));
        if self.guest != 0 {
            return self.list.take(bits) | GUEST;
        }
        loop {
            match self.segment.get(self.at) {
                Some(slot) if slot.load(Ordering::Relaxed) == FREE => {
                    slot.store(bits, Ordering::Release);
                    self.at += 1;
                    return (self.at - 1) as Slot;
                }
                Some(_) => self.at += 1,
                None => self.enter(self.at),
            }
        }
    }

    /// Goes on in the segment around `at`, to all of which scans look from now on.
    fn enter(&mut self, at: usize) {
        self.segment = self.list.segment(at);
        let end = self.segment.from + self.segment.slots.len();
        if self.guest == 0 && end > self.list.used.load(Ordering::Relaxed) {
            self.list.used.store(end, Ordering::Release);
        }
    }
}

impl Drop for Filler<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.guest == 0 {
            self.list.hint.store(self.at, Ordering::Relaxed);
            // What was not filled need not be looked at.
            self.list.used.store(self.at.max(self.used), Ordering::Release);
        }
    }
}

/// Slots that lie side by side.
#[derive(Clone, Copy)]
struct Segment<'s> {
    /// Index of the first.
    from: usize,
    slots: &'s [AtomicUsize],
}

impl<'s> Segment<'s> {
    #[inline]
    fn get(self, at: usize) -> Option<&'s AtomicUsize> {
        self.slots.get(at.wrapping_sub(self.from))
    }
}

/// Words that never move: the first few in place, then chunks, each twice as long as the one before.
struct List {
    first: [AtomicUsize; FIRST],
    chunks: OnceLock<Box<[Chunk; CHUNKS]>>,
    /// From here on every slot is free; what scans need not look at.
    used: AtomicUsize,
    /// Where a free slot is likely.
    hint: AtomicUsize,
}

type Chunk = OnceLock<Box<[AtomicUsize]>>;

const FIRST: usize = 8;
/// So many are looked at in one go: a root and a leaf with their set-locks.
const FEW: usize = 4;
/// Enough for as many locks as a slot index can tell apart.
const CHUNKS: usize = 27;

/// Chunk and place in it of slot `at`, which is not one of the first.
const fn locate(at: usize) -> (usize, usize) {
    let chunk = (at / FIRST).ilog2();
    (chunk as usize, at - (FIRST << chunk))
}

impl List {
    fn new() -> Self {
        Self {
            first: std::array::from_fn(|_| AtomicUsize::new(FREE)),
            chunks: OnceLock::new(),
            used: AtomicUsize::new(0),
            hint: AtomicUsize::new(0),
        }
    }

    #[inline]
    fn at(&self, at: usize) -> &AtomicUsize {
        match self.first.get(at) {
            Some(slot) => slot,
            None => self.far(at),
        }
    }

    #[cold]
    fn far(&self, at: usize) -> &AtomicUsize {
        let (chunk, place) = locate(at);
        &self.chunk(chunk)[place]
    }

    fn chunk(&self, chunk: usize) -> &[AtomicUsize] {
        let chunks = self.chunks.get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        let make = || (0..FIRST << chunk).map(|_| AtomicUsize::new(FREE)).collect();
        chunks[chunk].get_or_init(make)
    }

    /// What lies around a slot.
    fn segment(&self, at: usize) -> Segment<'_> {
        if at < FIRST {
            return Segment { from: 0, slots: &self.first };
        }
        let (chunk, _) = locate(at);
        Segment { from: FIRST << chunk, slots: self.chunk(chunk) }
    }

    /// Only for the thread whose list it is.
    #[inline]
    fn claim_as_host(&self, lock: LockId) -> Result<Slot, Record> {
        let used = self.used.load(Ordering::Relaxed);
        // An owner that holds nothing else, as most do, and never held much at once.
        let few = &self.first[..FEW];
        if used <= FEW
            && few.iter().fold(FREE, |all, slot| all | slot.load(Ordering::Relaxed)) == FREE
        {
            self.first[0].store(encode(lock, Record::Asked), Ordering::Relaxed);
            if used == 0 {
                self.used.store(1, Ordering::Release);
            }
            return Ok(0);
        }
        self.claim_among(used, lock)
    }

    fn claim_among(&self, used: usize, lock: LockId) -> Result<Slot, Record> {
        let (mut free, mut end, mut from) = (usize::MAX, 0, 0);
        while from < used {
            let segment = self.segment(from);
            for (at, slot) in (from..used).zip(segment.slots) {
                let bits = slot.load(Ordering::Relaxed);
                if bits == FREE {
                    free = free.min(at);
                    continue;
                }
                if bits & !CODE_MASK == lock.0 {
                    return Err(decode(bits).map_or(Record::Asked, |(_, record)| record));
                }
                end = at + 1;
            }
            from += segment.slots.len();
        }
        let at = free.min(end);
        self.at(at).store(encode(lock, Record::Asked), Ordering::Relaxed);
        // What is free at the end need not be looked at again.
        let end = end.max(at + 1);
        if end != used {
            self.used.store(end, Ordering::Release);
        }
        Ok(at as Slot)
    }

    /// Only for the thread whose list it is.
    #[inline]
    fn take_as_host(&self, bits: usize) -> Slot {
        let hint = self.hint.load(Ordering::Relaxed);
        let is_free = |at: usize| self.at(at).load(Ordering::Relaxed) == FREE;
        let at = if is_free(hint) {
            hint
        } else if is_free(hint + 1) {
            // The one hinted at has been claimed.
            hint + 1
        } else {
            self.search(hint, is_free)
        };
        self.at(at).store(bits, Ordering::Relaxed);
        self.hint.store(at + 1, Ordering::Relaxed);
        if at >= self.used.load(Ordering::Relaxed) {
            self.used.store(at + 1, Ordering::Release);
        }
        Slot::try_from(at).expect("fewer locks than slot numbers")
    }

    /// For any thread.
    fn take(&self, bits: usize) -> Slot {
        let hint = self.hint.load(Ordering::Relaxed);
        let take = |at: usize| {
            let slot = self.at(at);
            slot.load(Ordering::Relaxed) == FREE
                && slot.compare_exchange(FREE, bits, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        };
        let at = if take(hint) { hint } else { self.search(hint, take) };
        self.used.fetch_max(at + 1, Ordering::SeqCst);
        self.hint.store(at + 1, Ordering::Relaxed);
        Slot::try_from(at).expect("fewer locks than slot numbers")
    }

    #[cold]
    fn search(&self, hint: usize, take: impl Fn(usize) -> bool) -> usize {
        let used = self.used.load(Ordering::Acquire).max(hint);
        let mut places = (hint..used).chain(0..hint).chain(used..);
        places.find(|&at| take(at)).expect("the last range is endless")
    }

    #[inline]
    fn freed(&self, at: usize) {
        if at < self.hint.load(Ordering::Relaxed) {
            self.hint.store(at, Ordering::Relaxed);
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (Slot, (LockId, Record))> {
        let used = self.used.load(Ordering::Acquire);
        (0..used).filter_map(|at| Some((at as Slot, decode(self.at(at).load(Ordering::Acquire))?)))
    }
}

// The models take this file by itself, and run none of these.
#[cfg(all(test, not(tierlock_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn slots_are_found_again_wherever_they_lie() {
        let mut expected = Vec::new();
        for chunk in 0..6 {
            expected.extend((0..FIRST << chunk).map(|place| (chunk, place)));
        }
        let found = (FIRST..FIRST + expected.len()).map(locate);
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    fn locks(count: usize) -> Vec<Arc<u64>> {
        (0..count).map(|_| Arc::new(0)).collect()
    }

    fn claim_all(slots: &Slots, locks: &[Arc<u64>]) -> Vec<Slot> {
        locks.iter().map(|lock| slots.claim(LockId::of(lock)).unwrap()).collect()
    }

    #[test]
    fn a_freed_slot_is_used_again() {
        let (slots, locks) = (Slots::new(), locks(100));
        let claimed = claim_all(&slots, &locks);
        claimed.iter().for_each(|&slot| slots.clear(slot));
        assert!(claim_all(&slots, &locks).iter().all(|slot| claimed.contains(slot)));
    }

    #[test]
    fn slots_filled_do_not_wander_off_though_the_hint_does() {
        let (slots, locks) = (Slots::new(), locks(100));
        let mut least: Vec<Slot> = Vec::new();
        for _ in 0..50 {
            let top = slots.claim(LockId::of(&locks[0])).unwrap();
            let mut filler = slots.filler();
            let fill = |lock| filler.hold(LockId::of(lock), Mode::Shared);
            let filled: Vec<_> = locks[1..].iter().map(fill).collect();
            drop(filler);
            least.extend(filled.iter().min());
            slots.clear_all(&filled);
            slots.clear(top);
            // As if another thread had set it in the same moment.
            slots.hosts.hint.store(1000, Ordering::Relaxed);
        }
        assert!(least.iter().all(|slot| *slot < 8), "{least:?}");
    }

    #[test]
    fn a_guests_slot_and_a_hosts_are_never_the_same() {
        let (slots, locks) = (Slots::new(), locks(40));
        let (of_host, of_guest) = locks.split_at(20);
        let claimed = claim_all(&slots, of_host);
        let guests =
            std::thread::scope(|scope| scope.spawn(|| claim_all(&slots, of_guest)).join().unwrap());
        assert!(claimed.iter().all(|slot| !guests.contains(slot)));
        assert_eq!(slots.records().count(), 40);
        claimed.into_iter().chain(guests).for_each(|slot| slots.clear(slot));
        assert_eq!(slots.records().count(), 0);
    }

    #[test]
    fn what_the_host_holds_the_guest_may_not_ask_for_and_the_other_way_round() {
        let (slots, locks) = (Slots::new(), locks(2));
        let [first, second] = [0, 1].map(|at| LockId::of(&locks[at]));
        let held = slots.claim(first).unwrap();
        slots.write(held, first, Mode::Shared);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(slots.claim(first), Err(Record::Held(Mode::Shared)));
                slots.claim(second).unwrap();
            });
        });
        let asked = slots.claim(second).unwrap();
        assert_eq!(slots.twin(asked, second), Some(Record::Asked));
        assert_eq!(slots.twin(held, first), None);
    }
}
