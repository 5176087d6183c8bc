//! The set-lock, which is counted in stripes: those who come by its gate and leave, and those who close it and add up.
//!
//! Owners of names that differ by one are counted in different stripes, `a` and `c` in the same.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;
use tierlock::{ALL, AcquireError, LockSet, Membership, Owner, SetRequest, exclusive, shared};

use crate::support::{TIMED, explore_up_to};

/// Two threads up to four preemptions: without a bound they take an hour, for the set and its name are two locks.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_up_to(Some(4), model);
}

/// Three threads up to two: what was wrong once showed by then.
fn explore_bounded(model: impl Fn() + Send + Sync + 'static) {
    explore_up_to(Some(2), model);
}

/// A set, a cell that belongs to all of it, and one that belongs to its only name.
#[derive(Clone)]
struct Guarded {
    set: LockSet,
    cell: Arc<UnsafeCell<u32>>,
}

impl Guarded {
    fn new() -> Self {
        let set = LockSet::new("nodes", Membership::Listed, ["n"]).unwrap();
        Self { set, cell: Arc::new(UnsafeCell::new(0)) }
    }

    fn write(&self) {
        self.cell.with_mut(|_| ());
    }

    fn read(&self) {
        self.cell.with(|_| ());
    }

    /// Takes all of the set, or its name, exclusively.
    fn write_with(&self, name: &'static str, request: SetRequest) {
        let owner = Owner::new(name);
        let _guard = self.set.acquire(&owner, request).wait().unwrap();
        self.write();
    }

    /// Takes all of the set, or its name, shared.
    fn read_with(&self, name: &'static str, request: SetRequest) {
        let owner = Owner::new(name);
        let _guard = self.set.acquire(&owner, request).wait().unwrap();
        self.read();
    }

    fn spawn(&self, act: impl FnOnce(&Self) + 'static) -> thread::JoinHandle<()> {
        let this = self.clone();
        thread::spawn(move || act(&this))
    }

    /// Nobody holds it, nobody waits: a stranger gets it at once, and so does everybody who comes by the gate.
    fn assert_at_rest(&self) {
        let owner = Owner::new("stranger");
        for request in [exclusive(ALL), shared(ALL), exclusive("n")] {
            drop(self.set.acquire(&owner, request).now().unwrap());
        }
    }
}

#[test]
fn who_comes_by_the_gate_and_who_closes_it_exclude_each_other() {
    explore(|| {
        let guarded = Guarded::new();
        let other = guarded.spawn(|g| g.read_with("b", shared("n")));
        guarded.write_with("a", exclusive(ALL));
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn the_last_one_out_lets_in_who_closed_the_gate() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let readers = ["b", "c"].map(|name| guarded.spawn(move |g| g.read_with(name, shared(ALL))));
        guarded.write_with("a", exclusive(ALL));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        guarded.assert_at_rest();
    });
}

#[test]
fn who_wants_the_other_gate_waits_for_all_who_came_by_this_one() {
    explore(|| {
        let guarded = Guarded::new();
        let other = guarded.spawn(|g| g.read_with("b", shared(ALL)));
        guarded.write_with("a", exclusive("n"));
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn three_who_want_different_gates_all_end() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let all = guarded.spawn(|g| g.read_with("b", shared(ALL)));
        let name = guarded.spawn(|g| g.read_with("c", shared("n")));
        guarded.write_with("a", exclusive("n"));
        all.join().unwrap();
        name.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_gate_that_an_exclusive_holder_opens_behind_itself_shows_what_it_did() {
    explore(|| {
        let guarded = Guarded::new();
        let owner = Owner::new("a");
        let guard = guarded.set.acquire(&owner, exclusive(ALL)).now().unwrap();
        let other = guarded.spawn(|g| g.read_with("b", shared(ALL)));
        guarded.write();
        drop(guard);
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_hold_given_back_by_another_thread_is_counted_off_where_it_was_counted() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let guard = guarded.set.acquire(&Owner::new("b"), shared(ALL)).now().unwrap();
        let writer = guarded.spawn(|g| g.write_with("c", exclusive(ALL)));
        let releaser = guarded.spawn(move |g| {
            g.read();
            drop(guard);
        });
        guarded.read_with("a", shared(ALL));
        writer.join().unwrap();
        releaser.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_downgrade_lets_readers_in_beside_it_and_keeps_writers_out() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let reader = guarded.spawn(|g| g.read_with("b", shared(ALL)));
        let writer = guarded.spawn(|g| g.write_with("c", exclusive("n")));
        let owner = Owner::new("a");
        let mut guard = guarded.set.acquire(&owner, exclusive(ALL)).wait().unwrap();
        guarded.write();
        guard.downgrade(ALL).unwrap();
        guarded.read();
        drop(guard);
        reader.join().unwrap();
        writer.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn an_upgrade_waits_for_who_came_by_the_gate() {
    explore(|| {
        let guarded = Guarded::new();
        let reader = guarded.spawn(|g| g.read_with("b", shared(ALL)));
        let owner = Owner::new("a");
        let mut guard = guarded.set.acquire(&owner, shared(ALL)).wait().unwrap();
        guarded.read();
        guard.upgrade(ALL).wait().unwrap();
        guarded.write();
        drop(guard);
        reader.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_writer_that_times_out_opens_the_gate_again() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let holder = Owner::new("a");
        // Held to the end: the reader behind the writer must not need its release.
        let guard = guarded.set.acquire(&holder, shared(ALL)).wait().unwrap();
        let writer = guarded.spawn(|g| {
            let owner = Owner::new("b");
            let outcome = g.set.acquire(&owner, exclusive(ALL)).timeout(TIMED).wait();
            assert!(outcome.is_err_and(|error| error.is_timeout()));
        });
        let reader = guarded.spawn(|g| g.read_with("c", shared(ALL)));
        writer.join().unwrap();
        reader.join().unwrap();
        drop(guard);
        guarded.assert_at_rest();
    });
}

#[test]
fn a_try_never_gets_in_the_way() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let trying = guarded.spawn(|g| {
            let owner = Owner::new("b");
            match g.set.acquire(&owner, exclusive(ALL)).now() {
                Ok(_guard) => g.write(),
                Err(error) => assert!(matches!(error, AcquireError::WouldBlock { .. })),
            }
        });
        let waiting = guarded.spawn(|g| g.write_with("c", exclusive(ALL)));
        guarded.read_with("a", shared(ALL));
        trying.join().unwrap();
        waiting.join().unwrap();
        guarded.assert_at_rest();
    });
}
