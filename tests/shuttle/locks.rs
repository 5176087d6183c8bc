//! Locks by themselves.

use std::sync::Arc;

use shuttle::thread;
use tierlock::{Owner, SharedLock};

use crate::support::{AnyWay, dice, explore};
use crate::visitor::{LockTable, visit};
use crate::worker::Dice;

/// Whoever can go goes at once, not when somebody happens to leave.
#[test]
fn readers_behind_writers_that_give_up_join_the_reader_that_stays() {
    explore(|| {
        let mut dice = dice();
        let lock = SharedLock::new("config");
        let holder = Owner::new("holder");
        let held = lock.shared(&holder).wait().unwrap();
        let begin = |at: usize| {
            let (lock, rounds, reads) = (lock.clone(), dice.below(4), at % 2 == 0);
            thread::spawn(move || {
                let owner = Owner::new(format!("thread-{at}"));
                if reads {
                    return drop(lock.shared(&owner).wait().unwrap());
                }
                let pending = lock.exclusive(&owner).enqueue();
                (0..rounds).for_each(|_| thread::yield_now());
                assert!(pending.cancel().is_none(), "a reader holds the lock");
            })
        };
        let threads: Vec<_> = (0..6).map(begin).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(held);
        assert_eq!(lock.mode(), None);
    });
}

#[test]
fn owners_in_any_mode_all_end_and_never_conflict_whatever_they_change_to() {
    explore(|| {
        let mut dice = dice();
        let locks = [0, 1].map(|at| SharedLock::new(format!("lock-{at}")));
        let table = Arc::new(LockTable::default());
        let begin = |at: usize| {
            let (locks, table, mut dice) = (locks.clone(), Arc::clone(&table), Dice(dice.roll()));
            thread::spawn(move || {
                let owner = Owner::new(format!("thread-{at}"));
                (0..2).for_each(|_| visit(&AnyWay, &mut dice, &owner, &locks, &table));
            })
        };
        let threads: Vec<_> = (0..6).map(begin).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(locks.map(|lock| lock.mode()), [None, None]);
    });
}
