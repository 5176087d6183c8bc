//! Wakers run the code of whoever waits on the thread of whoever releases: one that panics, waits or comes back in harms nobody
//! else.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;
use std::thread;

use tierlock::Mode::{Exclusive, Shared};
use tierlock::{ALL, LockSet, Membership, Owner, Pending, SharedLock, shared};

use super::{Bell, Task, asked, asked_on, held, is_alone, lock, outcome, poll_with};
use crate::support::{LONG, is_queued, ms, until};

/// A waker that panics.
pub(super) struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("as a waker");
    }
}

struct BombWhenDropped;

impl Wake for BombWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for BombWhenDropped {
    fn drop(&mut self) {
        assert!(thread::panicking(), "as a waker that is dropped");
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// Does something of the caller's when it is woken.
struct Acts(Mutex<Option<Work>>);

impl Acts {
    fn new(work: impl FnOnce() + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(Box::new(work)))))
    }
}

impl Wake for Acts {
    fn wake(self: Arc<Self>) {
        let work = self.0.lock().unwrap().take().expect("woken once");
        work();
    }
}

#[test]
fn one_that_panics_harms_neither_who_releases_nor_who_waits_beside_it_or_behind_it() {
    let lock = lock();
    let holder = held(&lock, "holder", Exclusive);
    let mut readers = [(); 3].map(|()| asked(&lock, "reader", Shared));
    let receiver = readers[2].receiver().clone();
    let behind = asked(&lock, "behind", Exclusive);
    let [first, second, third] = &mut readers;
    let bell = Arc::new(Bell::default());
    assert!(poll_with(first, &Arc::new(Bomb)).is_pending());
    assert!(poll_with(second, &bell).is_pending());
    assert!(poll_with(third, &Arc::new(Bomb)).is_pending());
    drop(holder);
    assert_eq!(bell.rung(), 1);
    assert!(receiver.recv_timeout(LONG).unwrap_err().is_disconnected());
    for reader in readers {
        assert!(!behind.is_decided() && outcome(reader).is_ok());
    }
    assert!(outcome(behind).is_ok());
}

#[test]
fn one_that_panics_when_the_time_is_up_does_not_stop_the_clock() {
    let lock = lock();
    let _holder = held(&lock, "holder", Exclusive);
    let ask = || asked_on(&lock, "hasty", Exclusive, |request| request.timeout(ms(10)));
    let (mut first, second) = (ask(), ask());
    if poll_with(&mut first, &Arc::new(Bomb)).is_pending() {
        until(|| first.is_decided());
        assert!(first.wait().unwrap_err().is_timeout());
    }
    assert!(second.wait().unwrap_err().is_timeout());
    assert!(ask().wait().unwrap_err().is_timeout());
}

/// Who gives up drops it, and lets others go at the same time.
#[test]
fn one_that_panics_when_it_is_dropped_harms_nobody_behind_it() {
    let lock = lock();
    let _reader = held(&lock, "reader", Shared);
    let mut writer = asked(&lock, "writer", Exclusive);
    let mut behind = asked(&lock, "behind", Shared);
    let mut task = Task::new(&mut behind);
    assert!(task.poll().is_pending());
    assert!(poll_with(&mut writer, &Arc::new(BombWhenDropped)).is_pending());
    drop(writer);
    assert_eq!(task.woken(), 1);
    assert!(task.finish().is_ok() && !is_queued(&lock));
}

#[test]
fn one_that_panics_when_it_is_dropped_does_not_keep_an_upgrade_from_being_undone() {
    let set = LockSet::new("set", Membership::Listed, ["a", "b"]).unwrap();
    let hold = |names: &[&str]| set.acquire(&Owner::new("holder"), shared(names)).now();
    let (mut guard, _other) = (hold(&["a", "b"]).unwrap(), hold(&["b"]).unwrap());
    let mut upgrade = guard.upgrade(ALL).enqueue();
    assert!(poll_with(&mut upgrade, &Arc::new(BombWhenDropped)).is_pending());
    drop(upgrade);
    assert_eq!(["a", "b"].map(|name| guard.holds(name)), [Some(Shared); 2]);
    assert!(hold(&["a", "b"]).is_ok());
}

/// One that polls its task there and then, as the simplest of executors do.
#[test]
fn one_may_poll_and_go_on_to_other_locks_and_requests() {
    let [lock, other] = [lock(), SharedLock::new("other")];
    let holder = held(&lock, "holder", Exclusive);
    let pending = Arc::new(Mutex::new(Some(asked(&lock, "pending", Exclusive))));
    let next = asked(&lock, "next", Exclusive);
    let done = Arc::new(AtomicBool::new(false));
    let acts = Acts::new({
        let (pending, other, done) = (Arc::clone(&pending), other.clone(), Arc::clone(&done));
        move || {
            let pending = pending.lock().unwrap().take().expect("left there");
            let guard = outcome(pending).unwrap();
            let more = held(&other, "pending", Exclusive);
            let waits = asked(&other, "waits", Exclusive);
            drop((guard, more));
            assert!(outcome(waits).is_ok());
            done.store(true, Ordering::SeqCst);
        }
    });
    assert!(poll_with(pending.lock().unwrap().as_mut().unwrap(), &acts).is_pending());
    drop(holder);
    assert!(done.load(Ordering::SeqCst));
    assert!(outcome(next).is_ok() && other.mode().is_none());
}

#[test]
fn one_finds_everybody_told_who_was_granted_with_it() {
    let lock = lock();
    let holder = held(&lock, "holder", Exclusive);
    let mut first = asked(&lock, "first", Shared);
    let others = [(); 3].map(|()| asked(&lock, "other", Shared));
    let all_decided = Arc::new(AtomicBool::new(false));
    let acts = Acts::new({
        let all_decided = Arc::clone(&all_decided);
        move || all_decided.store(others.iter().all(Pending::is_decided), Ordering::SeqCst)
    });
    assert!(poll_with(&mut first, &acts).is_pending());
    drop(holder);
    assert!(all_decided.load(Ordering::SeqCst));
}

/// Each hands the lock over to the next one in the middle of being woken.
#[test]
fn a_hundred_may_come_back_in_one_within_the_other() {
    const COUNT: usize = 100;
    let lock = lock();
    let holder = held(&lock, "holder", Exclusive);
    let served = Arc::new(AtomicUsize::new(0));
    for at in 0..COUNT {
        let pending = Arc::new(Mutex::new(Some(asked(&lock, "pending", Exclusive))));
        let acts = Acts::new({
            let (pending, served) = (Arc::clone(&pending), Arc::clone(&served));
            move || {
                let pending = pending.lock().unwrap().take().expect("left there");
                let guard = outcome(pending).unwrap();
                assert_eq!(served.fetch_add(1, Ordering::SeqCst), at);
                drop(guard);
            }
        });
        assert!(poll_with(pending.lock().unwrap().as_mut().unwrap(), &acts).is_pending());
    }
    drop(holder);
    assert_eq!((served.load(Ordering::SeqCst), lock.mode()), (COUNT, None));
}

#[test]
fn one_may_withdraw_the_request_that_it_is_woken_for_and_others() {
    let lock = lock();
    let holder = held(&lock, "holder", Exclusive);
    let pending = Arc::new(Mutex::new(Some(asked(&lock, "pending", Exclusive))));
    let (other, next) = (asked(&lock, "other", Exclusive), asked(&lock, "next", Exclusive));
    let acts = Acts::new({
        let pending = Arc::clone(&pending);
        move || drop((pending.lock().unwrap().take(), other))
    });
    assert!(poll_with(pending.lock().unwrap().as_mut().unwrap(), &acts).is_pending());
    drop(holder);
    assert!(outcome(next).is_ok() && !is_queued(&lock));
}

#[test]
fn one_that_holds_another_lock_gives_it_back_when_its_request_is_dropped() {
    let lock = lock();
    let holder = held(&lock, "holder", Shared);
    let first = held(&lock, "first", Shared);
    let (mut writer, next) = (asked(&lock, "writer", Exclusive), asked(&lock, "next", Exclusive));
    // Nothing else keeps this hold alive.
    let acts = Acts::new(move || drop(first));
    assert!(poll_with(&mut writer, &acts).is_pending());
    drop((acts, holder));
    assert!(!next.is_decided());
    drop(writer);
    assert!(outcome(next).is_ok());
}

/// It does so on the thread that keeps the time of everybody.
#[test]
fn one_that_waits_with_a_deadline_when_the_time_of_another_is_up_is_refused_in_time() {
    if !is_alone(
        one_that_waits_with_a_deadline_when_the_time_of_another_is_up_is_refused_in_time,
        "",
        &[],
    ) {
        return;
    }
    let lock = lock();
    let _holder = held(&lock, "holder", Exclusive);
    let done = Arc::new(AtomicBool::new(false));
    let acts = Acts::new({
        let (lock, done) = (lock.clone(), Arc::clone(&done));
        move || {
            let again = asked_on(&lock, "again", Exclusive, |request| request.timeout(ms(5)));
            assert!(again.wait().unwrap_err().is_timeout());
            done.store(true, Ordering::SeqCst);
        }
    });
    let mut hasty = asked_on(&lock, "hasty", Exclusive, |request| request.timeout(ms(200)));
    assert!(poll_with(&mut hasty, &acts).is_pending());
    until(|| done.load(Ordering::SeqCst));
}

#[test]
fn of_two_tasks_that_poll_a_request_the_later_is_woken() {
    let lock = lock();
    let holder = held(&lock, "holder", Exclusive);
    let mut pending = asked(&lock, "pending", Exclusive);
    let bells = [(); 3].map(|()| Arc::new(Bell::default()));
    for at in [0, 1, 0, 2] {
        assert!(poll_with(&mut pending, &bells[at]).is_pending());
    }
    drop(holder);
    assert_eq!(bells.each_ref().map(|bell| bell.rung()), [0, 0, 1]);
    assert!(outcome(pending).is_ok());
}
