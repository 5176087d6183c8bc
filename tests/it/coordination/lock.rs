//! One lock of several members.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tierlock::coordination::{CoordinationError, Coordinator};
use tierlock::{AcquireError, Mode, Owner, UpgradeError};

use super::counting::Counting;

use crate::support::now;

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
fn a_free_lock_is_had_at_once_however_often_it_is_tried() {
    let [a, b] = members("tried");
    let owner = Owner::new("owner");
    for round in 0..2_000 {
        let member = if round % 3 == 0 { &a } else { &b };
        let lock = member.lock("config").unwrap();
        let guard = lock.exclusive(&owner).now();
        drop(guard.unwrap_or_else(|error| panic!("in round {round}: {error}")));
    }
}

#[test]
fn what_is_granted_and_never_taken_is_given_back() {
    let [a] = members("never-taken");
    let (here, first) = (a.lock("config").unwrap(), Owner::new("first"));
    let (_keep, quiet) = mpsc::channel::<()>();
    let late = |_| {
        let pending = here.exclusive(&first).enqueue();
        assert!(pending.wait_timeout(SOON));
        // Long enough that the news of the grant, which has somebody look, has passed.
        let _ = quiet.recv_timeout(Duration::from_millis(20));
        let dropped = now();
        drop(pending);
        while !here.holders().unwrap().is_empty() {
            thread::yield_now();
        }
        dropped.elapsed()
    };
    // Sooner than anybody looks by itself, if nothing keeps the machine busy.
    let best = (0..20).map(late).min().unwrap();
    assert!(best < Duration::from_millis(50), "{best:?}");
}

#[test]
fn whoever_waits_is_granted_when_another_member_releases() {
    let [a, b] = members("handed-over");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    let guard = here.exclusive(&first).wait().unwrap();
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
        lock.shared(&owner).wait().unwrap().into_owned()
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

#[test]
fn a_guard_that_was_upgraded_has_a_token_of_its_own() {
    let [a, b] = members("upgraded-token");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    let mut guard = here.shared(&first).wait().unwrap();
    guard.token().unwrap();
    let between = there.shared(&second).wait().unwrap().token().unwrap();
    guard.upgrade().timeout(SOON).wait().unwrap();
    assert!(guard.token().unwrap() > between);
}

#[test]
fn what_is_granted_to_one_attempt_is_not_given_back_before_it_is_used() {
    let [a] = members("attempt");
    let lock = a.lock("config").unwrap();
    for round in 0..500 {
        let owner = Owner::new(format!("owner-{round}"));
        drop(lock.exclusive(&owner).now().unwrap());
    }
}

#[test]
fn taking_what_is_cached_and_giving_it_back_takes_no_message() {
    let engine = Counting::about("lock/config");
    let member = Coordinator::over(std::sync::Arc::new(engine.clone())).join("alone").unwrap();
    let (lock, owner) = (member.lock("config").unwrap().cached(), Owner::new("owner"));
    let (messages, ()) = engine.messages_of(|| drop(lock.exclusive(&owner).wait().unwrap()));
    assert!(messages > 0);
    // A request that no thread waits for is the agent's to make, after what it was told before.
    drop(member.lock("flush").unwrap().exclusive(&owner).enqueue().wait().unwrap());
    let (messages, ()) = engine.messages_of(|| {
        for _ in 0..10 {
            drop(lock.exclusive(&owner).wait().unwrap());
            drop(lock.shared(&owner).now().unwrap());
        }
    });
    assert_eq!(messages, 0);
}

#[test]
fn an_owner_that_waits_for_two_members_to_agree_goes_when_the_other_gives_up() {
    let [a, b] = members("agree");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second, third) = (Owner::new("first"), Owner::new("second"), Owner::new("third"));
    let looking = here.acquire(&first, Mode::IntentShared).wait().unwrap();
    let mut reader = there.shared(&second).wait().unwrap();
    let upgrade = reader.upgrade().enqueue();
    while here.waiters().unwrap().is_empty() {
        thread::yield_now();
    }
    // What this member holds for one owner, and is to hold for another beside it, waits for what the upgrade waits for.
    let writer = here.acquire(&third, Mode::IntentExclusive).enqueue();
    drop(upgrade);
    drop(reader);
    assert!(writer.wait_timeout(SOON));
    drop(writer.wait().unwrap());
    drop(looking);
}

#[test]
fn a_member_that_is_asked_for_what_it_uses_asks_nothing_until_it_gives_it_up() {
    let engine = Counting::about("lock/config");
    let [a, b] = ["one", "two"].map(|name| {
        let connect = Coordinator::over(std::sync::Arc::new(engine.clone()));
        connect.min_hold(Duration::ZERO).join(name).unwrap()
    });
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    let guard = here.exclusive(&first).wait().unwrap();
    let pending = there.exclusive(&second).enqueue();
    while there.waiters().unwrap().is_empty() {
        thread::yield_now();
    }
    // What the agents are told now comes after what they were told by this.
    let flush = |member: &Coordinator| {
        let lock = member.lock("flush").unwrap();
        for _ in 0..10 {
            drop(lock.exclusive(&second).enqueue().wait().unwrap());
        }
    };
    flush(&a);
    flush(&b);
    let (messages, ()) = engine.messages_of(|| {
        flush(&a);
        flush(&b);
    });
    assert_eq!(messages, 0);
    drop(guard);
    drop(pending.wait().unwrap());
}
