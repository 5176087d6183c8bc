//! Deadlines and ageing of requests that no thread waits for: they keep their time by themselves, whoever looks or does not.

use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use tierlock::Mode::{Exclusive, Shared};
use tierlock::{AcquireError, Ageing, LockMonitor, LockSet, Membership, Owner, Pending, exclusive};

use super::{Task, asked, asked_on, held, is_alone, join, lock, outcome};
use crate::support::{LONG, Waiter, admits, is_queued, ms, now, on_a_slow_machine, slots, until};

mod deadlines {
    use super::*;

    /// Who was waited for and for how long.
    #[track_caller]
    fn told<G>(outcome: Result<G, AcquireError>) -> (String, Duration) {
        match outcome {
            Err(AcquireError::TimedOut { blockers, waited, .. }) => {
                let names: Vec<_> = blockers.iter().map(ToString::to_string).collect();
                (names.join(" "), waited)
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was granted"),
        }
    }

    #[test]
    fn a_request_that_nobody_looks_at_leaves_the_line_when_its_time_is_up_and_not_before() {
        let (lock, owner) = (lock(), Owner::new("hasty"));
        let _holder = held(&lock, "holder", Shared);
        let begun = now();
        let hasty = lock.exclusive(&owner).timeout(ms(20)).enqueue();
        let behind = asked(&lock, "behind", Shared);
        until(|| behind.is_decided());
        assert!(begun.elapsed() >= ms(20) && slots(&owner) == 0 && hasty.is_decided());
        let (blockers, waited) = told(hasty.wait());
        assert_eq!(blockers, "holder (shared)");
        assert!(waited >= ms(20) && waited <= begun.elapsed());
    }

    #[test]
    fn a_future_that_waits_is_refused_in_time_without_a_runtime() {
        let (lock, owner) = (lock(), Owner::new("hasty"));
        let _holder = held(&lock, "holder", Exclusive);
        let begun = now();
        let deadline = begun + ms(20);
        let request = Task::new(lock.exclusive(&owner).deadline(deadline));
        let (blockers, waited) = told(request.run());
        assert!(now() >= deadline && waited <= begun.elapsed());
        assert_eq!(blockers, "holder (exclusive)");
        assert!(slots(&owner) == 0 && !is_queued(&lock));
    }

    #[test]
    fn one_that_waits_in_front_is_named_if_no_holder_is_in_the_way() {
        let lock = lock();
        let _holder = held(&lock, "holder", Shared);
        let _writer = asked(&lock, "writer", Exclusive);
        let hasty = asked_on(&lock, "hasty", Shared, |request| request.timeout(ms(2)));
        assert_eq!(told(hasty.wait()).0, "writer (waiting exclusive)");
    }

    #[test]
    fn the_time_is_one_budget_for_all_locks_of_a_request() {
        let set = LockSet::new("set", Membership::Listed, ["a", "b"]).unwrap();
        assert!(on_a_slow_machine(|timeout| {
            let hold = |name| set.acquire(&Owner::new("holder"), exclusive(name)).now().unwrap();
            let (a, _b) = (hold("a"), hold("b"));
            let owner = Owner::new("hasty");
            let hasty = set.acquire(&owner, exclusive(["a", "b"])).timeout(timeout).enqueue();
            let begun = now();
            until(|| begun.elapsed() > timeout * 2 / 3);
            let handed_over = begun.elapsed();
            drop(a);
            let (_, waited) = told(hasty.wait());
            assert!(waited >= timeout && slots(&owner) == 0);
            assert!(set.acquire(&Owner::new("next"), exclusive("a")).now().is_ok());
            waited < handed_over + timeout
        }));
    }

    #[test]
    fn what_was_granted_in_time_is_kept_until_it_is_taken_however_late() {
        assert!(on_a_slow_machine(|timeout| {
            let lock = lock();
            let holder = held(&lock, "holder", Exclusive);
            let deadline = now() + timeout / 20;
            let hasty = asked_on(&lock, "hasty", Exclusive, |request| request.deadline(deadline));
            drop(holder);
            if now() >= deadline {
                return false;
            }
            until(|| now() > deadline + ms(5));
            assert!(hasty.is_decided() && lock.mode() == Some(Exclusive));
            assert!(outcome(hasty).is_ok() && lock.mode().is_none());
            true
        }));
    }

    #[test]
    fn less_than_a_millisecond_never_queues() {
        let (lock, owner) = (lock(), Owner::new("hasty"));
        let _holder = held(&lock, "holder", Exclusive);
        let short = Duration::from_micros(999);
        let asked: [Pending<_>; 3] = [
            lock.exclusive(&owner).timeout(short).enqueue(),
            lock.exclusive(&owner).deadline(now() + short).enqueue(),
            lock.exclusive(&owner).deadline(now() - ms(5)).enqueue(),
        ];
        for pending in asked {
            assert!(pending.is_decided() && !is_queued(&lock));
            assert_eq!(told(pending.wait()), ("holder (exclusive)".to_owned(), ms(0)));
        }
        let mut task = Task::new(lock.exclusive(&owner).timeout(short));
        assert!(task.poll().is_ready() && task.woken() == 0);
        let free = super::lock();
        assert!(free.exclusive(&owner).timeout(ms(0)).enqueue().is_decided());
    }

    #[test]
    fn each_of_many_requests_is_refused_at_its_own_time() {
        let lock = lock();
        let _holder = held(&lock, "holder", Exclusive);
        let begun = now();
        // Each comes with less time than those there already.
        let ask = |at| {
            asked_on(&lock, "one of many", Exclusive, |request| {
                request.deadline(begun + ms(60) - Duration::from_micros(100) * at)
            })
        };
        let patient = asked_on(&lock, "patient", Exclusive, |request| request.timeout(LONG));
        for (at, pending) in (0..500).zip((0..500).map(ask).collect::<Vec<_>>()) {
            let (_, waited) = told(pending.wait());
            let deadline = ms(60) - Duration::from_micros(100) * at;
            assert!(waited.is_zero() || begun.elapsed() >= deadline);
        }
        assert_eq!(patient.position(), Some(0));
    }

    #[test]
    fn a_time_beyond_all_clocks_is_for_ever_and_stops_none() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let times =
            [Duration::MAX, Duration::from_secs(u64::MAX / 4), Duration::from_secs(1 << 40)];
        let ask = |time| {
            asked_on(&lock, "patient", Exclusive, |request| {
                request.timeout(time).ageing(Ageing::every(time))
            })
        };
        let patient = times.map(ask);
        let hasty = asked_on(&lock, "hasty", Shared, |request| request.timeout(ms(2)));
        assert!(told(hasty.wait()).1 >= ms(2));
        drop(holder);
        for pending in patient {
            assert!(outcome(pending).is_ok());
        }
    }

    #[test]
    fn a_withdrawn_request_does_not_keep_its_time() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let deadline = now() + ms(5);
        let hasty = asked_on(&lock, "hasty", Exclusive, |request| request.deadline(deadline));
        let mut next = asked(&lock, "next", Exclusive);
        drop(hasty);
        let mut task = Task::new(&mut next);
        assert!(task.poll().is_pending());
        until(|| now() > deadline + ms(2));
        assert_eq!(task.woken(), 0);
        drop(holder);
        assert!(task.finish().is_ok());
    }
}

mod ageing {
    use super::*;

    #[test]
    fn a_request_that_nobody_looks_at_overtakes_more_urgent_ones_in_time() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let urgent = asked_on(&lock, "urgent", Exclusive, |request| request.priority(-3));
        let ageing = Ageing::every(ms(2));
        let begun = now();
        let old = asked_on(&lock, "old", Exclusive, |request| request.ageing(ageing));
        until(|| old.position() == Some(0));
        // After three steps it is their equal, but came later.
        assert!(begun.elapsed() >= ms(2) * 4);
        drop(holder);
        assert!(old.is_decided() && !urgent.is_decided());
    }

    #[test]
    fn it_is_granted_as_soon_as_it_is_urgent_enough_to_pass() {
        let lock = lock();
        let _reader = held(&lock, "reader", Shared);
        let writer = asked(&lock, "writer", Exclusive);
        let owner = Owner::new("old");
        let guard = Task::new(lock.shared(&owner).ageing(Ageing::every(ms(2)))).run().unwrap();
        assert!(guard.mode() == Shared && !writer.is_decided());
    }

    #[test]
    fn it_goes_no_further_than_its_floor() {
        let lock = lock();
        let _holder = held(&lock, "holder", Exclusive);
        let [urgent, equal] = [-3, -2].map(|priority| {
            asked_on(&lock, "other", Exclusive, |request| request.priority(priority))
        });
        let ageing = Ageing::every(ms(1)).floor(-2);
        let old = asked_on(&lock, "old", Exclusive, |request| request.ageing(ageing));
        let begun = now();
        until(|| begun.elapsed() > ms(20));
        assert_eq!((urgent.position(), equal.position()), (Some(0), Some(1)));
        assert_eq!(old.position(), Some(2));
    }

    #[test]
    fn it_takes_the_same_time_when_a_thread_waits_for_it() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let monitor = LockMonitor::new();
        monitor.register(&lock);
        let begun = now();
        let ageing = Ageing::every(ms(4)).floor(-5);
        let old = asked_on(&lock, "old", Exclusive, |request| request.ageing(ageing));
        let waiting = thread::spawn(move || old.wait().is_ok());
        until(|| monitor.snapshot().rows()[0].pending[0].priority == -5);
        assert!(begun.elapsed() >= ms(4) * 5);
        drop(holder);
        assert!(join(waiting));
    }

    #[test]
    fn it_has_its_deadline_too() {
        let lock = lock();
        let _holder = held(&lock, "holder", Exclusive);
        let begun = now();
        let old = asked_on(&lock, "old", Exclusive, |request| {
            request.ageing(Ageing::every(ms(3))).timeout(ms(20))
        });
        until(|| old.is_decided());
        assert!(begun.elapsed() >= ms(20) && old.wait().unwrap_err().is_timeout());
    }
}

/// In processes of their own, where nobody else asks for time.
mod the_thread_that_keeps_time {
    use super::*;

    /// The names of the threads of this process, if the system says.
    fn threads() -> Option<Vec<String>> {
        let tasks = fs::read_dir("/proc/self/task").ok()?;
        let names = tasks.flatten().flat_map(|task| fs::read_to_string(task.path().join("comm")));
        Some(names.map(|name| name.trim().to_owned()).collect())
    }

    fn timers() -> Option<usize> {
        Some(threads()?.iter().filter(|name| *name == "tierlock-timer").count())
    }

    #[test]
    fn is_not_there_as_long_as_nobody_waits_with_a_deadline() {
        if !is_alone(is_not_there_as_long_as_nobody_waits_with_a_deadline, "", &[]) {
            return;
        }
        let Some(before) = threads() else {
            return eprintln!("skipped: there is no /proc to see threads in");
        };
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let mut awaited = asked(&lock, "awaited", Exclusive);
        let enqueued = asked(&lock, "enqueued", Exclusive);
        let thread = Waiter::begin("thread", {
            let lock = lock.clone();
            // A thread minds its own time.
            move |owner| lock.exclusive(owner).timeout(LONG).wait().is_ok()
        });
        let mut task = Task::new(&mut awaited);
        assert!(task.poll().is_pending());
        // Nor does it take a timer to have a free lock, or to be refused at once.
        let free = super::lock();
        let had = asked_on(&free, "had", Exclusive, |request| request.timeout(LONG));
        let refused = asked_on(&free, "refused", Exclusive, |request| request.timeout(ms(0)));
        assert!(had.is_decided() && refused.is_decided());
        assert_eq!(threads().map(|threads| threads.len()), Some(before.len() + 1));
        drop(holder);
        assert!(task.finish().is_ok() && outcome(enqueued).is_ok() && thread.join());
        assert_eq!(timers(), Some(0));
    }

    #[test]
    fn is_one_for_all() {
        if !is_alone(is_one_for_all, "", &[]) {
            return;
        }
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let ask = |at| {
            asked_on(&lock, "one of many", Exclusive, |request| match at % 2 {
                0 => request.timeout(LONG),
                _ => request.ageing(Ageing::every(LONG)),
            })
        };
        let all: Vec<_> = (0..1000).map(ask).collect();
        if timers().is_none() {
            eprintln!("skipped: there is no /proc to see threads in");
        } else {
            // It names itself, when it comes to that.
            until(|| timers() == Some(1));
        }
        drop(holder);
        assert!(all.into_iter().all(|pending| outcome(pending).is_ok()));
        assert_eq!(timers().unwrap_or(1), 1);
    }

    /// The kilobytes that this process occupies, if the system says.
    fn occupied_kb() -> Option<usize> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    #[test]
    fn remembers_nothing_of_requests_that_are_over() {
        if !is_alone(remembers_nothing_of_requests_that_are_over, "", &[]) {
            return;
        }
        let (lock, owner) = (lock(), Owner::new("asks often"));
        let _holder = held(&lock, "holder", Exclusive);
        let ask = |times| {
            (0..times).for_each(|_| drop(lock.exclusive(&owner).timeout(LONG).enqueue()));
            occupied_kb()
        };
        let (Some(before), Some(after)) = (ask(1000), ask(40_000)) else {
            return eprintln!("skipped: there is no /proc to see memory in");
        };
        // Sixty bytes kept of each would be more.
        assert!(after < before + 2000, "{before} kB became {after} kB");
    }

    #[test]
    fn if_it_cannot_be_started_is_an_error_of_the_requests_that_need_it() {
        // No machine has memory for stacks of this size.
        let huge = [("RUST_MIN_STACK", "70368744177664")];
        if !is_alone(if_it_cannot_be_started_is_an_error_of_the_requests_that_need_it, "", &huge) {
            return;
        }
        let (lock, owner) = (lock(), Owner::new("hasty"));
        let reader = held(&lock, "reader", Shared);
        let hasty = lock.exclusive(&owner).timeout(LONG).enqueue();
        assert!(hasty.is_decided() && hasty.receiver().try_recv().is_err());
        let refused = outcome(hasty).unwrap_err();
        let AcquireError::NoTimer { reason, .. } = &refused else { panic!("{refused}") };
        assert_ne!(*reason, ErrorKind::Other);
        let awaited = outcome(lock.exclusive(&owner).timeout(LONG));
        assert!(matches!(awaited, Err(AcquireError::NoTimer { .. })));
        assert!(slots(&owner) == 0 && !is_queued(&lock) && admits(&lock, Shared));
        let mut guard = held(&lock, "guard", Shared);
        assert!(outcome(guard.upgrade().timeout(LONG)).is_err() && guard.mode() == Shared);
        drop(guard);
        // What has no deadline needs none.
        let patient = lock.exclusive(&owner).enqueue();
        drop(reader);
        assert!(outcome(patient).is_ok());
    }
}
