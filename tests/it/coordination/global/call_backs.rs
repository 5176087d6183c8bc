//! What the coordinator asks back, and what of it crosses what a node asks for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tierlock::coordination::global::{GlobalLockEvent, GlobalLockWaiter};
use tierlock::coordination::memory::{Call, Fate, Leg, Memory};

use super::*;

fn asked(user: &User, value: RwLockValue) -> GlobalLockWaiter<RwLockValue> {
    user.upgrade_async(value).unwrap().waiter().expect("it is not to be had")
}

/// What a subscriber heard.
#[derive(Default)]
struct Heard(Arc<Mutex<Vec<GlobalLockEvent<RwLockValue>>>>);

impl Heard {
    fn of(user: &User) -> Self {
        let heard = Self::default();
        let list = Arc::clone(&heard.0);
        user.subscribe(move |_, event| list.lock().unwrap().push(*event));
        heard
    }

    fn call_backs(&self) -> Vec<Option<RwLockValue>> {
        let heard = self.0.lock().unwrap();
        let to = |event: &GlobalLockEvent<RwLockValue>| match event {
            GlobalLockEvent::CalledBack(call_back) => Some(Some(call_back.to)),
            GlobalLockEvent::CallBackOver => Some(None),
            _ => None,
        };
        heard.iter().filter_map(to).collect()
    }
}

#[test]
fn a_call_back_lowers_what_is_grantable_at_once_so_that_new_requests_above_it_wait() {
    let nodes = nodes::<2>("at-once");
    let [one, two]: [User; 2] = users(&nodes);
    let heard = Heard::of(&one);
    one.upgrade(Write, SOON).unwrap();
    assert_eq!(one.called_back(), None);
    let theirs = asked(&two, Write);
    soon(|| one.called_back().is_some());
    let since = one.called_back().unwrap().since;
    assert_eq!(one.called_back().unwrap().to, NoLock);
    assert_eq!((one.granted(), one.grantable()), (Write, NoLock));
    let again = asked(&one, Read);
    assert!(!theirs.is_decided() && !again.is_decided());
    assert_eq!(one.called_back().unwrap().since, since);
    // The effective downgrade is what the coordinator hears.
    one.downgrade(Read).unwrap();
    assert!(!theirs.is_decided() && !again.is_decided());
    one.downgrade(NoLock).unwrap();
    theirs.wait_lock(SOON).unwrap();
    assert!(!again.is_decided());
    assert_eq!(one.called_back(), None);
    two.downgrade(NoLock).unwrap();
    again.wait_lock(SOON).unwrap();
    soon(|| heard.call_backs() == [Some(NoLock), None]);
}

#[test]
fn a_downgrade_to_what_is_called_back_for_tells_the_coordinator_before_it_returns() {
    let nodes = nodes::<2>("told");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let theirs = asked(&two, Read);
    soon(|| one.called_back().is_some_and(|called| called.to == Read));
    assert_eq!(one.grantable(), Read);
    one.downgrade(Read).unwrap();
    assert_eq!(one.holders().unwrap().len(), 2);
    theirs.wait_lock(SOON).unwrap();
    assert_eq!((one.granted(), one.grantable()), (Read, Read));
}

#[test]
fn an_idle_node_gives_up_its_cache_by_itself_and_keeps_what_fits() {
    let nodes = nodes::<2>("idle");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    one.downgrade(NoLock).unwrap();
    two.upgrade(Read, SOON).unwrap();
    assert_eq!(one.grantable(), Read);
    two.upgrade(Write, SOON).unwrap();
    assert_eq!(one.grantable(), NoLock);
}

#[test]
fn a_node_that_is_called_back_for_less_than_it_has_may_go_on_with_the_rest() {
    let nodes = nodes::<2>("rest");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let theirs = asked(&two, Read);
    soon(|| one.called_back().is_some());
    assert!(one.upgrade_async(Read).unwrap().waiter().is_none());
    one.downgrade(Read).unwrap();
    theirs.wait_lock(SOON).unwrap();
}

#[test]
fn a_node_that_keeps_what_it_has_goes_before_one_that_called_it_back() {
    let nodes = nodes::<2>("keeper");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    one.downgrade(Read).unwrap();
    let theirs = asked(&two, Write);
    soon(|| one.called_back().is_some());
    let fresh = asked(&one, Write);
    one.upgrade(Upgrade, None).unwrap();
    assert!(!theirs.is_decided() && !fresh.is_decided());
    one.downgrade(NoLock).unwrap();
    theirs.wait_lock(SOON).unwrap();
    two.downgrade(NoLock).unwrap();
    fresh.wait_lock(SOON).unwrap();
}

#[test]
fn an_upgrade_is_not_a_deadlock_since_a_node_that_holds_nothing_waits() {
    let nodes = nodes::<3>("anew");
    let [one, two, three]: [User; 3] = users(&nodes);
    one.upgrade(Read, SOON).unwrap();
    three.upgrade(Read, SOON).unwrap();
    let theirs = asked(&two, Write);
    soon(|| one.called_back().is_some());
    let upgrade = asked(&one, Upgrade);
    // Stands in line in the record, and not before.
    assert!(is_timed_out(&upgrade.wait_lock(BRIEFLY)) && !theirs.is_decided());
    three.downgrade(NoLock).unwrap();
    upgrade.wait_lock(SOON).unwrap();
    assert!(!theirs.is_decided());
    one.downgrade(NoLock).unwrap();
    theirs.wait_lock(SOON).unwrap();
}

#[test]
fn when_nobody_wants_it_any_more_a_call_back_is_over_and_those_who_waited_go() {
    let nodes = nodes::<2>("over");
    let [one, two]: [User; 2] = users(&nodes);
    let heard = Heard::of(&one);
    one.upgrade(Write, SOON).unwrap();
    let theirs = asked(&two, Write);
    soon(|| one.called_back().is_some());
    let again = asked(&one, Write);
    drop(theirs);
    again.wait_lock(SOON).unwrap();
    assert_eq!((one.called_back(), one.grantable()), (None, Write));
    soon(|| heard.call_backs() == [Some(NoLock), None]);
}

#[test]
fn a_subscriber_may_downgrade_and_keeps_nothing_from_being_given_back() {
    let nodes = nodes::<2>("subscriber");
    let [one, two]: [User; 2] = users(&nodes);
    one.subscribe(|user, event| {
        if let GlobalLockEvent::CalledBack(call_back) = event {
            user.downgrade(call_back.to).unwrap();
        }
    });
    one.upgrade(Write, SOON).unwrap();
    two.upgrade(Write, SOON).unwrap();
    assert_eq!(one.granted(), NoLock);
    two.downgrade(NoLock).unwrap();
    one.upgrade(Write, SOON).unwrap();
    drop(one);
    soon(|| two.holders().unwrap().is_empty());
}

#[test]
fn a_subscriber_that_panics_keeps_nobody_from_hearing_and_the_resource_goes_on() {
    let nodes = nodes::<2>("panics");
    let [one, two]: [User; 2] = users(&nodes);
    one.subscribe(|_, event| panic!("{event:?}"));
    let heard = Heard::of(&one);
    one.upgrade(Write, SOON).unwrap();
    let theirs = asked(&two, Write);
    soon(|| heard.call_backs() == [Some(NoLock)]);
    let downgrade = thread::spawn(move || one.downgrade(NoLock).map(|()| one));
    soon(|| downgrade.is_finished());
    let one = downgrade.join().unwrap().unwrap();
    theirs.wait_lock(SOON).unwrap();
    two.downgrade(NoLock).unwrap();
    one.upgrade(Write, SOON).unwrap();
}

#[test]
fn a_node_with_a_slow_task_is_seen_to_be_called_back_since_when() {
    let nodes = nodes::<2>("slow");
    let [one, two]: [User; 2] = users(&nodes);
    let before = now();
    one.upgrade(Write, SOON).unwrap();
    assert!(is_timed_out(&two.upgrade(Write, BRIEFLY)));
    let theirs = asked(&two, Write);
    soon(|| one.called_back().is_some());
    assert!(one.called_back().unwrap().since >= before);
    assert!(format!("{one:?}").contains("called_back: Some"), "{one:?}");
    let waiters = two.waiters().unwrap();
    assert_eq!((&waiters[0].member, waiters.len()), (nodes[1].member(), 1));
    drop(theirs);
}

#[test]
fn tasks_of_a_node_that_follow_one_another_do_not_keep_out_another_node() {
    let nodes = nodes::<2>("follow");
    let [one, two]: [User; 2] = users(&nodes);
    one.upgrade(Write, SOON).unwrap();
    let theirs = asked(&two, Write);
    soon(|| one.called_back().is_some());
    // The next task asks before the last gave up.
    let next = asked(&one, Write);
    one.downgrade(NoLock).unwrap();
    theirs.wait_lock(SOON).unwrap();
    assert!(!next.is_decided());
    two.downgrade(NoLock).unwrap();
    next.wait_lock(SOON).unwrap();
}

/// The node `who` has what happens in `between` happen while its next swap is on its way.
fn crossing(store: &str, between: impl Fn(&User) + Send + Sync + 'static) -> (User, User) {
    let (memory, world) = Memory::simulated(7);
    let memory = Arc::new(memory);
    let [one, two] = ["one", "two"].map(|name| {
        let connect = Coordinator::over(memory.clone()).min_hold(Duration::ZERO);
        connect.join(&format!("{store}-{name}")).unwrap()
    });
    let (ours, theirs): (User, User) = (user(&one), user(&two));
    ours.upgrade(Read, SOON).unwrap();
    let (me, other, once) = (one.member().clone(), theirs.clone(), AtomicBool::new(true));
    world.interpose(move |call, leg| {
        let mine = matches!(call, Call::Swap { by, .. } if *by == me) && leg == Leg::There;
        if mine && once.swap(false, Ordering::SeqCst) {
            between(&other);
        }
        Fate::Arrives
    });
    (ours, theirs)
}

#[test]
fn a_call_back_that_crosses_an_upgrade_of_what_keeps_comes_after_it() {
    let (ours, theirs) = crossing("keeps", |other| {
        // Withdrawn when it is dropped, but it was there.
        std::mem::forget(other.upgrade_async(Write).unwrap().waiter());
    });
    ours.upgrade(Upgrade, None).unwrap();
    assert_eq!((ours.granted(), theirs.granted()), (Upgrade, NoLock));
    soon(|| ours.called_back().is_some());
    assert_eq!((ours.called_back().unwrap().to, ours.grantable()), (NoLock, NoLock));
    ours.downgrade(NoLock).unwrap();
    soon(|| theirs.holders().unwrap().len() == 1 && ours.grantable() == NoLock);
}

#[test]
fn an_upgrade_that_crosses_one_of_another_node_is_found_to_deadlock() {
    let (ours, theirs) = crossing("deadlock", |other| {
        other.upgrade(Read, None).unwrap();
        std::mem::forget(other.upgrade_async(Upgrade).unwrap().waiter());
    });
    let refused = ours.upgrade(Upgrade, SOON);
    assert!(is_deadlock(&refused), "{refused:?}");
    assert_eq!((ours.granted(), theirs.requested()), (Read, Some(Upgrade)));
}

#[test]
fn a_grant_that_crosses_a_withdrawal_is_given_back() {
    let nodes = nodes::<2>("crossed-withdrawal");
    let [one, two]: [User; 2] = users(&nodes);
    for _ in 0..200 {
        one.upgrade(Write, SOON).unwrap();
        let theirs = asked(&two, Write);
        thread::scope(|scope| {
            scope.spawn(|| one.downgrade(NoLock).unwrap());
            drop(theirs);
        });
        assert_eq!(two.granted(), NoLock);
    }
    one.upgrade(Write, SOON).unwrap();
}
