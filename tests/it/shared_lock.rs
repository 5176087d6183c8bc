//! One lock: who gets it, when, and who is told what. Real threads, each step seen before the next begins.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tierlock::Mode::{Exclusive, IntentExclusive, IntentShared, Shared, SharedIntentExclusive};
use tierlock::{AcquireError, Ageing, Blocker, Guard, Mode, Owner, SharedLock, UpgradeError};

use crate::support::{
    LONG, Waiter, admits, is_queued, ms, now, panic_holding, slots, until, waits,
};

fn lock() -> SharedLock {
    SharedLock::new("config")
}

/// Held by a new owner of this name.
#[track_caller]
fn held(lock: &SharedLock, name: &str, mode: Mode) -> Guard<'static> {
    lock.acquire(&Owner::new(name), mode).now().expect("nobody stands in the way").into_owned()
}

/// Who blocks, in which mode, and whether it waits itself.
fn told(blockers: &[Blocker]) -> Vec<(&str, Mode, bool)> {
    blockers.iter().map(|blocker| (&*blocker.owner, blocker.mode, blocker.waits)).collect()
}

mod hand_over {
    use super::*;

    #[test]
    fn a_lock_given_back_belongs_to_the_waiter_before_it_runs() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let waiter = waits(&lock, "waiter", Exclusive, |request| request);
        drop(holder);
        // Not a moment later: whoever released it has handed it over.
        assert_eq!(waiter.owner.holds(&lock), Some(Exclusive));
        assert_eq!(waiter.join().unwrap().mode(), Exclusive);
        assert_eq!(lock.mode(), None);
    }

    #[test]
    fn every_pair_of_modes_shares_the_lock_exactly_if_the_table_says_so() {
        for first in Mode::ALL {
            for second in Mode::ALL {
                let lock = lock();
                let _held = held(&lock, "first", first);
                assert_eq!(admits(&lock, second), first.admits(second), "{second} beside {first}");
            }
        }
    }

    #[test]
    fn the_more_urgent_goes_first_though_it_came_later() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let patient = waits(&lock, "patient", Exclusive, |request| request.priority(5));
        let urgent = waits(&lock, "urgent", Exclusive, |request| request.priority(-5));
        drop(holder);
        assert_eq!(urgent.owner.holds(&lock), Some(Exclusive));
        assert_eq!(patient.owner.holds(&lock), None);
        drop(urgent.join());
        assert!(patient.join().is_ok());
    }

    #[test]
    fn among_equals_the_first_to_come_goes_first() {
        let lock = lock();
        let mut holder = held(&lock, "holder", Exclusive);
        let waiters: Vec<_> =
            (0..5).map(|_| waits(&lock, "waiter", Exclusive, |request| request)).collect();
        for waiter in waiters {
            drop(holder);
            assert_eq!(waiter.owner.holds(&lock), Some(Exclusive));
            holder = waiter.join().unwrap();
        }
        assert_eq!(holder.mode(), Exclusive);
    }

    #[test]
    fn nobody_overtakes_what_waits_unless_more_urgent() {
        let lock = lock();
        let reader = held(&lock, "reader", Shared);
        let writer = waits(&lock, "writer", Exclusive, |request| request);
        for priority in [0, 1, i32::MAX] {
            let late = Owner::new("late");
            assert!(matches!(
                lock.shared(&late).priority(priority).now(),
                Err(AcquireError::WouldBlock { .. })
            ));
        }
        let urgent = Owner::new("urgent");
        assert!(lock.shared(&urgent).priority(-1).now().is_ok());
        drop(reader);
        assert!(writer.join().is_ok());
    }

    #[test]
    fn readers_of_one_priority_go_together_even_past_a_writer_between_them() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let first = waits(&lock, "first", Shared, |request| request);
        let writer = waits(&lock, "writer", Exclusive, |request| request);
        let second = waits(&lock, "second", Shared, |request| request);
        drop(holder);
        assert_eq!(first.owner.holds(&lock), Some(Shared));
        assert_eq!(second.owner.holds(&lock), Some(Shared));
        assert_eq!(writer.owner.holds(&lock), None);
        drop((first.join(), second.join()));
        assert!(writer.join().is_ok());
    }

    #[test]
    fn neighbouring_readers_of_different_priorities_go_together() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let urgent = waits(&lock, "urgent", Shared, |request| request.priority(-3));
        let patient = waits(&lock, "patient", Shared, |request| request.priority(3));
        drop(holder);
        assert_eq!(urgent.owner.holds(&lock), Some(Shared));
        assert_eq!(patient.owner.holds(&lock), Some(Shared));
        drop((urgent.join(), patient.join()));
    }

    #[test]
    fn a_request_that_is_dropped_was_never_made() {
        let lock = lock();
        let owner = Owner::new("undecided");
        drop(lock.exclusive(&owner).priority(-1).timeout(LONG));
        assert_eq!((lock.mode(), slots(&owner)), (None, 0));
    }

    #[test]
    fn three_hundred_threads_on_one_lock_all_end_and_never_share_what_cannot_be_shared() {
        const THREADS: usize = 300;
        let lock = lock();
        let (writers, readers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let served = AtomicUsize::new(0);
        let gate = held(&lock, "gate", Exclusive);
        thread::scope(|scope| {
            for at in 0..THREADS {
                let (lock, writers, readers, served) = (&lock, &writers, &readers, &served);
                scope.spawn(move || {
                    let owner = Owner::new(format!("thread-{at}"));
                    let mode = if at % 3 == 0 { Exclusive } else { Shared };
                    let _held = lock.acquire(&owner, mode).priority(at as i32 % 7).wait().unwrap();
                    if mode == Exclusive {
                        assert_eq!(writers.fetch_add(1, Ordering::SeqCst), 0);
                        assert_eq!(readers.load(Ordering::SeqCst), 0);
                        writers.fetch_sub(1, Ordering::SeqCst);
                    } else {
                        readers.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(writers.load(Ordering::SeqCst), 0);
                        readers.fetch_sub(1, Ordering::SeqCst);
                    }
                    served.fetch_add(1, Ordering::SeqCst);
                });
            }
            drop(gate);
        });
        assert_eq!(served.into_inner(), THREADS);
        assert!(admits(&lock, Exclusive));
    }
}

mod time {
    use super::*;

    #[test]
    fn a_timed_out_writer_lets_the_reader_behind_it_go() {
        let lock = lock();
        let first_reader = held(&lock, "first reader", Shared);
        let writer = waits(&lock, "writer", Exclusive, |request| request.timeout(ms(40)));
        let reader = waits(&lock, "reader behind", Shared, |request| request);
        assert!(writer.join().unwrap_err().is_timeout());
        assert_eq!(reader.join().unwrap().mode(), Shared);
        assert_eq!(first_reader.mode(), Shared);
    }

    #[test]
    fn a_zero_timeout_is_a_try_that_leaves_no_trace() {
        let lock = lock();
        let reader = held(&lock, "reader", Shared);
        let hasty = Owner::new("hasty");
        let refused = lock.exclusive(&hasty).timeout(Duration::ZERO).wait().unwrap_err();
        let AcquireError::TimedOut { waited, .. } = refused else { panic!("{refused}") };
        assert_eq!((waited, slots(&hasty)), (Duration::ZERO, 0));
        assert!(!is_queued(&lock));
        assert!(admits(&lock, Shared));
        drop(reader);
        assert!(lock.exclusive(&hasty).timeout(Duration::ZERO).wait().is_ok());
    }

    #[test]
    fn below_one_millisecond_nothing_queues() {
        let lock = lock();
        let _reader = held(&lock, "reader", Shared);
        let hasty = Owner::new("hasty");
        let refused = lock.exclusive(&hasty).timeout(Duration::from_micros(999)).wait();
        let Err(AcquireError::TimedOut { waited, .. }) = refused else { panic!() };
        assert_eq!(waited, Duration::ZERO);
    }

    #[test]
    fn a_deadline_in_the_past_is_a_try() {
        let lock = lock();
        let (past, owner) = (now(), Owner::new("late"));
        assert!(lock.exclusive(&owner).deadline(past).wait().is_ok());
        let _reader = held(&lock, "reader", Shared);
        let refused = lock.exclusive(&owner).deadline(past).wait().unwrap_err();
        assert!(refused.is_timeout(), "{refused}");
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_not_before() {
        let lock = lock();
        let _holder = held(&lock, "holder", Exclusive);
        let (owner, deadline) = (Owner::new("waiter"), now() + ms(30));
        let refused = lock.shared(&owner).deadline(deadline).wait().unwrap_err();
        assert!(now() >= deadline);
        let AcquireError::TimedOut { waited, .. } = refused else { panic!("{refused}") };
        assert!(waited >= ms(25), "{waited:?}");
    }

    #[test]
    fn the_last_limit_given_counts() {
        let lock = lock();
        let _holder = held(&lock, "holder", Exclusive);
        let owner = Owner::new("waiter");
        let request = || lock.shared(&owner);
        assert!(request().timeout(LONG).deadline(now()).wait().unwrap_err().is_timeout());
        let deadline = now() + LONG;
        assert!(request().deadline(deadline).timeout(Duration::ZERO).wait().is_err());
    }

    #[test]
    fn a_timeout_names_the_holders_in_the_way() {
        let lock = lock();
        let _guards = [held(&lock, "job-1", Shared), held(&lock, "job-2", IntentShared)];
        let owner = Owner::new("job-3");
        let refused = lock.exclusive(&owner).timeout(ms(3)).wait();
        let Err(AcquireError::TimedOut { blockers, .. }) = refused else { panic!() };
        let expected = [("job-1", Shared, false), ("job-2", IntentShared, false)];
        assert_eq!(told(&blockers), expected);
    }

    #[test]
    fn a_timeout_names_whoever_waits_in_front_if_no_holder_is_in_the_way() {
        let lock = lock();
        let reader = held(&lock, "reader", Shared);
        let writer = waits(&lock, "writer", Exclusive, |request| request);
        let owner = Owner::new("late");
        let refused = lock.shared(&owner).timeout(ms(3)).wait();
        let Err(AcquireError::TimedOut { blockers, .. }) = refused else { panic!() };
        assert_eq!(told(&blockers), [("writer", Exclusive, true)]);
        drop(reader);
        assert!(writer.join().is_ok());
    }

    #[test]
    fn a_timeout_beyond_the_range_of_the_clock_is_none() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let waiter = waits(&lock, "waiter", Exclusive, |request| request.timeout(Duration::MAX));
        drop(holder);
        assert!(waiter.join().is_ok());
    }

    #[test]
    fn ageing_passes_newcomers_that_were_more_urgent() {
        let lock = lock();
        let reader = held(&lock, "reader", Shared);
        let aged = waits(&lock, "aged", Exclusive, |r| r.ageing(Ageing::every(ms(1)).floor(-5)));
        // A request of the floor's priority goes past the queue only while nothing is as urgent.
        until(|| lock.shared(&Owner::new("observer")).priority(-5).now().is_err());
        let newcomer = waits(&lock, "newcomer", Exclusive, |request| request.priority(-4));
        drop(reader);
        assert_eq!(aged.owner.holds(&lock), Some(Exclusive));
        drop(aged.join());
        assert!(newcomer.join().is_ok());
    }

    #[test]
    fn ageing_ends_at_its_floor() {
        let lock = lock();
        let reader = held(&lock, "reader", Shared);
        let aged = waits(&lock, "aged", Exclusive, |r| r.ageing(Ageing::every(ms(1)).floor(-2)));
        until(|| lock.shared(&Owner::new("observer")).priority(-2).now().is_err());
        let later = now() + ms(15);
        until(|| {
            assert!(lock.shared(&Owner::new("observer")).priority(-3).now().is_ok());
            now() > later
        });
        drop(reader);
        assert!(aged.join().is_ok());
    }

    #[test]
    fn a_stream_of_more_urgent_requests_cannot_starve_one_that_ages() {
        let lock = lock();
        let (done, served) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for at in 0..3 {
                let (lock, done, served) = (&lock, &done, &served);
                scope.spawn(move || {
                    let owner = Owner::new(format!("stream-{at}"));
                    while done.load(Ordering::SeqCst) == 0 {
                        let held = lock.exclusive(&owner).priority(-10).wait().unwrap();
                        served.fetch_add(1, Ordering::SeqCst);
                        // Does not leave before another of the stream stands in the queue.
                        until(|| is_queued(lock) || done.load(Ordering::SeqCst) > 0);
                        drop(held);
                    }
                });
            }
            until(|| served.load(Ordering::SeqCst) > 10);
            let owner = Owner::new("patient");
            let held = lock.exclusive(&owner).ageing(Ageing::every(ms(1))).timeout(LONG).wait();
            done.store(1, Ordering::SeqCst);
            assert!(held.is_ok());
            drop(held);
        });
    }

    #[test]
    fn the_extremes_of_priority_and_ageing_overflow_nothing() {
        let lock = lock();
        let _holder = held(&lock, "holder", Exclusive);
        let owner = Owner::new("extreme");
        for priority in [i32::MIN, i32::MIN + 1, 0, i32::MAX] {
            for floor in [i32::MIN, 0, i32::MAX] {
                for interval in [Duration::ZERO, ms(1), Duration::MAX] {
                    let ageing = Ageing::every(interval).floor(floor);
                    let request = lock.shared(&owner).priority(priority).ageing(ageing);
                    assert!(request.timeout(ms(3)).wait().unwrap_err().is_timeout());
                }
            }
        }
        assert_eq!(slots(&owner), 0);
    }
}

mod delete {
    use super::*;

    #[test]
    fn a_delete_fails_every_pending_and_later_request() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let reader = waits(&lock, "reader", Shared, |request| request);
        let writer = waits(&lock, "writer", Exclusive, |request| request.timeout(LONG));
        assert!(holder.delete().is_ok());
        for waiter in [reader, writer] {
            let owner = waiter.owner.clone();
            let refused = waiter.join().unwrap_err();
            assert!(matches!(refused, AcquireError::Deleted { .. }), "{refused}");
            assert_eq!(slots(&owner), 0);
        }
        let late = Owner::new("late");
        assert!(matches!(lock.shared(&late).now(), Err(AcquireError::Deleted { .. })));
        assert!(matches!(lock.shared(&late).wait(), Err(AcquireError::Deleted { .. })));
        assert!(matches!(lock.delete(&late).wait(), Err(AcquireError::Deleted { .. })));
        assert_eq!((lock.mode(), lock.is_deleted()), (None, true));
    }

    #[test]
    fn a_delete_waits_its_turn_like_any_exclusive_request() {
        let lock = lock();
        let reader = held(&lock, "reader", Shared);
        let urgent = waits(&lock, "urgent", Exclusive, |request| request.priority(-1));
        let deleted = lock.clone();
        let delete = Waiter::begin("delete", move |owner| deleted.delete(owner).wait());
        let patient = waits(&lock, "patient", Exclusive, |request| request.priority(1));
        drop(reader);
        // Served before the delete's turn, and well.
        assert_eq!(urgent.join().unwrap().mode(), Exclusive);
        assert!(delete.join().is_ok());
        assert!(matches!(patient.join(), Err(AcquireError::Deleted { .. })));
    }

    #[test]
    fn a_delete_that_times_out_leaves_the_lock_alive_and_its_queue_moving() {
        let lock = lock();
        let reader = held(&lock, "reader", Shared);
        let deleted = lock.clone();
        let delete =
            Waiter::begin("delete", move |owner| deleted.delete(owner).timeout(ms(40)).wait());
        let behind = waits(&lock, "behind", Shared, |request| request);
        assert!(delete.join().unwrap_err().is_timeout());
        assert!(behind.join().is_ok());
        assert!(!lock.is_deleted());
        drop(reader);
        assert!(admits(&lock, Exclusive));
    }

    #[test]
    fn of_two_that_delete_one_does_and_the_other_is_told() {
        let lock = lock();
        let holder = held(&lock, "holder", Shared);
        let deletes = ["first", "second"].map(|name| {
            let lock = lock.clone();
            Waiter::begin(name, move |owner| lock.delete(owner).wait())
        });
        drop(holder);
        let [first, second] = deletes.map(Waiter::join);
        assert!(first.is_ok());
        assert!(matches!(second, Err(AcquireError::Deleted { .. })));
    }

    #[test]
    fn a_lock_not_held_exclusively_is_not_deleted_by_its_guard() {
        let lock = lock();
        let guard = held(&lock, "reader", Shared).delete().unwrap_err();
        assert_eq!((guard.mode(), lock.is_deleted()), (Shared, false));
        drop(guard);
        assert!(admits(&lock, Exclusive));
    }

    #[test]
    fn whoever_holds_a_lock_cannot_delete_it_as_a_stranger() {
        let lock = lock();
        let owner = Owner::new("holder");
        let guard = lock.shared(&owner).now().unwrap();
        assert!(matches!(lock.delete(&owner).now(), Err(AcquireError::AlreadyHeld { .. })));
        assert!(matches!(lock.delete(&owner).wait(), Err(AcquireError::AlreadyHeld { .. })));
        assert_eq!(guard.mode(), Shared);
    }
}

mod upgrade {
    use super::*;

    /// An upgrade under way: the guard comes back with what became of it.
    fn upgrading(
        mut guard: Guard<'static>,
        timeout: Duration,
    ) -> Waiter<(Guard<'static>, Result<(), UpgradeError>)> {
        Waiter::of(&Owner::new("upgrading"), move || {
            let upgraded = guard.upgrade().timeout(timeout).wait();
            (guard, upgraded)
        })
    }

    #[test]
    fn it_waits_for_the_other_readers() {
        let lock = lock();
        let [first, second] = [held(&lock, "first", Shared), held(&lock, "second", Shared)];
        let upgrading = upgrading(first, LONG);
        assert_eq!(lock.mode(), Some(Shared));
        drop(second);
        assert_eq!(lock.mode(), Some(Exclusive));
        let (guard, upgraded) = upgrading.join();
        assert_eq!((guard.mode(), upgraded), (Exclusive, Ok(())));
    }

    #[test]
    fn it_goes_before_everything_pending_however_urgent() {
        let lock = lock();
        let [first, second] = [held(&lock, "first", Shared), held(&lock, "second", Shared)];
        let urgent = waits(&lock, "urgent", Exclusive, |request| request.priority(-5));
        let upgrading = upgrading(first, LONG);
        // What is more urgent than the queue goes past it, but never past an upgrade.
        assert!(lock.shared(&Owner::new("observer")).priority(-6).now().is_err());
        drop(second);
        let (guard, upgraded) = upgrading.join();
        assert_eq!((guard.mode(), upgraded), (Exclusive, Ok(())));
        assert_eq!(urgent.owner.holds(&lock), None);
        drop(guard);
        assert!(urgent.join().is_ok());
    }

    #[test]
    fn the_second_of_two_upgraders_is_told_at_once_that_it_would_deadlock() {
        let lock = lock();
        let [first, mut second] = [held(&lock, "first", Shared), held(&lock, "second", Shared)];
        let upgrading = upgrading(first, LONG);
        let refused = second.upgrade().wait().unwrap_err();
        let UpgradeError::WouldDeadlock { held, wanted, blockers, .. } = refused else {
            panic!("{refused}")
        };
        assert_eq!((held, wanted), (Shared, Exclusive));
        assert_eq!(told(&blockers), [("first", Shared, false)]);
        assert_eq!(second.mode(), Shared);
        drop(second);
        assert_eq!(upgrading.join().0.mode(), Exclusive);
    }

    #[test]
    fn when_its_time_is_up_the_lock_is_still_held_shared_and_others_go_on() {
        let lock = lock();
        let [first, second] = [held(&lock, "first", Shared), held(&lock, "second", Shared)];
        let upgrading = upgrading(first, ms(40));
        let behind = waits(&lock, "behind", Shared, |request| request);
        let (guard, upgraded) = upgrading.join();
        let Err(UpgradeError::Acquire(refused)) = upgraded else { panic!() };
        assert!(refused.is_timeout());
        assert_eq!(guard.mode(), Shared);
        assert!(behind.join().is_ok());
        drop(second);
        assert!(!admits(&lock, Exclusive));
        drop(guard);
        assert!(admits(&lock, Exclusive));
    }

    #[test]
    fn a_try_that_fails_changes_nothing() {
        let lock = lock();
        let [mut first, _second] = [held(&lock, "first", Shared), held(&lock, "second", Shared)];
        assert!(matches!(
            first.upgrade().now(),
            Err(UpgradeError::Acquire(AcquireError::WouldBlock { .. }))
        ));
        assert_eq!(first.mode(), Shared);
        assert!(admits(&lock, Shared));
    }

    #[test]
    fn from_every_mode_to_every_mode_it_leads_to_the_least_that_covers_both() {
        for from in Mode::ALL {
            for to in Mode::ALL {
                let lock = lock();
                let mut guard = held(&lock, "holder", from);
                guard.upgrade_to(to).now().unwrap();
                assert_eq!(guard.mode(), from.join(to));
                assert_eq!(lock.mode(), Some(from.join(to)));
                drop(guard);
                assert_eq!(lock.mode(), None);
            }
        }
    }
}

mod downgrade {
    use super::*;

    #[test]
    fn it_takes_waiting_readers_along_past_a_writer_that_came_first() {
        let lock = lock();
        let mut holder = held(&lock, "holder", Exclusive);
        let writer = waits(&lock, "writer", Exclusive, |request| request);
        let reader = waits(&lock, "reader", Shared, |request| request);
        holder.downgrade();
        assert_eq!(holder.mode(), Shared);
        assert_eq!(reader.owner.holds(&lock), Some(Shared));
        assert_eq!(writer.owner.holds(&lock), None);
        // Whoever comes now stands behind the writer.
        assert!(!admits(&lock, Shared));
        drop((holder, reader.join()));
        assert!(writer.join().is_ok());
    }

    #[test]
    fn it_takes_nobody_along_past_a_more_urgent_writer() {
        let lock = lock();
        let mut holder = held(&lock, "holder", Exclusive);
        let writer = waits(&lock, "writer", Exclusive, |request| request.priority(-1));
        let reader = waits(&lock, "reader", Shared, |request| request);
        holder.downgrade();
        assert_eq!(reader.owner.holds(&lock), None);
        drop(holder);
        drop(writer.join());
        assert!(reader.join().is_ok());
    }

    #[test]
    fn downgrading_what_is_shared_already_lets_nobody_pass() {
        let lock = lock();
        let mut reader = held(&lock, "reader", Shared);
        let writer = waits(&lock, "writer", Exclusive, |request| request);
        let behind = waits(&lock, "behind", Shared, |request| request);
        (0..5).for_each(|_| reader.downgrade());
        assert_eq!(behind.owner.holds(&lock), None);
        drop(reader);
        drop(writer.join());
        assert!(behind.join().is_ok());
    }

    #[test]
    fn it_leads_to_any_mode_covered_and_to_no_other() {
        for from in Mode::ALL {
            for to in Mode::ALL {
                let lock = lock();
                let mut guard = held(&lock, "holder", from);
                assert_eq!(guard.downgrade_to(to).is_ok(), from.covers(to), "{from} to {to}");
                let expected = if from.covers(to) { to } else { from };
                assert_eq!((guard.mode(), lock.mode()), (expected, Some(expected)));
            }
        }
    }

    #[test]
    fn without_a_mode_it_never_makes_a_hold_stronger() {
        for from in Mode::ALL {
            let lock = lock();
            let mut guard = held(&lock, "holder", from);
            guard.downgrade();
            let expected = if from.covers(Shared) { Shared } else { from };
            assert_eq!(guard.mode(), expected, "from {from}");
        }
    }
}

mod owners {
    use super::*;

    #[test]
    fn asking_for_what_one_holds_is_an_error_in_every_combination_of_modes() {
        for first in Mode::ALL {
            for second in Mode::ALL {
                let lock = lock();
                let owner = Owner::new("twice");
                let guard = lock.acquire(&owner, first).now().unwrap();
                let again = [
                    lock.acquire(&owner, second).now().map(drop),
                    lock.acquire(&owner, second).wait().map(drop),
                    lock.clone().acquire(&owner.clone(), second).timeout(LONG).wait().map(drop),
                ];
                for refused in again {
                    let Err(AcquireError::AlreadyHeld { wanted, held, .. }) = refused else {
                        panic!("{second} on top of {first}: {refused:?}")
                    };
                    assert_eq!((wanted, held), (second, Some(first)));
                }
                assert_eq!((guard.mode(), lock.mode()), (first, Some(first)));
            }
        }
    }

    #[test]
    fn one_owner_on_two_threads_may_ask_once() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let waiter = waits(&lock, "two threads", Exclusive, |request| request);
        for refused in [lock.shared(&waiter.owner).now(), lock.shared(&waiter.owner).wait()] {
            let Err(AcquireError::AlreadyHeld { held, .. }) = refused else { panic!() };
            assert_eq!(held, None);
        }
        drop(holder);
        assert!(waiter.join().is_ok());
    }

    #[test]
    fn one_owner_asking_on_many_threads_at_once_never_holds_twice() {
        let (lock, owner) = (lock(), Owner::new("crowd"));
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        // Shared admits shared: only the owner keeps itself out.
                        if let Ok(_held) = lock.shared(&owner).now() {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        assert_eq!((lock.mode(), slots(&owner)), (None, 0));
    }

    #[test]
    fn two_owners_of_one_name_are_two() {
        let lock = lock();
        let [first, second] = [Owner::new("job"), Owner::new("job")];
        assert_ne!(first, second);
        let _guard = lock.shared(&first).now().unwrap();
        assert!(lock.shared(&second).now().is_ok());
        assert_eq!(first.clone(), first);
    }

    #[test]
    fn a_guard_moves_between_threads() {
        let lock = lock();
        let (send, receive) = mpsc::channel();
        let guard = held(&lock, "traveller", Exclusive);
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut guard: Guard<'static> = receive.recv().unwrap();
                guard.downgrade();
                drop(guard);
            });
            send.send(guard).unwrap();
        });
        assert_eq!(lock.mode(), None);
    }

    #[test]
    fn a_guard_made_owned_outlives_lock_and_owner() {
        let guard = {
            let (lock, owner) = (lock(), Owner::new("gone"));
            lock.exclusive(&owner).now().unwrap().into_owned()
        };
        assert!(!admits(guard.lock(), IntentShared));
        let lock = guard.lock().clone();
        drop(guard);
        assert!(admits(&lock, Exclusive));
    }

    #[test]
    fn a_guard_made_owned_holds_the_lock_once() {
        let (lock, owner) = (lock(), Owner::new("holder"));
        let guard = lock.acquire(&owner, SharedIntentExclusive).now().unwrap().into_owned();
        assert_eq!((slots(&owner), lock.mode()), (1, Some(SharedIntentExclusive)));
        drop(guard);
        assert_eq!((slots(&owner), lock.mode()), (0, None));
    }

    #[test]
    fn an_owner_holds_any_number_of_locks() {
        let owner = Owner::new("collector");
        let locks: Vec<_> = (0..1000).map(|at| SharedLock::new(format!("lock-{at}"))).collect();
        let mut guards: Vec<_> =
            locks.iter().map(|lock| lock.exclusive(&owner).now().unwrap()).collect();
        assert!(locks.iter().all(|lock| lock.is_held_by(&owner, Exclusive)));
        guards.drain(..500);
        assert!(locks[..500].iter().all(|lock| owner.holds(lock).is_none()));
        assert!(locks[500..].iter().all(|lock| lock.is_held_by(&owner, Exclusive)));
    }
}

mod abandoned {
    use super::*;

    fn told(guard: &Guard<'_>) -> Option<String> {
        guard.abandoned().map(|abandoned| abandoned.owner.to_string())
    }

    #[test]
    fn the_next_exclusive_holder_is_told_once_and_shared_holders_are_not() {
        let lock = lock();
        panic_holding(held(&lock, "hasty", Exclusive));
        assert_eq!(told(&held(&lock, "reader", Shared)), None);
        assert_eq!(told(&held(&lock, "intent", IntentExclusive)), None);
        assert_eq!(told(&held(&lock, "next", Exclusive)).as_deref(), Some("hasty"));
        assert_eq!(told(&held(&lock, "after", Exclusive)), None);
    }

    #[test]
    fn a_waiter_to_whom_it_is_handed_over_is_told() {
        let lock = lock();
        let holder = held(&lock, "hasty", Exclusive);
        let waiter = waits(&lock, "waiter", Exclusive, |request| request);
        panic_holding(holder);
        assert_eq!(told(&waiter.join().unwrap()).as_deref(), Some("hasty"));
    }

    #[test]
    fn whoever_upgrades_to_exclusive_is_told() {
        let lock = lock();
        panic_holding(held(&lock, "hasty", Exclusive));
        let mut guard = held(&lock, "reader", Shared);
        guard.upgrade().now().unwrap();
        assert_eq!(told(&guard).as_deref(), Some("hasty"));
    }

    #[test]
    fn only_the_last_of_several_is_told_of() {
        let lock = lock();
        panic_holding(held(&lock, "first", Exclusive));
        panic_holding(held(&lock, "second", Exclusive));
        assert_eq!(told(&held(&lock, "next", Exclusive)).as_deref(), Some("second"));
    }

    #[test]
    fn a_panic_in_any_other_mode_abandons_nothing() {
        for mode in [IntentShared, IntentExclusive, Shared, SharedIntentExclusive] {
            let lock = lock();
            panic_holding(held(&lock, "reader", mode));
            assert_eq!(told(&held(&lock, "next", Exclusive)), None, "{mode}");
        }
    }

    #[test]
    fn a_lock_downgraded_before_the_panic_is_not_abandoned() {
        let lock = lock();
        let mut guard = held(&lock, "careful", Exclusive);
        guard.downgrade();
        panic_holding(guard);
        assert_eq!(told(&held(&lock, "next", Exclusive)), None);
    }

    #[test]
    fn a_guard_taken_and_dropped_by_a_destructor_while_unwinding_abandons_nothing() {
        struct TidiesUp(SharedLock);
        impl Drop for TidiesUp {
            fn drop(&mut self) {
                assert!(thread::panicking());
                drop(held(&self.0, "destructor", Exclusive));
            }
        }
        let lock = lock();
        panic_holding(TidiesUp(lock.clone()));
        assert_eq!(told(&held(&lock, "next", Exclusive)), None);
    }

    #[test]
    fn a_panic_caught_while_the_guard_lives_abandons_nothing() {
        let lock = lock();
        let guard = held(&lock, "careful", Exclusive);
        assert!(catch_unwind(AssertUnwindSafe(|| panic!("caught"))).is_err());
        drop(guard);
        assert_eq!(told(&held(&lock, "next", Exclusive)), None);
    }
}
