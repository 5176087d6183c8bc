//! Threads at a lock, and at two locks of a set.

use loom::thread;
use tierlock::{AcquireError, Mode, Owner, UpgradeError, exclusive};

use crate::support::{Guarded, GuardedSet, TIMED, explore, explore_bounded};

#[test]
fn two_writers_exclude_each_other_and_both_end() {
    explore(|| {
        let guarded = Guarded::new();
        let other = guarded.spawn(|g| g.visit("b", Mode::Exclusive));
        guarded.visit("a", Mode::Exclusive);
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn the_last_reader_out_lets_the_writer_in() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let readers = ["b", "c"].map(|name| guarded.spawn(move |g| g.visit(name, Mode::Shared)));
        guarded.visit("a", Mode::Exclusive);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        guarded.assert_at_rest();
    });
}

#[test]
fn two_writers_and_a_reader_all_end() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let writer = guarded.spawn(|g| g.visit("b", Mode::Exclusive));
        let reader = guarded.spawn(|g| g.visit("c", Mode::Shared));
        guarded.visit("a", Mode::Exclusive);
        writer.join().unwrap();
        reader.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn intentions_go_together_and_keep_the_exclusive_out() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let intent = guarded.spawn(|g| g.visit("b", Mode::IntentExclusive));
        let other = guarded.spawn(|g| g.visit("c", Mode::IntentShared));
        guarded.visit("a", Mode::Exclusive);
        intent.join().unwrap();
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_request_that_times_out_meets_its_grant_and_loses_nothing() {
    explore(|| {
        let guarded = Guarded::new();
        let timed = guarded.spawn(|g| g.visit_in_time("b", Mode::Exclusive));
        guarded.visit("a", Mode::Exclusive);
        timed.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_writer_that_times_out_lets_the_reader_behind_it_go() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let holder = Owner::new("a");
        // Held to the end: the reader behind the writer must not need its release.
        let guard = guarded.lock.shared(&holder).wait().unwrap();
        let writer = guarded.spawn(|g| g.visit_in_time("b", Mode::Exclusive));
        let reader = guarded.spawn(|g| g.visit("c", Mode::Shared));
        writer.join().unwrap();
        reader.join().unwrap();
        drop(guard);
        guarded.assert_at_rest();
    });
}

#[test]
fn a_late_withdrawal_does_not_hit_who_waits_by_then() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let timed = guarded.spawn(|g| g.visit_in_time("b", Mode::Exclusive));
        let next = guarded.spawn(|g| g.visit("c", Mode::Exclusive));
        guarded.visit("a", Mode::Exclusive);
        timed.join().unwrap();
        next.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_try_never_gets_in_the_way() {
    explore(|| {
        let guarded = Guarded::new();
        let trying = guarded.spawn(|g| {
            let owner = Owner::new("b");
            if let Ok(_guard) = g.lock.exclusive(&owner).now() {
                g.write();
            }
        });
        guarded.visit("a", Mode::Exclusive);
        trying.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_deletion_fails_whoever_waits_and_whoever_comes() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let visitors = ["b", "c"].map(|name| {
            guarded.spawn(move |g| {
                let owner = Owner::new(name);
                match g.lock.exclusive(&owner).wait() {
                    Ok(_guard) => g.write(),
                    Err(error) => assert!(matches!(error, AcquireError::Deleted { .. })),
                }
            })
        });
        guarded.lock.delete(&Owner::new("a")).wait().unwrap();
        guarded.write();
        visitors.into_iter().for_each(|visitor| visitor.join().unwrap());
        let late = guarded.lock.shared(&Owner::new("d")).now().map(drop);
        assert!(matches!(late, Err(AcquireError::Deleted { .. })));
    });
}

#[test]
fn of_two_deletions_one_wins() {
    explore(|| {
        let guarded = Guarded::new();
        let other = guarded.lock.clone();
        let other = thread::spawn(move || other.delete(&Owner::new("b")).wait().is_ok());
        let own = guarded.lock.delete(&Owner::new("a")).wait().is_ok();
        assert!(own ^ other.join().unwrap());
        assert!(guarded.lock.is_deleted());
    });
}

#[test]
fn a_downgrade_lets_readers_in_beside_it_and_keeps_writers_out() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let reader = guarded.spawn(|g| g.visit("b", Mode::Shared));
        let writer = guarded.spawn(|g| g.visit("c", Mode::Exclusive));
        let owner = Owner::new("a");
        let mut guard = guarded.lock.exclusive(&owner).wait().unwrap();
        guarded.write();
        guard.downgrade();
        guarded.read();
        drop(guard);
        reader.join().unwrap();
        writer.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_downgrade_lets_the_reader_that_waits_go_at_once() {
    explore(|| {
        let guarded = Guarded::new();
        let owner = Owner::new("a");
        let mut guard = guarded.lock.exclusive(&owner).wait().unwrap();
        let reader = guarded.spawn(|g| g.visit("b", Mode::Shared));
        guarded.write();
        guard.downgrade();
        // Held to the end: the reader must not need its release.
        reader.join().unwrap();
        drop(guard);
        guarded.assert_at_rest();
    });
}

#[test]
fn an_upgrade_waits_for_the_other_reader_and_goes_before_the_writer() {
    explore_bounded(|| {
        let guarded = Guarded::new();
        let reader = guarded.spawn(|g| g.visit("b", Mode::Shared));
        let writer = guarded.spawn(|g| g.visit("c", Mode::Exclusive));
        let owner = Owner::new("a");
        let mut guard = guarded.lock.shared(&owner).wait().unwrap();
        guarded.read();
        guard.upgrade().wait().unwrap();
        guarded.write();
        drop(guard);
        reader.join().unwrap();
        writer.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn of_two_upgrades_at_once_one_is_told_that_it_would_deadlock() {
    explore(|| {
        let guarded = Guarded::new();
        let upgrade = |g: &Guarded, name: &'static str| {
            let owner = Owner::new(name);
            let mut guard = g.lock.shared(&owner).wait().unwrap();
            match guard.upgrade().wait() {
                Ok(()) => g.write(),
                Err(error) => assert!(matches!(error, UpgradeError::WouldDeadlock { .. })),
            }
        };
        let other = guarded.spawn(move |g| upgrade(g, "b"));
        upgrade(&guarded, "a");
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn an_upgrade_that_times_out_leaves_the_lock_held_as_it_was() {
    explore(|| {
        let guarded = Guarded::new();
        let reader = guarded.spawn(|g| g.visit("b", Mode::Shared));
        let owner = Owner::new("a");
        let mut guard = guarded.lock.shared(&owner).wait().unwrap();
        let upgraded = guard.upgrade().timeout(TIMED).wait().is_ok();
        guarded.touch(if upgraded { Mode::Exclusive } else { Mode::Shared });
        assert_eq!(guard.mode() == Mode::Exclusive, upgraded);
        drop(guard);
        reader.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn two_chains_over_two_locks_both_end() {
    explore_bounded(|| {
        let guarded = GuardedSet::new();
        let other = guarded.clone();
        let other = thread::spawn(move || other.visit_both("b"));
        guarded.visit_both("a");
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn a_chain_that_times_out_half_way_gives_back_what_it_has() {
    explore_bounded(|| {
        let guarded = GuardedSet::new();
        let other = guarded.clone();
        let other = thread::spawn(move || {
            let owner = Owner::new("b");
            if let Ok(_guard) =
                other.set.acquire(&owner, exclusive(["n0", "n1"])).timeout(TIMED).wait()
            {
                other.cells.iter().for_each(|cell| cell.with_mut(|_| ()));
            }
        });
        {
            let owner = Owner::new("a");
            let _guard = guarded.set.acquire(&owner, exclusive("n1")).wait().unwrap();
            guarded.cells[1].with_mut(|_| ());
        }
        other.join().unwrap();
        guarded.assert_at_rest();
    });
}

#[test]
fn removing_a_name_fails_the_chain_that_waits_for_it_and_leaves_nothing_held() {
    explore_bounded(|| {
        let guarded = GuardedSet::new();
        let other = guarded.clone();
        let other = thread::spawn(move || {
            let owner = Owner::new("b");
            match other.set.acquire(&owner, exclusive(["n0", "n1"])).wait() {
                Ok(_guard) => other.cells[1].with_mut(|_| ()),
                Err(AcquireError::Deleted { .. } | AcquireError::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        });
        guarded.set.remove(&Owner::new("a"), "n1").wait().unwrap();
        guarded.cells[1].with_mut(|_| ());
        other.join().unwrap();
        drop(guarded.set.acquire(&Owner::new("c"), exclusive(tierlock::ALL)).now().unwrap());
    });
}
