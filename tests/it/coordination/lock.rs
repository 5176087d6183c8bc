//! One lock of several members.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tierlock::coordination::{ClusterLock, Coordinator};
use tierlock::{Mode, Owner, UpgradeError};

use super::counting::Counting;

use crate::support::{now, until};

/// Members of a store of their own.
fn members<const N: usize>(store: &str) -> [Coordinator; N] {
    let url = format!("memory:{store}");
    std::array::from_fn(|at| Coordinator::connect(&url).join(&format!("worker-{at}")).unwrap())
}

const SOON: Duration = Duration::from_secs(10);

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
fn an_attempt_at_a_free_lock_succeeds_whatever_the_agent_does() {
    let [a] = members("attempts");
    let owner = Owner::new("owner");
    for id in 0..3000 {
        let lock = a.lock(&format!("config-{id}")).unwrap();
        drop(lock.exclusive(&owner).now().unwrap());
    }
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

#[test]
fn a_member_that_goes_on_in_a_weaker_mode_tells_the_others() {
    let [a, b] = members("weaker");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let (first, second) = (Owner::new("first"), Owner::new("second"));
    let mut guard = here.exclusive(&first).wait().unwrap();
    guard.downgrade();
    drop(there.shared(&second).now().unwrap());
    guard.downgrade_to(Mode::IntentShared).unwrap();
    drop(there.acquire(&second, Mode::IntentExclusive).now().unwrap());
    assert_eq!(there.holders().unwrap()[0].mode, Mode::IntentShared);
}

#[test]
fn an_upgrade_is_not_refused_since_somebody_elsewhere_waits() {
    let [a, b, c] = members("upgrade-first");
    let locks = [&a, &b, &c].map(|member| member.lock("config").unwrap());
    let [first, second, third, last] = ["first", "second", "third", "last"].map(Owner::new);
    for _ in 0..20 {
        let mut guard = locks[0].shared(&first).wait().unwrap();
        let reader = locks[1].shared(&second).wait().unwrap();
        let writes = locks[2].exclusive(&third).enqueue();
        wait_for_waiters(&locks[2], 1);
        // The member heard of it, and lets nobody in.
        until(|| locks[0].shared(&last).now().is_err());
        let upgrade = guard.upgrade().enqueue();
        wait_for_waiters(&locks[2], 2);
        drop(reader);
        assert!(upgrade.wait_timeout(SOON));
        upgrade.wait().unwrap();
        assert!(!writes.is_decided());
        drop(guard);
        assert!(writes.wait_timeout(SOON));
        drop(writes.wait().unwrap());
    }
}

#[test]
fn an_upgrade_that_waits_for_another_owner_of_its_member_is_not_refused_since_somebody_elsewhere_waits()
 {
    let [a, b] = members("upgrade-beside");
    let (here, there) = (a.lock("config").unwrap(), b.lock("config").unwrap());
    let [first, second, third] = ["first", "second", "third"].map(Owner::new);
    let mut guard = here.shared(&first).wait().unwrap();
    let beside = here.shared(&second).wait().unwrap();
    let upgrade = guard.upgrade().enqueue();
    let writes = there.exclusive(&third).enqueue();
    wait_for_waiters(&there, 1);
    // Longer than the member keeps what others want.
    assert!(!upgrade.wait_timeout(Duration::from_millis(50)));
    drop(beside);
    assert!(upgrade.wait_timeout(SOON));
    upgrade.wait().unwrap();
    assert!(!writes.is_decided());
    drop(guard);
    assert!(writes.wait_timeout(SOON));
    drop(writes.wait().unwrap());
}

/// Returns when so many members stand in line.
fn wait_for_waiters(lock: &ClusterLock, count: usize) {
    until(|| lock.waiters().unwrap().len() == count);
}
