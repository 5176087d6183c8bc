//! Rows agree with themselves, whatever happens while they are read: Ganeti's trap T16, as far as it can be closed.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tierlock::monitor::{Row, Snapshot, Who};
use tierlock::{ALL, LockMonitor, LockSet, Membership, Mode, Owner, SharedLock, exclusive, shared};

use super::{owners, watching};
use crate::support::{LONG, ms, now, until};

/// What no row may show.
#[track_caller]
fn assert_agrees(row: &Row) {
    for (at, holder) in row.owners.iter().enumerate() {
        for other in &row.owners[..at] {
            assert!(holder.mode.admits(other.mode), "two that conflict: {row:?}");
            assert!(!holder.owner.is(&other.owner), "one twice: {row:?}");
        }
        let strongest = row.mode.expect("it is held");
        assert!(holder.mode <= strongest, "stronger than the lock is held: {row:?}");
    }
    if !row.unsettled {
        let strongest = row.owners.iter().map(|holder| holder.mode).max();
        assert_eq!(strongest, row.mode, "{row:?}");
    }
    assert_no_grant_shows_twice(row);
}

/// Nobody waits for what it holds, but for a stronger mode; and who waits for that is shown as holding.
#[track_caller]
fn assert_no_grant_shows_twice(row: &Row) {
    let holds = |who: &Who| row.owners.iter().find(|holder| holder.owner.is(who)).map(|h| h.mode);
    let mut waiting = HashSet::new();
    for group in &row.pending {
        for member in &group.members {
            assert!(waiting.insert(&member.owner), "one twice in the queue: {row:?}");
            let settled_from = if row.unsettled { holds(&member.owner) } else { group.from };
            assert_eq!(holds(&member.owner), group.from.and(settled_from), "{row:?}");
        }
    }
}

/// Takes snapshots while the threads work, for long enough that each of them gets to run between two.
fn watch(
    monitor: &LockMonitor,
    work: &[&(dyn Fn(&Owner) + Sync)],
    mut check: impl FnMut(&Snapshot),
) {
    let ended = now() + ms(300);
    let (ends, begins) = (AtomicBool::new(false), Barrier::new(work.len() + 1));
    thread::scope(|scope| {
        for (at, work) in work.iter().enumerate() {
            let (ends, begins) = (&ends, &begins);
            scope.spawn(move || {
                let owner = Owner::new(format!("job-{at}"));
                begins.wait();
                while !ends.load(Ordering::Relaxed) {
                    work(&owner);
                }
            });
        }
        begins.wait();
        let _ends = AtEnd(&ends);
        while now() < ended {
            let snapshot = monitor.snapshot();
            snapshot.rows().iter().for_each(assert_agrees);
            check(&snapshot);
        }
    });
}

/// Says that it is over, after a failure too.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_row_ever_shows_two_holders_that_conflict() {
    let locks = ["a", "b"].map(SharedLock::new);
    let monitor = watching(&locks.iter().collect::<Vec<_>>());
    let take = |owner: &Owner, mode: Mode| {
        for lock in &locks {
            let _ = lock.acquire(owner, mode).now();
            drop(lock.acquire(owner, mode).timeout(LONG).wait().unwrap());
        }
    };
    let modes: Vec<_> = Mode::ALL.into_iter().map(|mode| move |o: &Owner| take(o, mode)).collect();
    let work: Vec<_> = modes.iter().map(|work| work as &(dyn Fn(&Owner) + Sync)).collect();
    let mut settled = 0;
    watch(&monitor, &work, |snapshot| {
        settled += snapshot.rows().iter().filter(|r| !r.unsettled).count();
    });
    assert!(settled > 0, "some row agreed with itself");
    assert!(locks.iter().all(|lock| lock.mode().is_none()));
}

#[test]
fn no_row_shows_a_grant_twice_while_modes_change() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let convert = |owner: &Owner| {
        let mut guard = lock.shared(owner).timeout(LONG).wait().unwrap();
        // Another may wait for the same, and each would wait for the other.
        let _ = guard.upgrade().timeout(LONG).wait();
        guard.downgrade();
    };
    watch(&monitor, &[&convert, &convert, &convert], |_| ());
}

#[test]
fn a_hold_that_lasts_is_in_every_settled_row() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let steady = Owner::new("steady");
    let _guard = lock.shared(&steady).now().unwrap();
    let visit = |owner: &Owner| drop(lock.shared(owner).timeout(LONG).wait().unwrap());
    watch(&monitor, &[&visit, &visit], |snapshot| {
        let row = &snapshot.rows()[0];
        assert!(row.unsettled || owners(row).contains(&("steady", Mode::Shared)), "{row:?}");
    });
}

#[test]
fn rows_of_a_set_agree_with_themselves_while_names_are_taken_added_and_removed() {
    let set = LockSet::new("nodes", Membership::Listed, ["n1", "n2", "n3"]).unwrap();
    let monitor = LockMonitor::new();
    monitor.register(&set);
    let some = |owner: &Owner| {
        drop(set.acquire(owner, exclusive(["n1", "n2"])).timeout(LONG).wait().unwrap());
    };
    let all = |owner: &Owner| {
        let mut guard = set.acquire(owner, shared(ALL)).timeout(LONG).wait().unwrap();
        guard.keep("n1").unwrap();
    };
    let change = |owner: &Owner| {
        set.add(owner, "n4").timeout(LONG).wait().unwrap();
        set.remove(owner, "n4").timeout(LONG).wait().unwrap();
    };
    watch(&monitor, &[&some, &all, &change], |snapshot| assert!(snapshot.rows().len() >= 4));
}

#[test]
fn what_stands_still_is_settled_and_exact() {
    let lock = SharedLock::new("config");
    let monitor = watching(&[&lock]);
    let owners: Vec<_> = (0..100).map(|at| Owner::new(format!("job-{at}"))).collect();
    let guards: Vec<_> = owners.iter().map(|owner| lock.shared(owner).now().unwrap()).collect();
    let row = monitor.snapshot().rows()[0].clone();
    assert!(!row.unsettled);
    assert_eq!(row.owners.len(), 100);
    drop(guards);
    until(|| monitor.snapshot().rows()[0].is_free());
}
