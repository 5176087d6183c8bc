//! What went wrong in Manila and Tooz, by the numbers of the list that was made of it.
//!
//! 1, 2 and 8 stand in `processes.rs` as well, where files are. 11, the fork, has its test beside the code. 9, `true` that is taken
//! for a second, cannot be written: `Blocking` is no number.

use std::sync::Arc;
use std::time::Duration;

use tierlock::coordination::memory::Memory;
use tierlock::coordination::synchronized::{Blocking, Coordinator, Lock, SynchronizedError};
use tierlock::coordination::{self, Driver};
use tierlock::template::Data;

use super::{EXCLUSIVE, SHARED, agent, granted, two_agents, until_in_line, waiting};
use crate::support::{ms, now, on_a_slow_machine, until};

#[test]
fn trap_1_shared_is_shared_between_agents() {
    let (lock, other) = two_agents("trap-1");
    assert!(lock.acquire(false, SHARED).unwrap());
    assert!(other.acquire(false, SHARED).unwrap());
}

#[test]
fn trap_3_a_thousand_names_are_a_thousand_locks() {
    let (agent, other) = (agent("trap-3"), agent("trap-3"));
    let locks: Vec<_> = (0..1000)
        .map(|id| Lock::new("share-{id}", &Data::new().with("id", id), &agent).unwrap())
        .collect();
    for lock in &locks {
        assert!(lock.acquire(false, EXCLUSIVE).unwrap(), "{}", lock.name());
    }
    assert!(!other.get_lock("share-300").unwrap().acquire(false, EXCLUSIVE).unwrap());
    assert!(locks[300].release());
    assert!(other.get_lock("share-300").unwrap().acquire(false, EXCLUSIVE).unwrap());
    assert!(locks[392].is_still_owner());
}

#[test]
fn trap_4_a_wait_that_times_out_is_false_and_not_another_error() {
    let (lock, other) = two_agents("trap-4");
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    let begin = now();
    assert!(!other.acquire(ms(30), EXCLUSIVE).unwrap());
    assert!(begin.elapsed() >= ms(30));
    assert!(on_a_slow_machine(|slack| {
        let begin = now();
        assert!(!other.acquire(ms(30), EXCLUSIVE).unwrap());
        begin.elapsed() < ms(30) + slack
    }));
}

#[test]
fn trap_5_attempts_leave_nothing_behind() {
    let (lock, other) = two_agents("trap-5");
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    for _ in 0..20 {
        assert!(!other.acquire(Blocking::No, EXCLUSIVE).unwrap());
        assert!(!other.acquire(ms(2), SHARED).unwrap());
    }
    until(|| lock.cluster_lock().waiters().unwrap().is_empty());
    assert_eq!(lock.cluster_lock().holders().unwrap().len(), 1);
    assert!(lock.release());
    assert!(lock.cluster_lock().holders().unwrap().is_empty());
}

#[test]
fn trap_6_a_lease_that_is_lost_is_known_before_another_has_the_lock() {
    let (store, world) = Memory::simulated(6);
    let agent = |id: &str| {
        let connect = coordination::Coordinator::over(Arc::new(store.clone()));
        let agent = Coordinator::new(connect.ttl(Duration::from_secs(10))).agent_id(id);
        agent.start().unwrap();
        agent
    };
    let first = agent("first");
    let lock = first.get_lock("lock").unwrap();
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    let token = lock.token().unwrap();
    world.crash(first.joined().unwrap().member());
    world.advance(9_999);
    assert!(lock.acquired() && first.started());
    world.advance(1);
    assert!(!lock.acquired());
    assert!(!lock.is_still_owner());
    assert!(!first.started());
    assert_eq!(lock.token(), None);
    assert!(!lock.release());

    let next = agent("next").get_lock("lock").unwrap();
    assert!(next.acquire(true, EXCLUSIVE).unwrap());
    assert!(next.token().unwrap() > token);
    assert!(next.abandoned().is_some());
    assert!(!lock.release());
    assert!(next.is_still_owner());
}

#[test]
fn trap_7_who_waits_is_told_and_does_not_poll() {
    let polls = Memory::new().poll_interval();
    assert!(on_a_slow_machine(|slack| {
        let (mut lock, mut other) = two_agents("trap-7");
        assert!(lock.acquire(true, EXCLUSIVE).unwrap());
        let begin = now();
        for _ in 0..40 {
            let waiter = waiting(other, EXCLUSIVE);
            until_in_line(&lock);
            assert!(lock.release());
            (other, lock) = (lock, granted(waiter));
        }
        begin.elapsed() < slack && begin.elapsed() < 40 * polls
    }));
}

#[test]
fn trap_8_a_name_is_no_path() {
    let agent = agent("trap-8");
    let names = ["../xevil", "xevil", "./xevil", "a/../xevil", "..%2Fxevil", "/xevil", "xevil/"];
    let locks = names.map(|name| agent.get_lock(name).unwrap());
    for lock in &locks {
        assert!(lock.acquire(false, EXCLUSIVE).unwrap(), "{}", lock.name());
    }
}

#[test]
fn trap_10_what_was_not_given_is_no_name_for_everybody() {
    let agent = agent("trap-10");
    let by_position = Data::new().with("share_id", None::<&str>);
    for (template, data) in [("share-{share_id}", by_position), ("share-{share_id}", Data::new())] {
        let error = Lock::new(template, &data, &agent).unwrap_err();
        assert!(matches!(error, SynchronizedError::Template(_)), "{error}");
    }
}

#[test]
fn trap_12_whoever_looks_sees_the_true_name_and_who_holds_it() {
    let agent = agent("trap-12").prefix("manila-");
    let lock = Lock::new("share-{id}", &Data::new().with("id", 7), &agent).unwrap();
    assert!(lock.acquire(true, EXCLUSIVE).unwrap());
    assert_eq!(format!("{lock:?}"), "Lock { name: manila-share-7, acquired: true, .. }");
    let holders = lock.cluster_lock().holders().unwrap();
    assert_eq!(holders[0].member, *agent.joined().unwrap().member());
    let error = agent.get_lock("share-7").unwrap().guard(false, EXCLUSIVE).unwrap_err();
    assert!(error.to_string().contains("manila-share-7"), "{error}");
}
