//! Upgrades, downgrades and the cache.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use tierlock::coordination::memory::Memory;

use super::super::counting::Counting;
use super::*;

fn counted() -> (Counting, [Coordinator; 2]) {
    let engine = Counting::about("global/");
    let nodes = ["one", "two"].map(|name| {
        // What is to be kept back for a while would be asked for again by the clock.
        let connect = Coordinator::over(Arc::new(engine.clone())).min_hold(Duration::ZERO);
        connect.join(name).unwrap()
    });
    (engine, nodes)
}

/// Waits until the agent of the node did all that it was told to.
fn flush(node: &Coordinator) {
    // A request that no thread waits for is the agent's to make, after what it was told before.
    let (lock, owner) = (node.lock("flush").unwrap(), tierlock::Owner::new("flush"));
    drop(lock.exclusive(&owner).enqueue().wait().unwrap());
}

#[test]
fn a_global_lock_is_owned_by_the_node_and_not_by_a_task() {
    let nodes = nodes::<2>("owned");
    let [one, two]: [User; 2] = users(&nodes);
    thread::scope(|scope| {
        scope.spawn(|| one.upgrade(Write, SOON).unwrap());
    });
    assert_eq!(one.granted(), Write);
    assert!(is_timed_out(&two.upgrade(Read, BRIEFLY)));
    thread::scope(|scope| {
        scope.spawn(|| one.downgrade(NoLock).unwrap());
    });
    two.upgrade(Read, SOON).unwrap();
}

#[test]
fn what_is_grantable_is_granted_at_once_without_a_message() {
    let (engine, [node, _]) = counted();
    let user: User = user(&node);
    user.upgrade(Write, SOON).unwrap();
    flush(&node);
    let (messages, ()) = engine.messages_of(|| {
        for value in [NoLock, Read, Upgrade, Write] {
            user.downgrade(NoLock).unwrap();
            assert_eq!((user.granted(), user.grantable()), (NoLock, Write));
            assert!(user.upgrade_async(value).unwrap().waiter().is_none());
            user.upgrade(value, None).unwrap();
            assert_eq!((user.granted(), user.grantable()), (value, Write));
        }
        for value in [Upgrade, Read, NoLock] {
            user.downgrade(value).unwrap();
        }
    });
    assert_eq!(messages, 0);
    // Nor does anybody say it later.
    let (messages, ()) = engine.messages_of(|| flush(&node));
    assert_eq!(messages, 0);
}

#[test]
fn what_is_not_grantable_is_asked_of_the_coordinator() {
    let (engine, [node, _]) = counted();
    let user: User = user(&node);
    let (messages, ()) = engine.messages_of(|| user.upgrade(Read, SOON).unwrap());
    assert!(messages > 0);
    assert_eq!(user.grantable(), Read);
    let (messages, ()) = engine.messages_of(|| user.upgrade(Write, SOON).unwrap());
    assert!(messages > 0);
    assert_eq!(user.grantable(), Write);
}

#[test]
fn granted_is_never_more_than_grantable_unless_the_node_is_called_back() {
    let [node] = nodes("at-rest");
    let user: User = user(&node);
    for value in [Read, Write, Upgrade] {
        user.upgrade(value, SOON).unwrap();
        assert!(user.granted() >= value && user.grantable() >= user.granted());
        user.downgrade(value.min(user.granted())).unwrap();
    }
}

#[test]
fn a_synchronous_upgrade_blocks_until_the_others_gave_way() {
    let nodes = nodes::<2>("sync");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    thread::scope(|scope| {
        let upgrade = scope.spawn(|| two.upgrade(Write, SOON));
        soon(|| two.requested() == Some(Write) && one.called_back().is_some());
        assert!(!upgrade.is_finished());
        one.downgrade(NoLock).unwrap();
        upgrade.join().unwrap().unwrap();
    });
    assert_eq!((two.granted(), two.requested()), (Write, None));
}

#[test]
fn when_time_is_up_an_upgrade_says_who_was_in_the_way_and_stands_in_line_no_more() {
    let nodes = nodes::<2>("time");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Read, SOON).unwrap();
    two.upgrade(Read, SOON).unwrap();
    let error = two.upgrade(Write, BRIEFLY).unwrap_err();
    let GlobalLockError::TimedOut { resource, wanted, waited, blockers } = &error else {
        panic!("{error}");
    };
    assert_eq!((&**resource, &**wanted), ("config", "Write"));
    assert!(*waited >= Duration::from_millis(5));
    assert_eq!(blockers, &[nodes[0].member().clone()]);
    assert!(error.to_string().contains("held by node-0"), "{error}");
    assert!(!error.is_lost());
    assert_eq!((two.granted(), two.requested()), (Read, None));
    soon(|| two.waiters().unwrap().is_empty());
    // It is no deadlock that time was up: the other can go.
    two.downgrade(NoLock).unwrap();
    one.upgrade(Write, SOON).unwrap();
}

#[test]
fn two_upgraders_are_found_out_at_once_and_one_goes_when_the_other_gives_up() {
    let nodes = nodes::<2>("upgraders");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Read, SOON).unwrap();
    two.upgrade(Read, SOON).unwrap();
    let first = one.upgrade_async(Upgrade).unwrap().waiter().unwrap();
    assert!(!first.is_decided());
    // Not when the time is up.
    let refused = two.upgrade(Upgrade, SOON);
    assert!(is_deadlock(&refused), "{refused:?}");
    assert_eq!((two.granted(), two.requested()), (Read, None));
    two.downgrade(NoLock).unwrap();
    first.wait_lock(SOON).unwrap();
    assert_eq!(one.granted(), Upgrade);
}

#[test]
fn two_writers_that_keep_nothing_wait_until_the_readers_of_one_are_done() {
    let nodes = nodes::<2>("writers");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Read, SOON).unwrap();
    two.upgrade(Read, SOON).unwrap();
    let first = one.upgrade_async(Write).unwrap().waiter().unwrap();
    let second = two.upgrade_async(Write).unwrap().waiter().unwrap();
    soon(|| two.called_back().is_some());
    assert!(!first.is_decided() && !second.is_decided());
    two.downgrade(NoLock).unwrap();
    first.wait_lock(SOON).unwrap();
    first.signal_handled();
    assert!(!second.is_decided());
    one.downgrade(NoLock).unwrap();
    second.wait_lock(SOON).unwrap();
    assert_eq!((one.granted(), two.granted()), (NoLock, Write));
}

#[test]
fn of_two_writers_that_keep_nothing_the_second_goes_if_the_first_gives_up() {
    let nodes = nodes::<2>("writer-gives-up");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Read, SOON).unwrap();
    two.upgrade(Read, SOON).unwrap();
    let first = one.upgrade_async(Write).unwrap().waiter().unwrap();
    let second = two.upgrade_async(Write).unwrap().waiter().unwrap();
    soon(|| two.called_back().is_some());
    drop(first);
    soon(|| two.requested() == Some(Write));
    one.downgrade(NoLock).unwrap();
    second.wait_lock(SOON).unwrap();
}

#[test]
fn an_asynchronous_upgrade_returns_no_waiter_if_it_is_granted_at_once() {
    let nodes = nodes::<2>("async");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    one.downgrade(Read).unwrap();
    assert!(one.upgrade_async(Write).unwrap().waiter().is_none());
    assert_eq!(one.granted(), Write);
    let waiter = two.upgrade_async(Write).unwrap().waiter().unwrap();
    assert_eq!((waiter.value(), waiter.is_decided()), (Write, false));
}

#[test]
fn waiters_of_a_node_go_in_their_order_and_each_when_the_one_before_is_handled() {
    let nodes = nodes::<2>("handled");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let [first, second, third] =
        [Read, Write, Read].map(|value| two.upgrade_async(value).unwrap().waiter().unwrap());
    assert_eq!(two.requested(), Some(Read));
    one.downgrade(NoLock).unwrap();
    first.wait_lock(SOON).unwrap();
    // It may wait again, which changes nothing.
    first.wait_lock(SOON).unwrap();
    assert_eq!((two.granted(), two.requested()), (Read, None));
    assert!(!second.is_decided() && !third.is_decided());
    first.signal_handled();
    second.wait_lock(SOON).unwrap();
    assert_eq!(two.granted(), Write);
    assert!(!third.is_decided());
    second.signal_handled();
    assert!(third.is_decided());
    third.wait_lock(SOON).unwrap();
    assert_eq!(two.granted(), Write);
}

#[test]
fn nobody_of_a_node_overtakes_those_who_wait_for_less() {
    let nodes = nodes::<2>("overtaking");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let first = two.upgrade_async(Read).unwrap().waiter().unwrap();
    let second = two.upgrade_async(Read).unwrap().waiter().unwrap();
    one.downgrade(Read).unwrap();
    first.wait_lock(SOON).unwrap();
    assert!(!second.is_decided());
    // What the node has anyway is no overtaking.
    assert!(two.upgrade_async(Read).unwrap().waiter().is_none());
}

#[test]
fn what_keeps_goes_before_what_waits_for_the_node_to_give_up() {
    let nodes = nodes::<2>("keeps-first");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Read, SOON).unwrap();
    two.upgrade(Read, SOON).unwrap();
    let writer = one.upgrade_async(Write).unwrap().waiter().unwrap();
    let reader = one.upgrade_async(Upgrade).unwrap().waiter().unwrap();
    two.downgrade(NoLock).unwrap();
    reader.wait_lock(SOON).unwrap();
    assert!(!writer.is_decided());
    reader.signal_handled();
    writer.wait_lock(SOON).unwrap();
}

#[test]
fn nothing_is_granted_to_the_node_before_somebody_waited_for_it() {
    let nodes = nodes::<2>("untaken");
    let [one, two]: [User; 2] = users(&nodes);
    let waiter = one.upgrade_async(Write).unwrap().waiter().unwrap();
    soon(|| waiter.is_decided());
    assert_eq!(one.granted(), NoLock);
    drop(waiter);
    assert_eq!(one.granted(), NoLock);
    two.upgrade(Write, SOON).unwrap();
}

#[test]
fn a_waiter_that_is_dropped_is_withdrawn() {
    let nodes = nodes::<3>("withdrawn");
    let [one, two, three]: [User; 3] = users(&nodes);
    one.upgrade(Read, SOON).unwrap();
    let writer = two.upgrade_async(Write).unwrap().waiter().unwrap();
    let reader = three.upgrade_async(Read).unwrap().waiter().unwrap();
    assert_eq!(one.waiters().unwrap().len(), 2);
    assert!(!reader.is_decided());
    drop(writer);
    reader.wait_lock(SOON).unwrap();
    assert_eq!((two.granted(), two.requested()), (NoLock, None));
}

#[test]
fn a_waiter_whose_time_is_up_stays_in_line() {
    let nodes = nodes::<2>("waits-on");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let waiter = two.upgrade_async(Write).unwrap().waiter().unwrap();
    assert!(is_timed_out(&waiter.wait_lock(BRIEFLY)));
    assert_eq!(two.requested(), Some(Write));
    one.downgrade(NoLock).unwrap();
    waiter.wait_lock(SOON).unwrap();
}

#[test]
fn a_waiter_is_awaited_on_any_runtime() {
    let nodes = nodes::<2>("awaited");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let mut waiter = two.upgrade_async(Read).unwrap().waiter().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(&mut waiter).as_mut().poll(&mut context).is_pending());
    thread::scope(|scope| {
        let granted = scope.spawn(|| pollster::block_on(&mut waiter));
        one.downgrade(NoLock).unwrap();
        granted.join().unwrap().unwrap();
    });
    assert_eq!(two.granted(), Read);
    assert!(matches!(pin!(&mut waiter).as_mut().poll(&mut context), Poll::Ready(Ok(()))));
}

#[test]
fn a_downgrade_lowers_what_is_granted_and_keeps_the_cache() {
    let nodes = nodes::<2>("downgrade");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    one.downgrade(Read).unwrap();
    assert_eq!((one.granted(), one.grantable()), (Read, Write));
    one.downgrade(NoLock).unwrap();
    assert_eq!((one.granted(), one.grantable()), (NoLock, Write));
    assert_eq!(two.holders().unwrap()[0].member, *nodes[0].member());
}

#[test]
fn a_downgrade_goes_no_higher_than_what_is_granted() {
    let [node] = nodes("not-lower");
    let user: User = user(&node);
    user.upgrade(Write, SOON).unwrap();
    user.downgrade(Read).unwrap();
    let error = user.downgrade(Upgrade).unwrap_err();
    assert!(matches!(error, GlobalLockError::NotLower { .. }), "{error}");
    assert_eq!(user.granted(), Read);
    user.downgrade(Read).unwrap();
}

#[test]
fn what_is_grantable_is_a_hint_after_which_an_upgrade_may_still_block() {
    let nodes = nodes::<2>("hint");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    one.downgrade(NoLock).unwrap();
    assert_eq!(one.grantable(), Write);
    two.upgrade(Write, SOON).unwrap();
    assert!(is_timed_out(&one.upgrade(Write, BRIEFLY)));
}

#[test]
fn after_uncache_the_next_upgrade_asks() {
    let (engine, [node, _]) = counted();
    let user: User = user(&node);
    user.upgrade(Write, SOON).unwrap();
    user.downgrade(Read).unwrap();
    user.uncache().unwrap();
    assert_eq!((user.granted(), user.grantable()), (Read, Read));
    assert_eq!(user.holders().unwrap()[0].mode, tierlock::Mode::Shared);
    let (messages, ()) = engine.messages_of(|| user.upgrade(Write, SOON).unwrap());
    assert!(messages > 0);
    user.downgrade(NoLock).unwrap();
    user.uncache().unwrap();
    assert_eq!((user.granted(), user.grantable()), (NoLock, NoLock));
    assert!(user.holders().unwrap().is_empty());
    let (messages, ()) = engine.messages_of(|| user.upgrade(Read, SOON).unwrap());
    assert!(messages > 0);
}

#[test]
fn a_node_gives_everything_back_when_its_user_is_dropped() {
    let nodes = nodes::<2>("dropped");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    drop(one);
    two.upgrade(Write, SOON).unwrap();
    assert!(two.abandoned().is_none());
}

#[test]
fn incompatible_values_are_never_granted_to_two_nodes() {
    let nodes = nodes::<3>("load");
    let users: [User; 3] = users(&nodes);
    let (shared, last) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for user in &users {
            let (shared, last) = (&shared, &last);
            scope.spawn(move || {
                for round in 0..200 {
                    let before;
                    if round % 3 == 0 {
                        user.upgrade(Write, SOON).unwrap();
                        let token = user.token().unwrap();
                        before = shared.fetch_add(1, Ordering::SeqCst) + 1;
                        assert!(last.swap(token, Ordering::SeqCst) < token);
                    } else {
                        user.upgrade(Read, SOON).unwrap();
                        before = shared.load(Ordering::SeqCst);
                    }
                    thread::yield_now();
                    user.check().unwrap();
                    assert_eq!(shared.load(Ordering::SeqCst), before);
                    user.downgrade(NoLock).unwrap();
                }
            });
        }
    });
    assert_eq!(shared.into_inner(), 3 * 67);
}

#[test]
fn tasks_of_several_nodes_order_themselves_locally_and_their_nodes_globally() {
    let nodes = nodes::<2>("tasks");
    let users: [User; 2] = users(&nodes);
    let counter = AtomicU64::new(0);
    thread::scope(|scope| {
        for user in &users {
            let local = Arc::new(std::sync::Mutex::new(()));
            for _ in 0..3 {
                let (counter, local) = (&counter, Arc::clone(&local));
                scope.spawn(move || {
                    for _ in 0..60 {
                        let _turn = local.lock().unwrap();
                        if let Some(waiter) = user.upgrade_async(Write).unwrap().waiter() {
                            waiter.wait_lock(SOON).unwrap();
                            waiter.signal_handled();
                        }
                        let before = counter.load(Ordering::Relaxed);
                        thread::yield_now();
                        counter.store(before + 1, Ordering::Relaxed);
                        user.downgrade(NoLock).unwrap();
                    }
                });
            }
        }
    });
    assert_eq!(counter.into_inner(), 2 * 3 * 60);
}

#[test]
fn a_store_of_ones_own_driver_does_as_well() {
    let node = Coordinator::over(Arc::new(Memory::new())).join("alone").unwrap();
    let user: User = user(&node);
    user.upgrade(Write, None).unwrap();
}
