//! One lock of several members.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tierlock::coordination::{CoordinationError, Coordinator};
use tierlock::{AcquireError, Mode, Owner, UpgradeError};

/// Members of a store of their own.
fn members<const N: usize>(store: &str) -> [Coordinator; N] {
    let url = format!("memory:{store}");
    std::array::from_fn(|at| Coordinator::connect(&url).join(&format!("worker-{at}")).unwrap())
}

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_lock_held_by_one_member_is_not_had_by_another() {
    let [a, b] = members("held-once");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    let guard = here.exclusive(&first).wait().unwrap();
    assert!(matches!(there.exclusive(&second).now(), Err(AcquireError::WouldBlock { .. })));
    assert!(matches!(there.shared(&second).now(), Err(AcquireError::WouldBlock { .. })));
    assert!(guard.release().unwrap());
    drop(there.exclusive(&second).now().unwrap());
}

#[test]
fn whoever_waits_is_granted_when_another_member_releases() {
    let [a, b] = members("handed-over");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let guard = here.exclusive(&Owner::new("first")).wait().unwrap();
    let second = Owner::new("second");
    let pending = there.exclusive(&second).enqueue();
    while there.waiters().unwrap().is_empty() {
        thread::yield_now();
    }
    assert!(!pending.is_decided());
    drop(guard);
    assert!(pending.wait_timeout(SOON));
    let guard = pending.wait().unwrap();
    assert_eq!(there.holders().unwrap()[0].owner.as_ref(), "second");
    drop(guard);
    assert!(there.holders().unwrap().is_empty());
}

#[test]
fn members_share() {
    let [a, b] = members("shared");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    let _one = here.shared(&first).wait().unwrap();
    let _two = there.shared(&second).wait().unwrap();
    assert_eq!(here.holders().unwrap().len(), 2);
}

#[test]
fn what_is_cached_is_given_up_when_another_member_asks() {
    let [a, b] = members("cached");
    let here = a.lock("config").unwrap().cached();
    let there = b.lock("config").unwrap().cached();
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    drop(here.exclusive(&first).wait().unwrap());
    assert_eq!(here.holders().unwrap()[0].member, *a.member());
    drop(there.shared(&second).timeout(SOON).wait().unwrap());
    let modes: Vec<Mode> = here.holders().unwrap().iter().map(|held| held.mode).collect();
    assert_eq!(modes, [Mode::Shared, Mode::Shared]);
    drop(here.exclusive(&first).timeout(SOON).wait().unwrap());
    assert_eq!(here.holders().unwrap().len(), 1);
}

#[test]
fn tokens_grow_with_every_conflicting_hold() {
    let [a, b] = members("tokens");
    let (here, there) = (a.lock("config").unwrap().cached(), b.lock("config").unwrap().cached());
    let owner = Owner::new("owner");
    let mut last = 0;
    for round in 0..20 {
        let lock = if round % 3 == 0 { &here } else { &there };
        let guard = lock.exclusive(&owner).timeout(SOON).wait().unwrap();
        let token = guard.token().unwrap();
        assert!(token > last, "{token} after {last}");
        assert_eq!(guard.token().unwrap(), token);
        last = token;
    }
}

#[test]
fn an_upgrade_comes_with_a_token_greater_than_those_of_all_who_shared() {
    let [a, b] = members("upgraded-tokens");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second, third) = (Owner::new("first"), Owner::new("second"), Owner::new("third"));
    let mut guard = here.shared(&first).wait().unwrap();
    let before = guard.token().unwrap();
    let others = [here.shared(&second), there.shared(&third)];
    let seen = others.map(|asked| asked.wait().unwrap().token().unwrap());
    guard.upgrade().timeout(SOON).wait().unwrap();
    let token = guard.token().unwrap();
    assert!(token > before.max(seen[0]).max(seen[1]), "{token} after {before} and {seen:?}");
}

#[test]
fn what_is_cached_is_given_back_by_whoever_used_it_once_another_member_asked() {
    let [a, b] = members("recalled");
    let here = a.lock("config").unwrap().cached();
    let there = b.lock("config").unwrap();
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    for _ in 0..50 {
        let guard = here.exclusive(&first).timeout(SOON).wait().unwrap();
        let pending = there.exclusive(&second).enqueue();
        drop(guard);
        // Whoever of the two comes first.
        drop(here.exclusive(&first).now());
        assert!(pending.wait_timeout(SOON));
        drop(pending.wait().unwrap());
    }
}

#[test]
fn owners_of_several_members_exclude_each_other_under_load() {
    let members: [Coordinator; 4] = members("load");
    let counter = std::sync::atomic::AtomicU64::new(0);
    thread::scope(|scope| {
        for (at, member) in members.iter().enumerate() {
            let counter = &counter;
            scope.spawn(move || {
                let mut lock = member.lock("config").unwrap();
                if at % 2 == 0 {
                    lock = lock.cached();
                }
                for round in 0..300 {
                    let owner = Owner::new(format!("owner-{at}"));
                    if round % 3 == 0 {
                        let guard = lock.exclusive(&owner).timeout(SOON).wait().unwrap();
                        let before = counter.load(std::sync::atomic::Ordering::Relaxed);
                        thread::yield_now();
                        counter.store(before + 1, std::sync::atomic::Ordering::Relaxed);
                        guard.check().unwrap();
                    } else {
                        let _guard = lock.shared(&owner).timeout(SOON).wait().unwrap();
                        let before = counter.load(std::sync::atomic::Ordering::Relaxed);
                        thread::yield_now();
                        assert_eq!(counter.load(std::sync::atomic::Ordering::Relaxed), before);
                    }
                }
            });
        }
    });
    assert_eq!(counter.into_inner(), 400);
}

#[test]
fn two_members_that_upgrade_at_a_time_are_found_out() {
    let [a, b] = members("upgrades");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    let mut one = here.shared(&first).wait().unwrap();
    let mut two = there.shared(&second).wait().unwrap();
    let (done, outcome) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let result = one.upgrade().timeout(SOON).wait();
            let deadlock = matches!(result, Err(UpgradeError::WouldDeadlock { .. }));
            done.send(deadlock).unwrap();
        });
        let result = two.upgrade().timeout(SOON).wait();
        let deadlock = matches!(result, Err(UpgradeError::WouldDeadlock { .. }));
        assert!(deadlock || result.is_ok(), "{result:?}");
        drop(two);
        assert_ne!(outcome.recv().unwrap(), deadlock);
    });
}

#[test]
fn a_member_that_leaves_gives_back_what_it_held_and_hears_so() {
    let [a, b] = members("leaves");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    let guard = here.exclusive(&first).wait().unwrap();
    let pending = there.exclusive(&second).enqueue();
    a.leave().unwrap();
    assert!(matches!(guard.check(), Err(CoordinationError::Lost { .. })));
    assert!(pending.wait_timeout(SOON));
    let next = pending.wait().unwrap();
    let by = next.abandoned().unwrap().owner;
    assert!(by.contains("first") && by.contains("worker-0"), "{by}");
    assert!(here.shared(&second).now().is_err());
}

#[test]
fn members_that_ended_while_they_shared_are_forgotten_by_the_next_who_shares() {
    let [a, b, c, d] = members("forgotten");
    let owner = Owner::new("owner");
    let sharing = [&a, &b, &c].map(|member| {
        let lock = member.lock("config").unwrap();
        lock.shared(&owner).wait().unwrap()
    });
    a.leave().unwrap();
    b.leave().unwrap();
    let lock = d.lock("config").unwrap();
    let _guard = lock.shared(&owner).wait().unwrap();
    let held_by = lock.holders().unwrap().into_iter().map(|held| held.member);
    assert_eq!(held_by.collect::<Vec<_>>(), [c.member().clone(), d.member().clone()]);
    drop(sharing);
}

#[test]
fn a_broken_lock_goes_to_the_next_and_its_old_holder_hears_so() {
    let [a, b] = members("broken");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    let guard = here.exclusive(&first).wait().unwrap();
    assert_eq!(there.break_lock().unwrap().len(), 1);
    let next = there.exclusive(&second).timeout(SOON).wait().unwrap();
    assert!(next.abandoned().is_some());
    assert!(!guard.release().unwrap());
    next.check().unwrap();
}

#[test]
fn an_attempt_at_a_free_lock_succeeds_whatever_the_agent_does() {
    let [a] = members("attempts");
    let owner = Owner::new("owner");
    for id in 0..3000 {
        let lock = a.lock(&format!("config-{id}")).unwrap();
        drop(lock.exclusive(&owner).now().unwrap());
    }
}
