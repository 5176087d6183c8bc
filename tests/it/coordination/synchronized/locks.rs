//! Locks: how they are taken and given back, and by whom.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tierlock::coordination::synchronized::{Blocking, Lock, SynchronizedError};
use tierlock::template::Data;
use tierlock::{AcquireError, Owner};

use super::{
    EXCLUSIVE, SHARED, acquire_failed, agent, granted, is_queued, not_started, stopped, two_agents,
    two_locks, until_in_line, waiting,
};
use crate::support::{LONG, ms, panic_holding, until};

#[test]
fn a_lock_is_acquired_released_and_acquired_again() {
    let lock = agent("again").get_lock("lock").unwrap();
    for _ in 0..3 {
        assert!(lock.acquire(true, EXCLUSIVE).unwrap());
        assert!(lock.acquired() && lock.is_still_owner());
        assert!(lock.release());
        assert!(!lock.acquired() && !lock.is_still_owner());
    }
}

#[test]
fn releasing_what_is_not_held_is_false_and_frees_nobody() {
    let (lock, other) = two_locks("release-unheld");
    assert!(!lock.release());
    assert!(other.acquire(true, EXCLUSIVE).unwrap());
    assert!(!lock.release());
    assert!(other.is_still_owner());
    assert!(other.release());
    assert!(!other.release());
}

#[test]
fn a_lock_that_is_held_is_not_acquired_again() {
    let lock = agent("held").get_lock("lock").unwrap();
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    assert!(!lock.acquire(false, EXCLUSIVE).unwrap());
    assert!(!lock.acquire(false, SHARED).unwrap());
    assert!(!lock.acquire(ms(5), EXCLUSIVE).unwrap());
    assert!(lock.release());
}

#[test]
fn waiting_for_what_oneself_holds_is_an_error_and_no_hang() {
    let (lock, other) = two_locks("nested");
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    for waits in [&lock, &other] {
        let error = acquire_failed(waits.acquire(true, EXCLUSIVE));
        assert!(matches!(error, AcquireError::AlreadyHeld { .. }), "{error}");
        acquire_failed(waits.with(true, SHARED, || panic!("entered")));
    }
    assert!(!other.acquire(ms(5), EXCLUSIVE).unwrap(), "a wait that ends is none for ever");
    assert!(lock.is_still_owner());
}

#[test]
fn another_owner_may_wait_for_what_this_thread_holds() {
    let (lock, other) = two_locks("handed-on");
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            until(|| is_queued(lock.cluster_lock()));
            assert!(lock.release(), "acquired in one thread, released in another");
        });
        let job = Owner::new("job-17");
        assert!(job.sync_scope(|| other.acquire(true, EXCLUSIVE)).unwrap());
    });
}

#[test]
fn two_locks_of_one_name_exclude_each_other_in_one_agent_and_in_two() {
    for (lock, other) in [two_locks("exclude-1"), two_agents("exclude-2")] {
        assert!(lock.acquire(false, EXCLUSIVE).unwrap());
        assert!(!other.acquire(false, EXCLUSIVE).unwrap());
        assert!(!other.acquire(ms(5), EXCLUSIVE).unwrap());
        assert!(lock.release());
        assert!(other.acquire(true, EXCLUSIVE).unwrap());
        assert!(!lock.release(), "the other one's");
        assert!(other.is_still_owner());
    }
}

#[test]
fn two_locks_of_one_agent_do_not_release_each_other() {
    let agent = agent("two-names");
    let (one, two) = (agent.get_lock("one").unwrap(), agent.get_lock("two").unwrap());
    assert!(one.acquire(true, EXCLUSIVE).unwrap());
    assert!(two.acquire(true, EXCLUSIVE).unwrap());
    assert!(one.release());
    assert!(two.is_still_owner());
    assert!(!agent.get_lock("two").unwrap().acquire(false, EXCLUSIVE).unwrap());
    assert!(agent.get_lock("one").unwrap().acquire(false, EXCLUSIVE).unwrap());
}

#[test]
fn shared_goes_together_and_keeps_exclusive_out() {
    for (lock, other) in [two_locks("share-1"), two_agents("share-2")] {
        assert!(lock.acquire(false, SHARED).unwrap());
        assert!(other.acquire(false, SHARED).unwrap());
        assert!(other.release());
        assert!(lock.is_still_owner(), "released by the other one");
        assert!(!other.acquire(false, EXCLUSIVE).unwrap());
        assert!(lock.release());
        assert!(other.acquire(false, EXCLUSIVE).unwrap());
        assert!(!lock.acquire(false, SHARED).unwrap());
    }
}

#[test]
fn whoever_waits_gets_it_when_it_is_released() {
    for (lock, other) in [two_locks("wait-1"), two_agents("wait-2")] {
        assert!(lock.acquire(true, EXCLUSIVE).unwrap());
        let waiter = waiting(other, EXCLUSIVE);
        assert!(lock.release());
        assert!(granted(waiter).is_still_owner());
    }
}

#[test]
fn a_limited_wait_is_granted_if_the_lock_comes_free_in_time() {
    let (lock, other) = two_agents("limited");
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    thread::scope(|scope| {
        let waiter = scope.spawn(|| other.acquire(LONG, EXCLUSIVE));
        until_in_line(&lock);
        assert!(lock.release());
        assert!(waiter.join().unwrap().unwrap());
    });
}

#[test]
fn a_lock_that_is_dropped_is_given_back() {
    for (lock, other) in [two_locks("drop-1"), two_agents("drop-2")] {
        assert!(lock.acquire(true, EXCLUSIVE).unwrap());
        drop(lock);
        assert!(other.acquire(false, EXCLUSIVE).unwrap());
    }
}

#[test]
fn a_guard_and_a_closure_hold_the_lock_and_give_it_back() {
    let (lock, other) = two_agents("guards");
    let guard = lock.guard(true, EXCLUSIVE).unwrap();
    let error = acquire_failed(other.guard(false, EXCLUSIVE));
    assert!(matches!(error, AcquireError::WouldBlock { .. }), "{error}");
    drop(guard);
    let inside = other.with(Blocking::No, EXCLUSIVE, || lock.acquire(false, EXCLUSIVE));
    assert!(!inside.unwrap().unwrap());
    assert!(lock.acquire(false, EXCLUSIVE).unwrap());
}

#[test]
fn what_is_not_acquired_is_not_entered_and_says_so() {
    let (lock, other) = two_agents("not-entered");
    assert!(lock.acquire(true, SHARED).unwrap());
    for blocking in [Blocking::No, Blocking::For(ms(5))] {
        let error = other.with(blocking, EXCLUSIVE, || panic!("entered")).unwrap_err();
        assert!(error.is_transient(), "{error}");
        acquire_failed::<()>(Err(error));
    }
}

#[test]
fn a_panic_gives_the_lock_back_and_the_next_is_told() {
    let (lock, other) = two_agents("panics");
    panic_holding(lock.guard(true, EXCLUSIVE).unwrap());
    assert!(other.acquire(false, EXCLUSIVE).unwrap());
    assert!(other.abandoned().is_some());
}

#[test]
fn a_broken_lock_goes_to_the_next_and_its_old_owner_frees_nobody() {
    for (stale, next) in [two_locks("break-1"), two_agents("break-2")] {
        assert!(stale.acquire(true, EXCLUSIVE).unwrap());
        let broken = next.break_lock().unwrap();
        assert_eq!(broken.len(), 1);
        assert!(next.acquire(false, EXCLUSIVE).unwrap());
        assert!(!stale.is_still_owner());
        assert!(!stale.release());
        assert!(next.is_still_owner());
        assert!(!stale.acquire(false, EXCLUSIVE).unwrap());
        assert!(next.release());
        assert!(stale.acquire(false, EXCLUSIVE).unwrap(), "and is as good as new");
    }
}

#[test]
fn a_lock_that_nobody_holds_can_be_broken() {
    let (lock, other) = two_agents("break-free");
    assert!(lock.break_lock().unwrap().is_empty());
    assert!(other.acquire(false, EXCLUSIVE).unwrap());
}

#[test]
fn whoever_waits_gets_a_broken_lock_wherever_it_was_held_and_broken() {
    for (at, (holds, waits, breaks)) in
        [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)].iter().enumerate()
    {
        let store = format!("break-waited-{at}");
        let (a, b) = (agent(&store), agent(&store));
        let lock = |at: &i32| [&a, &b][*at as usize].get_lock("lock").unwrap();
        let (stale, next, admin) = (lock(holds), lock(waits), lock(breaks));
        assert!(stale.acquire(true, EXCLUSIVE).unwrap());
        let waiter = waiting(next, EXCLUSIVE);
        assert_eq!(admin.break_lock().unwrap().len(), 1);
        let next = granted(waiter);
        assert!(next.is_still_owner());
        assert!(!stale.is_still_owner() && !stale.release());
    }
}

#[test]
fn a_broken_shared_lock_is_lost_to_all_who_shared_it() {
    let (a, b) = (agent("break-shared"), agent("break-shared"));
    let locks = [&a, &a, &b].map(|agent| agent.get_lock("lock").unwrap());
    for lock in &locks {
        assert!(lock.acquire(true, SHARED).unwrap());
    }
    let admin = b.get_lock("lock").unwrap();
    assert_eq!(admin.break_lock().unwrap().len(), 2, "one for each agent");
    assert!(admin.acquire(false, EXCLUSIVE).unwrap());
    for lock in &locks {
        assert!(!lock.is_still_owner());
        assert!(!lock.release());
    }
    assert!(admin.is_still_owner());
}

#[test]
fn who_shares_after_a_break_does_not_revive_who_shared_before() {
    let (a, b) = (agent("break-revive"), agent("break-revive"));
    let (stale, fresh) = (a.get_lock("lock").unwrap(), a.get_lock("lock").unwrap());
    assert!(stale.acquire(true, SHARED).unwrap());
    let admin = b.get_lock("lock").unwrap();
    admin.break_lock().unwrap();
    admin.with(false, EXCLUSIVE, || ()).unwrap();
    assert!(fresh.acquire(true, SHARED).unwrap());
    assert!(!stale.is_still_owner(), "somebody had it exclusively meanwhile");
    assert!(!stale.release());
    assert!(fresh.is_still_owner());
}

#[test]
fn the_name_is_made_of_template_and_data_when_the_lock_is_made() {
    let agent = agent("templates").prefix("manila-");
    let data = Data::new().with("share", Data::new().with("id", 7)).with("unused", 1);
    let lock = Lock::new("share-{share.id}", &data, &agent).unwrap();
    assert_eq!(lock.name(), "manila-share-7");
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    assert!(!agent.get_lock("share-7").unwrap().acquire(false, EXCLUSIVE).unwrap());
}

#[test]
fn what_is_wrong_with_a_template_is_said_before_anything_else() {
    let agent = stopped("bad-templates");
    for template in ["share-{id", "share-{name}"] {
        let error = Lock::new(template, &Data::new(), &agent).unwrap_err();
        assert!(matches!(error, SynchronizedError::Template(_)), "{error}");
    }
    not_started(Lock::new("share", &Data::new(), &agent));
}

#[test]
fn threads_of_several_agents_are_never_in_at_a_time() {
    let agents = [agent("threads"), agent("threads")];
    let (count, inside) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for at in 0..6 {
            let lock = agents[at % 2].get_lock("lock").unwrap();
            let (count, inside) = (&count, &inside);
            scope.spawn(move || {
                for _ in 0..50 {
                    let entered = lock.with(true, EXCLUSIVE, || {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        thread::yield_now();
                        count.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    });
                    entered.unwrap();
                }
            });
        }
    });
    assert_eq!(count.into_inner(), 300);
}

#[test]
fn tokens_tell_who_came_later() {
    let (lock, other) = two_agents("tokens");
    let token = |lock: &Lock| lock.with(true, EXCLUSIVE, || lock.token().unwrap()).unwrap();
    let tokens = [token(&lock), token(&other), token(&lock), token(&other)];
    assert!(tokens.is_sorted() && tokens[0] < tokens[1], "{tokens:?}");
    assert_eq!(lock.token(), None);
}
