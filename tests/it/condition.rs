//! Pipe-style conditions.
//!
//! A waiter counts from before it releases the mutex, so whoever sees it counted and then gets the mutex knows
//! that it sleeps.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tierlock::condition::{
    ConditionError, Mutex, MutexGuard, PipeCondition, SingleNotifyCondition, Wake,
};

const SHORT: Duration = Duration::from_millis(30);

#[expect(clippy::disallowed_methods, reason = "measured from outside, by the clock it promises")]
fn now() -> Instant {
    Instant::now()
}

fn until(holds: impl Fn() -> bool) {
    while !holds() {
        thread::yield_now();
    }
}

mod single_notify {
    use super::*;

    #[test]
    fn one_notification_wakes_every_waiter() {
        let (mutex, condition) = (Mutex::new(0), SingleNotifyCondition::new());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut woken = mutex.lock();
                    condition.wait(&mut woken).unwrap();
                    *woken += 1;
                });
            }
            until(|| condition.waiting() == 8);
            assert_eq!(condition.notify_all(&mutex.lock()), Ok(8));
        });
        assert_eq!(mutex.into_inner(), 8);
    }

    #[test]
    fn it_is_used_up_by_its_notification_even_if_nobody_waited() {
        let (mutex, condition) = (Mutex::new(()), SingleNotifyCondition::new());
        let mut guard = mutex.lock();
        let refused = ConditionError::AlreadyNotified;

        assert_eq!(condition.notify_all(&guard), Ok(0));
        assert_eq!(condition.notify_all(&guard), Err(refused));
        assert_eq!(condition.wait(&mut guard), Err(refused));
        assert_eq!(condition.wait_for(&mut guard, SHORT), Err(refused));
        assert_eq!(condition.wait_until(&mut guard, now() + SHORT), Err(refused));
    }

    #[test]
    fn timing_out_does_not_use_it_up() {
        let (mutex, condition) = (Mutex::new(()), SingleNotifyCondition::new());
        for _ in 0..3 {
            let wake = condition.wait_for(&mut mutex.lock(), Duration::ZERO);
            assert_eq!(wake, Ok(Wake::TimedOut));
            assert_eq!(condition.waiting(), 0);
        }
        thread::scope(|scope| {
            let waiter = scope.spawn(|| condition.wait_for(&mut mutex.lock(), Duration::MAX));
            until(|| condition.waiting() == 1);
            assert_eq!(condition.notify_all(&mutex.lock()), Ok(1));
            assert_eq!(waiter.join().unwrap(), Ok(Wake::Notified));
        });
    }

    #[test]
    fn one_waiter_timing_out_leaves_the_others_waiting() {
        let (mutex, condition) = (Mutex::new(()), SingleNotifyCondition::new());
        thread::scope(|scope| {
            let patient = scope.spawn(|| condition.wait(&mut mutex.lock()));
            until(|| condition.waiting() == 1);
            let wake = condition.wait_for(&mut mutex.lock(), Duration::ZERO);
            assert_eq!((wake, condition.waiting()), (Ok(Wake::TimedOut), 1));
            assert_eq!(condition.notify_all(&mutex.lock()), Ok(1));
            assert_eq!(patient.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn a_wait_ends_neither_before_its_timeout_nor_before_its_deadline() {
        let (mutex, condition) = (Mutex::new(()), SingleNotifyCondition::new());
        let mut guard = mutex.lock();

        let begun = now();
        assert_eq!(condition.wait_for(&mut guard, SHORT), Ok(Wake::TimedOut));
        assert!(begun.elapsed() >= SHORT);

        let deadline = now() + SHORT;
        assert_eq!(condition.wait_until(&mut guard, deadline), Ok(Wake::TimedOut));
        assert!(now() >= deadline);
    }

    #[test]
    fn spurious_wake_ups_neither_end_a_wait_early_nor_begin_its_timeout_anew() {
        let (mutex, condition) = (Mutex::new(()), SingleNotifyCondition::new());
        let begun = now();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let wake = condition.wait_for(&mut mutex.lock(), SHORT);
                (wake, begun.elapsed())
            });
            // If each of these began the timeout anew, there would be no end to it.
            until(|| {
                waiter.thread().unpark();
                waiter.is_finished()
            });
            let (wake, waited) = waiter.join().unwrap();
            assert_eq!(wake, Ok(Wake::TimedOut));
            assert!(waited >= SHORT, "{waited:?}");
        });
    }

    #[test]
    fn the_guard_of_another_mutex_is_refused_while_somebody_waits() {
        let (mutex, other) = (Mutex::new(()), Mutex::new(()));
        let condition = SingleNotifyCondition::new();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| condition.wait(&mut mutex.lock()));
            until(|| condition.waiting() == 1);
            let refused = ConditionError::WrongMutex;
            assert_eq!(condition.notify_all(&other.lock()), Err(refused));
            assert_eq!(condition.wait(&mut other.lock()), Err(refused));
            assert_eq!(condition.waiting(), 1);

            assert_eq!(condition.notify_all(&mutex.lock()), Ok(1));
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
    }

    #[test]
    fn the_mutex_may_change_while_nobody_waits() {
        let condition = SingleNotifyCondition::new();
        for mutex in [Mutex::new(()), Mutex::new(())] {
            let wake = condition.wait_for(&mut mutex.lock(), Duration::ZERO);
            assert_eq!(wake, Ok(Wake::TimedOut));
        }
    }

    #[test]
    fn the_mutex_may_guard_something_unsized() {
        let mutex: &Mutex<[u8]> = &Mutex::new([0; 3]);
        let condition = SingleNotifyCondition::new();
        assert_eq!(condition.wait_for(&mut mutex.lock(), Duration::ZERO), Ok(Wake::TimedOut));
        assert_eq!(condition.notify_all(&mutex.lock()), Ok(0));
    }
}

mod pipe {
    use super::*;

    #[test]
    fn a_notification_wakes_exactly_those_who_wait_when_it_comes() {
        let (mutex, condition) = (Mutex::new(()), PipeCondition::new());
        thread::scope(|scope| {
            let early = ["a", "b"].map(|name| {
                let (mutex, condition) = (&mutex, &condition);
                scope.spawn(move || condition.wait(&mut mutex.lock(), name))
            });
            until(|| condition.waiting() == 2);

            let mut guard = mutex.lock();
            assert_eq!(condition.notify_all(&guard), Ok(2));
            assert_eq!(condition.notify_all(&guard), Ok(0), "they are awake already");
            // The mutex has not been free since the notification, and this wait is of the next generation.
            assert_eq!(condition.wait_for(&mut guard, "c", SHORT), Ok(Wake::TimedOut));
            drop(guard);
            for waiter in early {
                assert_eq!(waiter.join().unwrap(), Ok(()));
            }
        });
    }

    #[test]
    fn a_notification_without_waiters_is_forgotten() {
        let (mutex, condition) = (Mutex::new(()), PipeCondition::new());
        let mut guard = mutex.lock();
        assert_eq!(condition.notify_all(&guard), Ok(0));
        assert_eq!(condition.wait_for(&mut guard, "late", Duration::ZERO), Ok(Wake::TimedOut));
        assert_eq!(condition.notify_all(&guard), Ok(0), "nor does one who left count");
    }

    #[test]
    fn it_serves_one_generation_after_the_other() {
        let (turn, condition) = (Mutex::new(0), PipeCondition::new());
        thread::scope(|scope| {
            for own in 0..2 {
                let (turn, condition) = (&turn, &condition);
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let mut turn = turn.lock();
                        while *turn % 2 != own {
                            condition.wait(&mut turn, own).unwrap();
                        }
                        *turn += 1;
                        condition.notify_all(&turn).unwrap();
                    }
                });
            }
        });
        assert_eq!(turn.into_inner(), 2000);
    }

    #[test]
    fn waiters_are_named_in_the_order_they_came_until_they_have_the_mutex_back() {
        let (mutex, condition) = (Mutex::new(()), PipeCondition::new());
        thread::scope(|scope| {
            for (place, name) in ["z", "a", "m"].into_iter().enumerate() {
                let (mutex, condition) = (&mutex, &condition);
                scope.spawn(move || condition.wait(&mut mutex.lock(), name));
                until(|| condition.waiting() == place + 1);
            }
            let guard = mutex.lock();
            assert_eq!(condition.waiters(), ["z", "a", "m"]);
            condition.notify_all(&guard).unwrap();
            assert_eq!(condition.waiters(), ["z", "a", "m"], "woken, but not back");
        });
        assert_eq!(condition.waiting(), 0);
    }

    #[test]
    fn a_waiter_that_is_counted_by_a_notification_reports_it_even_past_its_deadline() {
        const WAITERS: usize = 4;
        const WAITS: usize = 2000;
        let (mutex, condition) = (Mutex::new(()), PipeCondition::new());
        let (start, left) = (Barrier::new(WAITERS + 1), AtomicUsize::new(WAITERS));
        let wait_often = |name: usize| {
            start.wait();
            let notified = (0..WAITS)
                // From too short to sleep at all to long enough to be caught asleep.
                .map(|round| Duration::from_micros((round % 64) as u64))
                .map(|timeout| condition.wait_for(&mut mutex.lock(), name, timeout).unwrap())
                .filter(|wake| *wake == Wake::Notified)
                .count();
            left.fetch_sub(1, Ordering::SeqCst);
            notified
        };
        let (counted, notified) = thread::scope(|scope| {
            let waiters: Vec<_> =
                (0..WAITERS).map(|name| scope.spawn(move || wait_often(name))).collect();
            start.wait();
            let mut counted = 0;
            until_left(&left, || counted += condition.notify_all(&mutex.lock()).unwrap());
            (counted, waiters.into_iter().map(|waiter| waiter.join().unwrap()).sum::<usize>())
        });
        assert_eq!(counted, notified);
    }

    fn until_left(left: &AtomicUsize, mut step: impl FnMut()) {
        while left.load(Ordering::SeqCst) > 0 {
            step();
            thread::yield_now();
        }
    }

    #[test]
    fn fruitless_notifications_do_not_prolong_a_wait_with_a_deadline() {
        let (mutex, condition) = (Mutex::new(()), PipeCondition::new());
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let deadline = now() + SHORT;
                let mut guard = mutex.lock();
                while condition.wait_until(&mut guard, "a", deadline).unwrap() == Wake::Notified {}
                now() >= deadline
            });
            until(|| {
                condition.notify_all(&mutex.lock()).unwrap();
                waiter.is_finished()
            });
            assert!(waiter.join().unwrap());
        });
    }

    #[test]
    fn the_guard_of_another_mutex_is_refused_while_somebody_waits() {
        let (mutex, other) = (Mutex::new(()), Mutex::new(()));
        let condition = PipeCondition::new();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| condition.wait(&mut mutex.lock(), "a"));
            until(|| condition.waiting() == 1);
            let refused = ConditionError::WrongMutex;
            assert_eq!(condition.notify_all(&other.lock()), Err(refused));
            assert_eq!(condition.wait(&mut other.lock(), "b"), Err(refused));
            assert_eq!(condition.waiters(), ["a"]);

            assert_eq!(condition.notify_all(&mutex.lock()), Ok(1));
            assert_eq!(waiter.join().unwrap(), Ok(()));
        });
    }
}

#[test]
fn conditions_are_shared_between_threads_and_stand_in_statics() {
    static SINGLE: SingleNotifyCondition = SingleNotifyCondition::new();
    static PIPE: PipeCondition<String> = PipeCondition::new();
    fn is_send_and_sync<T: Send + Sync>(_: &T) {}
    is_send_and_sync(&SINGLE);
    is_send_and_sync(&PIPE);
}

#[test]
fn the_mutex_is_free_during_a_wait_and_held_after_it() {
    let (mutex, condition) = (Mutex::new(1), PipeCondition::new());
    thread::scope(|scope| {
        let mut guard: MutexGuard<'_, i32> = mutex.lock();
        scope.spawn(|| {
            let mut guard = mutex.lock();
            *guard = 2;
            condition.notify_all(&guard)
        });
        condition.wait(&mut guard, "a").unwrap();
        assert_eq!((*guard, mutex.is_locked()), (2, true));
    });
}
