//! Whose turn it is: places in line, priorities that change, requests withdrawn, and any number of them.

use std::fs;

use tierlock::Mode::{Exclusive, Shared};
use tierlock::{
    ALL, AcquireError, AcquireLock, Guard, LockSet, Membership, Owner, Pending, SharedLock,
    exclusive, shared,
};

use super::{Task, asked, asked_on, held, is_alone, lock, outcome};
use crate::support::{admits, is_queued, ms, slots};

mod positions {
    use super::*;

    #[test]
    fn a_place_counts_the_requests_in_front_each_of_a_group_that_goes_together_too() {
        let lock = lock();
        let _holder = held(&lock, "holder", Exclusive);
        let writer = asked(&lock, "writer", Exclusive);
        let readers = [(); 3].map(|()| asked(&lock, "reader", Shared));
        let last = asked(&lock, "last", Exclusive);
        let late_reader = asked(&lock, "late reader", Shared);
        assert_eq!(writer.position(), Some(0));
        // Those that go together stand at one place, and whoever joins them stands there too.
        for reader in readers.iter().chain([&late_reader]) {
            assert_eq!(reader.position(), Some(1));
        }
        assert_eq!(last.position(), Some(5));
        drop(readers);
        assert_eq!((late_reader.position(), last.position()), (Some(1), Some(2)));
        drop((writer, late_reader));
        assert_eq!(last.position(), Some(0));
    }

    #[test]
    fn a_request_that_is_decided_stands_nowhere() {
        let lock = lock();
        let granted = asked(&lock, "granted", Exclusive);
        let refused = asked_on(&lock, "refused", Shared, |request| request.timeout(ms(0)));
        assert!(granted.is_decided() && refused.is_decided());
        assert_eq!((granted.position(), refused.position()), (None, None));
        let waits = asked(&lock, "waits", Exclusive);
        assert_eq!(waits.position(), Some(0));
        drop(granted);
        assert_eq!(waits.position(), None);
    }

    #[test]
    fn an_upgrade_stands_before_everybody() {
        let lock = lock();
        let [mut first, _second] = [held(&lock, "first", Shared), held(&lock, "second", Shared)];
        let urgent = asked_on(&lock, "urgent", Exclusive, |request| request.priority(-20));
        let upgrade = first.upgrade().enqueue();
        assert_eq!((upgrade.position(), urgent.position()), (Some(0), Some(1)));
    }

    #[test]
    fn of_a_request_for_several_locks_it_is_the_place_at_the_lock_it_waits_for() {
        let set = LockSet::new("set", Membership::Listed, ["a", "b"]).unwrap();
        let hold = |name| set.acquire(&Owner::new("holder"), exclusive(name)).now().unwrap();
        let (a, b) = (hold("a"), hold("b"));
        let ask = |request| set.acquire(&Owner::new("asks"), request).enqueue();
        let (before, both) = (ask(exclusive("b")), ask(exclusive(["a", "b"])));
        assert_eq!(both.position(), Some(0));
        drop(a);
        assert_eq!((before.position(), both.position()), (Some(0), Some(1)));
        drop(b);
        assert_eq!((before.position(), both.position()), (None, Some(0)));
    }
}

mod priorities {
    use super::*;

    #[test]
    fn a_request_made_more_urgent_goes_first_and_back_again_where_it_came() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let requests = ["a", "b", "c"].map(|name| asked(&lock, name, Exclusive));
        let [a, b, c] = &requests;
        let places = || [a, b, c].map(|request| request.position().unwrap());
        c.set_priority(-1);
        assert_eq!(places(), [1, 2, 0]);
        a.set_priority(1);
        assert_eq!(places(), [2, 1, 0]);
        // Among equals it stands where its arrival puts it.
        a.set_priority(-1);
        assert_eq!(places(), [0, 2, 1]);
        [a, c].into_iter().for_each(|request| request.set_priority(0));
        assert_eq!(places(), [0, 1, 2]);
        b.set_priority(i32::MIN);
        drop(holder);
        assert!(b.is_decided() && !a.is_decided() && !c.is_decided());
    }

    #[test]
    fn a_request_made_more_urgent_is_granted_at_once_if_only_others_that_wait_stood_in_its_way() {
        let lock = lock();
        let _reader = held(&lock, "reader", Shared);
        let writer = asked(&lock, "writer", Exclusive);
        let mut pending = asked(&lock, "urgent", Shared);
        let mut task = Task::new(&mut pending);
        assert!(task.poll().is_pending());
        task.future.set_priority(-1);
        assert_eq!(task.woken(), 1);
        assert!(task.finish().is_ok() && !writer.is_decided());
    }

    #[test]
    fn a_writer_made_less_urgent_lets_those_behind_it_pass() {
        let lock = lock();
        let reader = held(&lock, "reader", Shared);
        let writer = asked(&lock, "writer", Exclusive);
        let behind = [(); 3].map(|()| asked(&lock, "behind", Shared));
        writer.set_priority(1);
        assert!(behind.iter().all(Pending::is_decided) && !writer.is_decided());
        drop((reader, behind));
        assert!(outcome(writer).is_ok());
    }

    #[test]
    fn a_priority_holds_for_the_locks_that_follow() {
        let set = LockSet::new("set", Membership::Listed, ["a", "b"]).unwrap();
        let hold = |name| set.acquire(&Owner::new("holder"), exclusive(name)).now().unwrap();
        let (a, b) = (hold("a"), hold("b"));
        let ask = |request| set.acquire(&Owner::new("asks"), request).enqueue();
        let (first, both) = (ask(exclusive("b")), ask(exclusive(["a", "b"])));
        both.set_priority(-1);
        drop(a);
        assert_eq!((both.position(), first.position()), (Some(0), Some(1)));
        drop(b);
        assert!(both.is_decided() && !first.is_decided());
    }

    #[test]
    fn too_late_it_changes_nothing() {
        let lock = lock();
        let granted = asked(&lock, "granted", Exclusive);
        granted.set_priority(-1);
        let deleted = asked(&lock, "deleted", Exclusive);
        outcome(granted).unwrap().delete().unwrap();
        deleted.set_priority(-1);
        assert!(matches!(outcome(deleted), Err(AcquireError::Deleted { .. })));
    }
}

mod cancellations {
    use super::*;

    #[test]
    fn a_request_that_waits_is_withdrawn_and_those_behind_it_go() {
        let lock = lock();
        let reader = held(&lock, "reader", Shared);
        let owner = Owner::new("writer");
        let writer = lock.exclusive(&owner).enqueue();
        let behind = asked(&lock, "behind", Shared);
        assert!(writer.cancel().is_none());
        assert!(behind.is_decided() && slots(&owner) == 0);
        drop((reader, behind));
        assert!(admits(&lock, Exclusive) && !is_queued(&lock));
    }

    #[test]
    fn one_that_was_granted_gives_what_was_granted() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "pending", Exclusive);
        drop(holder);
        let guard = pending.cancel().expect("too late").unwrap();
        assert_eq!(lock.mode(), Some(Exclusive));
        drop(guard);
        assert_eq!(lock.mode(), None);
    }

    #[test]
    fn one_that_was_refused_says_why() {
        let lock = lock();
        let holder = held(&lock, "holder", Exclusive);
        let pending = asked(&lock, "pending", Exclusive);
        holder.delete().unwrap();
        assert!(matches!(pending.cancel(), Some(Err(AcquireError::Deleted { .. }))));
    }

    #[test]
    fn one_that_holds_some_of_its_locks_gives_them_back() {
        let set = LockSet::new("set", Membership::Listed, ["a", "b"]).unwrap();
        let _holder = set.acquire(&Owner::new("holder"), exclusive("b")).now().unwrap();
        let owner = Owner::new("asks");
        let pending = set.acquire(&owner, exclusive(["a", "b"])).enqueue();
        let next = set.acquire(&Owner::new("next"), shared("a")).enqueue();
        assert!(slots(&owner) == 3 && !next.is_decided());
        assert!(pending.cancel().is_none());
        assert!(slots(&owner) == 0 && next.is_decided());
    }

    #[test]
    fn whoever_waited_for_all_of_a_set_no_longer_keeps_others_from_its_names() {
        let set = LockSet::new("set", Membership::Listed, ["a", "b"]).unwrap();
        let _holder = set.acquire(&Owner::new("holder"), exclusive("a")).now().unwrap();
        let all = set.acquire(&Owner::new("all"), exclusive(ALL)).enqueue();
        let next = set.acquire(&Owner::new("next"), exclusive("b")).enqueue();
        assert!(!next.is_decided() && all.cancel().is_none() && next.is_decided());
    }
}

/// The threads of this process, if the system says.
fn threads() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}

/// One of many requests, and whether it is still there.
struct One {
    priority: i32,
    request: Option<Pending<AcquireLock<'static>>>,
}

#[test]
fn ten_thousand_requests_wait_without_a_thread_and_are_granted_in_order() {
    // Other tests begin and end threads.
    if !is_alone(ten_thousand_requests_wait_without_a_thread_and_are_granted_in_order, "", &[]) {
        return;
    }
    const COUNT: usize = 10_000;
    let lock = lock();
    let mut holder = held(&lock, "holder", Exclusive);
    let before = threads();
    let ask = |at| {
        let priority = (at % 3) as i32;
        let request =
            asked_on(&lock, "one of many", Exclusive, |request| request.priority(priority));
        One { priority, request: Some(request) }
    };
    let mut all: Vec<One> = (0..COUNT).map(ask).collect();
    assert_eq!(threads(), before);
    change_some(&mut all);
    for at in in_order(&all) {
        assert!(!all[at].request.as_ref().unwrap().is_decided());
        drop(holder);
        holder = take(&mut all[at], &lock);
    }
    drop(holder);
    assert!(lock.mode().is_none() && !is_queued(&lock));
    assert_eq!(threads(), before);
}

/// Withdraws every seventh and makes every fifth less or more urgent.
fn change_some(all: &mut [One]) {
    for (at, one) in all.iter_mut().enumerate() {
        if at % 7 == 0 {
            assert!(one.request.take().expect("not yet withdrawn").cancel().is_none());
        } else if at % 5 == 0 {
            one.priority = (at % 11) as i32 - 5;
            one.request.as_ref().expect("not withdrawn").set_priority(one.priority);
        }
    }
}

/// By priority, then by arrival.
fn in_order(all: &[One]) -> Vec<usize> {
    let mut order: Vec<_> = (0..all.len()).filter(|at| all[*at].request.is_some()).collect();
    order.sort_by_key(|at| all[*at].priority);
    order
}

/// Takes the lock, which was handed over.
#[track_caller]
fn take(one: &mut One, lock: &SharedLock) -> Guard<'static> {
    let request = one.request.take().expect("granted once");
    let guard = outcome(request).expect("nobody deletes it");
    assert_eq!(lock.mode(), Some(Exclusive));
    guard
}
