//! Slots of an owner by themselves: the file of the library, with atomics that loom watches.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use tierlock::Mode;

use self::slots::{Slot, Slots};
use crate::support::{explore, explore_bounded};
use crate::sync::unwatched::name_thread;

#[path = "../../src/owner/slots.rs"]
#[allow(dead_code, reason = "the library needs the rest")]
mod slots;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockId(pub(crate) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Asked,
    Held(Mode),
}

const A: LockId = LockId(8);
const B: LockId = LockId(16);
const C: LockId = LockId(24);

/// What is known of the holds of A and B by another hand, in an order that all threads see.
#[derive(Default)]
struct Account {
    begun: [AtomicBool; 2],
    over: [AtomicBool; 2],
    scanned: AtomicBool,
    /// Those that ended when the scan had.
    outlasted: [AtomicBool; 2],
}

impl Account {
    fn begun(&self, at: usize) {
        self.begun[at].store(true, Ordering::Release);
    }

    fn ends(&self, at: usize) {
        self.outlasted[at].store(self.scanned.load(Ordering::Acquire), Ordering::Relaxed);
    }

    fn over(&self, at: usize) {
        self.over[at].store(true, Ordering::Release);
    }
}

fn hold(slots: &Slots, lock: LockId) -> Slot {
    let slot = slots.claim(lock).expect("it is not held");
    slots.write(slot, lock, Mode::Shared);
    slot
}

/// Looks while `act` goes on: a hold that was over is not seen, one that lasts through the scan is.
fn scan_while(act: impl Fn(&Slots, &Account) + Send + Sync + Copy + 'static) {
    explore_bounded(move || {
        let shared = Arc::new((Slots::new(), Account::default()));
        let own = Arc::clone(&shared);
        let acting = thread::spawn(move || {
            name_thread(1);
            act(&own.0, &own.1);
        });
        let (slots, account) = &*shared;
        let is_said = |said: &[AtomicBool; 2]| said.each_ref().map(|at| at.load(Ordering::Acquire));
        let (over, begun) = (is_said(&account.over), is_said(&account.begun));
        let seen: Vec<_> = slots.records().collect();
        account.scanned.store(true, Ordering::Release);
        acting.join().unwrap();
        let outlasted = is_said(&account.outlasted);
        for (at, lock) in [A, B].into_iter().enumerate() {
            let seen = seen.contains(&(lock, Record::Held(Mode::Shared)));
            assert!(!(seen && over[at]), "{lock:?} is seen, and was over");
            assert!(seen || !(begun[at] && outlasted[at]), "{lock:?} lasted, and is not seen");
        }
    });
}

#[test]
fn a_hold_seen_was_held_at_some_instant_of_the_scan() {
    scan_while(|slots, account| {
        let slot = hold(slots, A);
        account.begun(0);
        account.ends(0);
        slots.clear(slot);
        account.over(0);
        let slot = hold(slots, B);
        account.begun(1);
        account.ends(1);
        slots.clear(slot);
        account.over(1);
    });
}

#[test]
fn a_hold_that_lasts_through_a_scan_is_seen_whatever_comes_and_goes_beside_it() {
    scan_while(|slots, account| {
        let first = hold(slots, A);
        account.begun(0);
        let second = hold(slots, B);
        account.begun(1);
        account.ends(0);
        slots.clear(first);
        account.over(0);
        let third = hold(slots, C);
        slots.clear(third);
        account.ends(1);
        slots.clear(second);
    });
}

#[test]
fn a_hold_that_lasts_through_a_scan_is_seen_though_others_are_filled_in_and_freed() {
    scan_while(|slots, account| {
        let top = hold(slots, A);
        account.begun(0);
        let mut filler = slots.filler();
        let filled = [filler.hold(B, Mode::Shared), filler.hold(C, Mode::Shared)];
        drop(filler);
        account.begun(1);
        account.ends(1);
        slots.clear_all(&filled);
        account.over(1);
        hold(slots, C);
        account.ends(0);
        slots.clear(top);
    });
}

/// Neither thread may go on as if it were alone.
#[test]
fn of_two_threads_that_ask_for_one_lock_as_one_owner_one_is_noticed() {
    explore(|| {
        let slots = Arc::new(Slots::new());
        let ask = |slots: &Slots, number| {
            name_thread(number);
            let slot = slots.claim(A).ok()?;
            // Between them the lock is taken, by an exchange.
            slots.twin(slot, A).is_none().then_some(())
        };
        let own = Arc::clone(&slots);
        let other = thread::spawn(move || ask(&own, 1));
        let first = ask(&slots, 2);
        let second = other.join().unwrap();
        assert!(first.is_none() || second.is_none(), "both think that they are alone");
    });
}
